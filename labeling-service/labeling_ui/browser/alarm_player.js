// The clip of an alarm, loaded before it is looked at: whom it is about is outlined, everybody's joints can be drawn.

const OUTLINE = "#ffd54a";
const OTHERS = "#9aa7bd";
const FINE = 960; // pixels across that lines are drawn with at least

class AlarmPlayer extends Player {
  constructor(desk, row) {
    super(Object.create(desk.settings));
    this.desk = desk;
    this.visible = true;
    this.words = desk.data.words;
    this.skeletonUrl = row.about;
    // the time of the frame that is seen: currentTime runs ahead of it
    const seen = (_, { mediaTime }) => { this.time = mediaTime; this.video.requestVideoFrameCallback(seen); };
    this.video.requestVideoFrameCallback?.(seen);
    this.open(row);
  }

  get drawn() { return true; }

  // Get the record: its boxes, joints and curve, and where its clip is.
  async open(row) {
    this.row = row;
    this.fetching = true;
    let status = 503;
    try {
      const answer = await fetch(row.about);
      status = answer.status;
      if (answer.ok) this.about = await answer.json();
    } catch { /* no connection: as a store that is away */ }
    this.fetching = false;
    if (this.left) return;
    if (status === 200) { this.use(); this.desk.opened(this); return; }
    this.gone = status === 404;
    this.bones = this.gone ? "missing" : "away";
    this.become(this.bones, this.words.alarm_gone);
    this.desk.opened(this, status === 403);
  }

  // Play what there is: the masked clip, the one as it was recorded where somebody asked for it, or only skeletons.
  use() {
    const { about } = this;
    const url = this.unmasked || about.url;
    this.skeleton = about;
    this.bones = about.frames.some((people) => people.length) ? "shown" : "missing";
    if (!url && !about.away) this.settings.view = "skeleton";
    this.box.style.setProperty("--ratio", `${about.w} / ${about.h}`);
    this.show({ url, skeleton: this.row.about, fps: about.fps, away: about.away }, this.words);
    if (!url && !about.away) this.note.textContent = this.bones === "missing" ? this.words.alarm_empty : "";
  }

  load() { return this.open(this.row); }

  // From now on the clip as it was recorded; "": the masked one again.
  unmask(url) {
    this.unmasked = url;
    if (url) delete this.settings.view; // of a record without a masked clip
    if (this.about) this.use();
  }

  // The address of the clip may have expired: the record tells the new one.
  failed() {
    if (this.unmasked) {
      this.desk.notices.show(this.words.clip_missing, { kind: "bad" });
      this.unmask("");
      this.desk.show();
      return;
    }
    if (this.reopened) { super.failed(); return; }
    this.reopened = true;
    this.loaded = null;
    this.open(this.row);
  }

  unload() {
    this.left = true; // what is still on its way is not played
    this.visible = false;
    super.unload();
  }

  // The frame that is seen.
  frame(now) {
    const { fps, times } = this.about;
    const seconds = this.settings.view === "skeleton" ? this.clock(now) % (times.length / fps || 1) : this.time ?? this.video.currentTime;
    return Math.min(times.length - 1, Math.max(0, Math.floor(seconds * fps + 0.01)));
  }

  draw(now) {
    if (!this.about?.times.length) return;
    const { w, h, frames, boxes, about, limbs } = this.about;
    const { canvas } = this;
    const fine = Math.max(1, Math.ceil(FINE / w));
    if (canvas.width !== w * fine || canvas.height !== h * fine) { canvas.width = w * fine; canvas.height = h * fine; }
    const at = this.frame(now);
    const pen = canvas.getContext("2d");
    pen.setTransform(fine, 0, 0, fine, 0, 0);
    pen.clearRect(0, 0, w, h);
    if (this.settings.overlay || this.settings.view === "skeleton") this.people(pen, frames[at] || [], w, limbs ? LIMBS : []);
    const others = (boxes[at] || []).filter(([id]) => about.length && !about.includes(id));
    const mine = (boxes[at] || []).filter((box) => !others.includes(box));
    for (const [some, colour, width] of [[others, OTHERS, w / 400], [mine, OUTLINE, w / 200]]) {
      pen.lineWidth = width;
      pen.strokeStyle = pen.fillStyle = colour;
      pen.font = `600 ${Math.round(w / 28)}px sans-serif`;
      for (const [id, left, top, right, bottom] of some) {
        pen.strokeRect(left, top, right - left, bottom - top);
        if (some === mine) pen.fillText(`#${id}`, left + 2, top > w / 22 ? top - 4 : bottom - 5);
      }
    }
  }
}
