// Looping previews: loaded when they come into view, paused when they leave it; with skeletons as overlay or alone.

const LIMBS = [[0, 1], [0, 2], [1, 3], [2, 4], [5, 6], [5, 7], [7, 9], [6, 8], [8, 10], [5, 11], [6, 12], [11, 12],
  [11, 13], [13, 15], [12, 14], [14, 16]];
const PEOPLE = ["#2ecc71", "#ff9f1c", "#3498db", "#e74ca0", "#f1dd3c", "#9b59e8"];

const ADDRESS_MS = 55 * 60000; // addresses are valid for an hour; another origin does not tell that one has expired

const sameObject = (a, b) => (a || "").split("?")[0] === (b || "").split("?")[0];

class Player {
  constructor(settings) {
    this.settings = settings; // shared by all players: {speed, overlay, view, paused}
    this.box = document.createElement("div");
    this.box.className = "screen";
    this.video = document.createElement("video");
    Object.assign(this.video, { muted: true, loop: true, playsInline: true, preload: "none", disablePictureInPicture: true });
    this.video.setAttribute("muted", "");
    this.canvas = document.createElement("canvas");
    this.note = document.createElement("span");
    this.note.className = "note";
    this.box.append(this.video, this.canvas, this.note);
    this.visible = false;
    this.waits = null; // () => whether other clips load first
    this.renew = null; // () => asks for new addresses
    this.held = undefined; // stopped (true) or started (false) by hand; undefined: as all clips
    this.retried = 0;
    this.born = performance.now();
    this.state = "loading"; // of the video: loading, shown, missing, or away: its store gives no answer
    this.bones = "loading"; // of the skeleton, likewise
    this.video.addEventListener("error", () => this.failed());
    this.video.addEventListener("loadeddata", () => { this.retried = 0; this.become("shown"); });
  }

  // A new presigned URL of the same object does not restart the clip; it is used when the old one has expired.
  show(card, words) {
    this.words = words;
    if (this.latest !== card.url) this.since = Date.now();
    this.latest = card.url;
    this.fps = card.fps;
    if (!sameObject(this.skeletonUrl, card.skeleton)) { this.skeleton = null; this.bones = card.skeleton ? "loading" : "missing"; }
    this.skeletonUrl = card.skeleton;
    if (this.loaded && !sameObject(this.loaded, card.url)) { this.loaded = null; this.video.removeAttribute("src"); this.state = "loading"; }
    if (card.url && this.loaded && this.expired === this.loaded && card.url !== this.loaded) { this.loaded = null; this.become("loading"); }
    if (!card.url && !this.loaded) this.become(card.away ? "away" : "missing");
    this.refresh();
  }

  // What of the clip can be seen now: loading, shown, missing or away.
  get seeable() { return this.settings.view === "skeleton" ? this.bones : this.state; }

  become(state, text = this.words.clip_missing) {
    this.state = state;
    this.note.textContent = state === "missing" ? text : "";
  }

  failed() {
    if (this.latest && this.loaded !== this.latest && this.retried < 2) { // the URL has expired: use the new one
      this.retried += 1;
      this.loaded = null;
      this.refresh();
    } else if (this.loaded) this.probe(this.loaded);
  }

  // Tells a clip that is missing or broken from a store that is down. Another origin tells only whether it answers.
  async probe(url) {
    let state = "missing";
    let found = true;
    let refused = Date.now() - this.since > ADDRESS_MS;
    try {
      const answer = await fetch(url, { mode: "no-cors", headers: { Range: "bytes=0-0" } });
      if (answer.status >= 500) state = "away";
      refused ||= answer.status === 403;
      found = answer.ok || answer.type === "opaque";
      answer.body?.cancel();
    } catch { state = "away"; }
    const tell = () => { if (url === this.loaded) this.become(state, found ? this.words.clip_broken : this.words.clip_missing); };
    if (state === "missing" && refused && this.renew && this.expired !== url) {
      this.expired = url; // the page was open for long: the clip need not be missing
      this.renew();
      setTimeout(tell, 10000);
    } else tell();
  }

  // Try a store again that gave no answer.
  again() {
    if (this.state === "away" && this.latest) { this.loaded = null; this.retried = 0; }
    if (this.bones === "away") this.bones = "loading";
    this.refresh();
  }

  refresh() {
    const s = this.settings;
    const wanted = this.visible && this.latest && s.view !== "skeleton" && !this.waits?.();
    if (wanted && !this.loaded) {
      this.loaded = this.latest;
      this.video.preload = "auto";
      this.video.src = this.latest;
    }
    this.video.playbackRate = s.speed;
    this.video.defaultPlaybackRate = s.speed;
    if (wanted && this.running) this.video.play().catch(() => {});
    else this.video.pause();
    if (this.visible && this.drawn && this.bones === "loading" && this.skeletonUrl && !this.fetching) this.load();
    this.canvas.hidden = !this.drawn;
  }

  get drawn() { return this.settings.overlay || this.settings.view === "skeleton"; }

  async load() {
    this.fetching = true;
    const url = this.skeletonUrl;
    try {
      const answer = await fetch(url);
      if (answer.ok) this.skeleton = await answer.json();
      const expired = answer.status === 403 && this.renew && this.expiredBones !== url;
      this.bones = answer.ok ? "shown" : answer.status >= 500 ? "away" : expired ? "loading" : "missing";
      if (expired) { this.expiredBones = url; this.renew(); }
    } catch { this.bones = "away"; }
    this.fetching = false;
  }

  draw(now) {
    if (!this.visible || !this.drawn || !this.skeleton) return;
    const { w, h, fps, frames } = this.skeleton;
    const { canvas } = this;
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
    if (this.settings.view !== "skeleton" && this.video.videoWidth) canvas.style.aspectRatio = `${w} / ${h}`;
    const frame = frames[Math.floor(this.clock(now) * fps) % frames.length] || [];
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, w, h);
    this.people(pen, frame, w);
  }

  // Seconds of the clip that are seen: of the video, or of the skeletons, which run by themselves.
  clock(now) {
    if (this.settings.view !== "skeleton") return this.video.currentTime;
    this.stopped = this.at ?? (!this.running ? this.stopped || 0 : ((now - this.born) / 1000) * this.settings.speed);
    return this.stopped;
  }

  // The joints of everybody in a frame, with the limbs between them.
  people(pen, frame, w, limbs = LIMBS) {
    pen.lineWidth = Math.max(1.5, w / 160);
    frame.forEach((joints, person) => {
      pen.strokeStyle = pen.fillStyle = PEOPLE[person % PEOPLE.length];
      for (const [a, b] of limbs) {
        if (joints[3 * a + 2] < 10 || joints[3 * b + 2] < 10) continue;
        pen.beginPath();
        pen.moveTo(joints[3 * a], joints[3 * a + 1]);
        pen.lineTo(joints[3 * b], joints[3 * b + 1]);
        pen.stroke();
      }
      for (let j = 0; j < joints.length; j += 3) {
        if (joints[j + 2] >= 10) pen.fillRect(joints[j] - 2, joints[j + 1] - 2, 4, 4);
      }
    });
  }

  get running() { return this.held === undefined ? !this.settings.paused : !this.held; }

  toggle() { this.held = this.running; this.at = undefined; this.refresh(); }

  // Stop, and go some frames on or back.
  frames(count) {
    this.held = true;
    this.refresh();
    const { video } = this;
    const by = count / (this.fps || 10);
    if (this.settings.view === "skeleton") this.at = Math.max(0, (this.at ?? this.stopped ?? 0) + by);
    else video.currentTime = Math.min((video.duration || Infinity) - by / 2, Math.max(0, video.currentTime + by));
  }

  unload() { this.video.pause(); this.video.removeAttribute("src"); this.video.load(); }
}
