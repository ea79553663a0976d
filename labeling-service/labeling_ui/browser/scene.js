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
    outlined(pen, [Math.min(...xs) - room, Math.min(...ys) - room, Math.max(...xs) + room, Math.max(...ys) + room], card.person);
  }
}

// A person's box (left, top, right, bottom) with the number.
const outlined = (pen, box, person, colour = "#ffd54a") => {
  const { width: w, height: h } = pen.canvas;
  const [left, top] = [Math.max(1, box[0]), Math.max(1, box[1])];
  const [right, bottom] = [Math.min(w - 1, box[2]), Math.min(h - 1, box[3])];
  pen.lineWidth = Math.max(1.5, w / 200);
  pen.strokeStyle = pen.fillStyle = colour;
  pen.strokeRect(left, top, right - left, bottom - top);
  pen.font = `600 ${Math.round(w / 22)}px sans-serif`;
  pen.fillText(`#${person}`, left + 2, top > w / 18 ? top - 3 : bottom - 4);
};

// The scene as one video, where the clips are crops, or the raw one: a stretch of it, with everybody's box.
class Around {
  constructor(grid, card, around) {
    this.around = around;
    this.person = card.person;
    this.box = create("div", "scene whole");
    this.box.style.aspectRatio = `${around.w} / ${around.h}`;
    this.player = new Player(Object.assign(Object.create(grid.settings), { paused: false, overlay: false }));
    this.player.visible = true;
    this.canvas = Object.assign(create("canvas", "outline"), { width: around.w, height: around.h });
    this.box.append(this.player.box, this.canvas);
    const { video } = this.player;
    const seen = (_, { mediaTime }) => { this.time = mediaTime; video.requestVideoFrameCallback(seen); };
    video.requestVideoFrameCallback?.(seen);
    this.player.show({ ...card, url: around.url, away: around.away, skeleton: null }, grid.data.words);
  }

  refresh() { this.player.refresh(); }

  unload() { this.player.unload(); }

  draw(now) {
    const { video, settings } = this.player;
    const { begin, seconds, fps, people, w, h } = this.around;
    const bones = settings.view === "skeleton"; // no video is loaded: the boxes move alone
    const outside = video.currentTime < begin - 0.05 || video.currentTime > begin + seconds - 0.5 / fps;
    if (!bones && video.readyState && !video.seeking && outside) video.currentTime = begin + 0.001;
    const at = bones ? ((now / 1000) * settings.speed) % seconds : (this.time ?? video.currentTime) - begin;
    const frame = Math.min(Math.max(0, Math.floor(at * fps + 0.01)), Math.round(seconds * fps) - 1);
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, w, h);
    for (const { person, boxes } of people) {
      if (boxes[frame] && person !== this.person) outlined(pen, boxes[frame], person, "#9aa4b2");
    }
    const own = people.find(({ person }) => person === this.person)?.boxes[frame];
    if (own) outlined(pen, own, this.person);
  }
}
