// One clip in the strip of a timeline: its place in time, its label and score. It stands for a card in the grid's eyes.

class SegmentView {
  constructor(grid, id) {
    this.grid = grid;
    this.id = id;
    this.root = create("article", "segment");
    this.root.dataset.clip = id;
    this.root.tabIndex = -1;
    this.bar = create("span", "score");
    this.root.append(this.bar);
    this.choice = { select: {} };
    this.root.addEventListener("click", () => grid.focus(this));
    this.root.addEventListener("focusin", () => { if (grid.focusId !== id) grid.focus(this, { dom: false }); });
    this.player = new SegmentPlayer(this);
  }

  show(card, data) {
    this.card = card;
    const pending = this.grid.outbox.pending(this.id);
    this.label = pending === undefined ? card.label : pending;
    const shown = this.label || card.suggestion;
    this.root.classList.toggle("model", !this.label && Boolean(card.suggestion));
    this.root.classList.toggle("waiting", pending !== undefined);
    this.root.classList.toggle("none", !shown);
    this.root.style.setProperty("--mark", this.grid.colour(shown));
    this.bar.style.height = `${Math.round(100 * (card.confidence ?? 0))}%`;
    const score = card.suggestion ? `${data.words.suggested} ${this.grid.name(card.suggestion)} ${Math.round(100 * card.confidence)} %` : "";
    this.about = [card.person ? `#${card.person}` : "", interval(card), this.label ? this.grid.name(this.label) : data.words.no_label, score].filter(Boolean).join(" · ");
    this.root.setAttribute("aria-label", this.about);
    this.root.title = this.about;
    if (this.player.here?.expired) this.player.here.show(card, data.words);
  }

  look() {}

  remove() { this.root.remove(); }
}

// The timeline's player as one clip sees it: only the clip at the playhead is loaded.
class SegmentPlayer {
  constructor(view) {
    this.view = view;
    this.visible = false;
  }

  get timeline() { return this.view.grid.timeline; }

  get here() { return this.timeline.current === this.view ? this.timeline.player : undefined; }

  get seeable() { return this.here?.seeable ?? (this.view.card.away ? "away" : this.view.card.url ? "loading" : "missing"); }

  draw() {}

  refresh() { this.here?.refresh(); }

  again() { this.here?.again(); }

  toggle() { this.timeline.toggle(); }

  frames(count) { this.timeline.frames(count); }

  set held(value) { this.timeline.held = value; if (this.here) this.here.held = value; }

  unload() {}
}
