// Looking after people who look at hard footage: what is shown, how sharply, and when to stop for a while.

const DEFAULTS = { speed: 1, overlay: false, size: 200, view: "masked", blur: false, grey: false, pause_min: 25 };

class Settings {
  constructor(who, welfare) {
    this.name = `posewatch settings ${who}`;
    Object.assign(this, DEFAULTS, welfare ? { blur: true, grey: true } : {});
    try { Object.assign(this, JSON.parse(localStorage.getItem(this.name)) || {}); } catch { /* the defaults */ }
    this.paused = false;
  }

  set(changes) {
    Object.assign(this, changes);
    const { speed, overlay, size, view, blur, grey, pause_min } = this;
    try { localStorage.setItem(this.name, JSON.stringify({ speed, overlay, size, view, blur, grey, pause_min })); } catch { /* kept for now */ }
  }
}

// Counts the time at work; ten minutes without an act are a pause.
class Breaks {
  constructor(who) {
    this.name = `posewatch work ${who}`;
    try { this.told = JSON.parse(localStorage.getItem(this.name)) || {}; } catch { this.told = {}; }
  }

  act(now = Date.now()) {
    if (!this.told.last || now - this.told.last > 600000) this.told.since = now;
    this.told.last = now;
    this.keep();
  }

  due(minutes, now = Date.now()) {
    return minutes > 0 && this.told.since && now - this.told.since > minutes * 60000 && now - this.told.last < 600000;
  }

  rested() { this.told = {}; this.keep(); }

  keep() { try { localStorage.setItem(this.name, JSON.stringify(this.told)); } catch { /* kept for now */ } }
}
