// Protection of people who watch disturbing footage: what is shown, how sharply, and reminders to take a break.

const DEFAULTS = { speed: 1, overlay: false, size: 200, view: "masked", blur: false, grey: false, pause_min: 25, told: false };

class Settings {
  constructor(who, welfare) {
    this.name = `posewatch settings ${who}`;
    Object.assign(this, DEFAULTS, welfare ? { blur: true, grey: true } : {});
    try { Object.assign(this, JSON.parse(localStorage.getItem(this.name)) || {}); } catch { /* keep the defaults */ }
    this.paused = matchMedia("(prefers-reduced-motion: reduce)").matches; // nothing moves by itself then
  }

  set(changes) {
    Object.assign(this, changes);
    const { speed, overlay, size, view, blur, grey, pause_min, told } = this;
    try { localStorage.setItem(this.name, JSON.stringify({ speed, overlay, size, view, blur, grey, pause_min, told })); } catch { /* kept until the page closes */ }
  }
}

// Measures the time at work; ten minutes without an act are a pause.
class Breaks {
  constructor(who) {
    this.name = `posewatch work ${who}`;
    try { this.work = JSON.parse(localStorage.getItem(this.name)) || {}; } catch { this.work = {}; }
  }

  act(now = Date.now()) {
    if (!this.work.last || now - this.work.last > 600000) this.work.since = now;
    this.work.last = now;
    this.store();
  }

  due(minutes, now = Date.now()) {
    return minutes > 0 && this.work.since && now - this.work.since > minutes * 60000 && now - this.work.last < 600000;
  }

  // Reminded, but not now: again in five minutes.
  later(minutes, now = Date.now()) { this.work.since = now - (minutes - 5) * 60000; this.store(); }

  rested() { this.work = {}; this.store(); }

  store() { try { localStorage.setItem(this.name, JSON.stringify(this.work)); } catch { /* kept until the page closes */ } }
}
