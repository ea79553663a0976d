// Acts on their way to the server. Each has an id, so it can be sent again after a lost connection without being
// executed twice. It leaves the outbox when the server has answered it. Every tab has an outbox of its own in the
// browser's storage; what a closed tab left unsent is taken over by another tab of the same person.

const RESEND_MS = 6000;
const LATE_MS = 4000;
const ASK_MS = 500;

class Outbox {
  // One per person and tab, shared by the grids of all views.
  static of(who) {
    const known = document.posewatchOutboxes ||= new Map();
    if (!known.has(who)) known.set(who, new Outbox(who));
    return known.get(who);
  }

  constructor(who) {
    this.prefix = `posewatch outbox ${who} `;
    this.key = this.prefix + Outbox.id();
    this.acts = [];
    this.kept = true; // whether the acts survive this tab
    this.sent = 0;
    this.number = 0;
    this.alive = new Set();
    if (typeof BroadcastChannel === "function") {
      this.channel = new BroadcastChannel(this.prefix);
      this.channel.onmessage = ({ data }) => { if (data.ask) this.channel.postMessage({ alive: this.key }); else this.alive.add(data.alive); };
    }
    addEventListener("beforeunload", (event) => { if (this.labels.length) event.preventDefault(); });
  }

  static id() { return crypto.randomUUID ? crypto.randomUUID() : `${Date.now()}-${Math.random()}`; }

  // The acts that label; the others only change what is shown.
  get labels() { return this.acts.filter((act) => LABEL_KINDS.includes(act.kind)); }

  add(act) {
    const whole = { id: Outbox.id(), at: Date.now(), ...act };
    this.acts.push(whole);
    this.store();
    this.send();
    return whole;
  }

  store() {
    try {
      if (this.labels.length) localStorage.setItem(this.key, JSON.stringify(this.labels));
      else localStorage.removeItem(this.key);
      this.kept = true;
    } catch { this.kept = false; } // no storage, or no room in it
  }

  // [key, acts] of all tabs of this person.
  stored() {
    try {
      return Object.keys(localStorage).filter((key) => key.startsWith(this.prefix)).map((key) => [key, Outbox.parsed(localStorage.getItem(key))]);
    } catch { return []; }
  }

  static parsed(text) { try { const acts = JSON.parse(text); return Array.isArray(acts) ? acts.filter((act) => act?.id) : []; } catch { return []; } }

  send() {
    if (!this.acts.length || !this.post) return;
    this.sent = performance.now();
    this.number += 1;
    this.post({ acts: this.acts, number: this.number });
  }

  // An act without an answer after a while was lost on the way.
  tick() { if (this.acts.length && performance.now() - this.sent > RESEND_MS) this.send(); }

  get late() { return this.labels.some((act) => Date.now() - act.at > LATE_MS); }

  // What other tabs have not sent yet.
  get elsewhere() { return this.stored().filter(([key]) => key !== this.key).reduce((sum, [, acts]) => sum + acts.length, 0); }

  // Take over the acts of tabs that are gone; resolves to these acts. A tab that lives answers when it is asked.
  async adopt() {
    if (this.adopting || !this.elsewhere) return [];
    this.adopting = true;
    this.alive.clear();
    this.channel?.postMessage({ ask: true });
    await new Promise((resolve) => setTimeout(resolve, ASK_MS));
    const taken = [];
    for (const [key, acts] of this.stored()) {
      if (key === this.key || this.alive.has(key)) continue;
      localStorage.removeItem(key);
      taken.push(...acts);
    }
    this.adopting = false;
    if (taken.length) {
      this.acts.unshift(...taken.sort((a, b) => a.at - b.at));
      this.store();
      this.send();
    }
    return taken;
  }

  done(ids) {
    const answered = new Set(ids);
    const before = this.acts.length;
    this.acts = this.acts.filter((act) => !answered.has(act.id));
    if (before !== this.acts.length) this.store();
  }

  // A clip's label once all acts are saved; undefined when no act concerns it.
  pending(clip) {
    return this.acts.findLast((act) => act.effects && clip in act.effects)?.effects[clip];
  }
}
