// Acts on their way to the server. Each has an id, so it can be sent again after a lost connection, a reload or a
// crash of the page without being executed twice. It leaves the outbox when the server has answered it.

const RESEND_MS = 6000;

class Outbox {
  constructor(who) {
    this.name = `posewatch outbox ${who}`;
    this.acts = [];
    try { this.acts = JSON.parse(sessionStorage.getItem(this.name)) || []; } catch { /* empty */ }
    this.sent = 0;
    this.number = 0;
  }

  add(act) {
    this.acts.push({ id: crypto.randomUUID ? crypto.randomUUID() : `${Date.now()}-${Math.random()}`, ...act });
    this.store();
    this.send();
  }

  store() {
    try { sessionStorage.setItem(this.name, JSON.stringify(this.acts)); } catch { /* private mode */ }
  }

  send() {
    if (!this.acts.length || !this.post) return;
    this.sent = performance.now();
    this.number += 1;
    this.post({ acts: this.acts, number: this.number });
  }

  // An act without an answer after a while was lost on the way.
  tick() {
    if (this.acts.length && performance.now() - this.sent > RESEND_MS) this.send();
  }

  done(ids) {
    const answered = new Set(ids);
    const before = this.acts.length;
    this.acts = this.acts.filter((act) => !answered.has(act.id));
    if (before !== this.acts.length) this.store();
  }

  // A clip's label once all acts are saved; undefined when no act concerns it.
  pending(clip, shown) {
    let label;
    for (const act of this.acts) {
      if ((act.kind === "label" || act.kind === "adjudicate") && act.clip === clip) label = act.label;
      if (act.kind === "rest" && act.clips.includes(clip) && !shown && label === undefined) label = act.label;
    }
    return label;
  }
}
