// Everybody at one moment in one picture, with the person of one clip outlined. Each clip shows one person on black, so
// the clips lie over each other and the lightest of them is seen.

const DRIFT_S = 0.15;

class Scene {
  constructor(grid, cards, id) {
    this.box = create("div", "scene");
    this.players = cards.map((card) => {
      const player = new Player(Object.assign(Object.create(grid.settings), { paused: false, overlay: false }));
      player.visible = true;
      player.box.classList.toggle("other", card.id !== id);
      this.box.append(player.box);
      player.show(card, grid.data.words);
      return { player, card };
    });
    this.main = this.players.find(({ card }) => card.id === id);
    this.canvas = create("canvas", "outline");
    this.box.append(this.canvas);
    // the time of the frame that is seen: currentTime runs ahead of it
    const { video } = this.main.player;
    const seen = (_, { mediaTime }) => { this.time = mediaTime; video.requestVideoFrameCallback(seen); };
    video.requestVideoFrameCallback?.(seen);
  }

  refresh() { for (const { player } of this.players) player.refresh(); }

  unload() { for (const { player } of this.players) player.unload(); }

  draw(now) {
    const { player: main, card } = this.main;
    const at = card.start + main.video.currentTime;
    for (const { player, card: other } of this.players) {
      player.draw(now);
      if (player === main || player.settings.view === "skeleton") continue;
      const time = at - other.start; // of the same moment in the other clip
      player.box.classList.toggle("gone", time < 0 || other.start + time > other.end);
      if (Math.abs(player.video.currentTime - time) > DRIFT_S && !player.video.seeking && player.video.readyState > 1) player.video.currentTime = Math.max(0, time);
    }
    if (main.bones === "loading" && main.skeletonUrl && !main.fetching) main.load();
    if (main.skeleton) this.outline(main, card);
  }

  outline(main, card) {
    const { w, h, fps, frames } = main.skeleton;
    const { canvas } = this;
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, w, h);
    const clock = main.settings.view === "skeleton" ? main.stopped || 0 : (this.time ?? main.video.currentTime);
    const joints = (frames[Math.floor(clock * fps + 0.01) % frames.length] || []).flat();
    const seen = (axis) => joints.filter((_, i) => i % 3 === axis && joints[i - axis + 2] >= 10);
    const [xs, ys] = [seen(0), seen(1)];
    if (!xs.length) return;
    const room = 0.12 * Math.max(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys)) + 3;
    const [left, top] = [Math.max(1, Math.min(...xs) - room), Math.max(1, Math.min(...ys) - room)];
    const [right, bottom] = [Math.min(w - 1, Math.max(...xs) + room), Math.min(h - 1, Math.max(...ys) + room)];
    pen.lineWidth = Math.max(1.5, w / 200);
    pen.strokeStyle = "#ffd54a";
    pen.strokeRect(left, top, right - left, bottom - top);
    pen.font = `600 ${Math.round(w / 22)}px sans-serif`;
    pen.fillStyle = "#ffd54a";
    pen.fillText(`#${card.person}`, left + 2, top > w / 18 ? top - 3 : bottom - 4);
  }
}
