// A clip in full size, frame by frame, and beside it the clips that look alike: label it, or all of them as one act.

class Closer {
  constructor(grid) { this.grid = grid; }

  open(view) {
    if (!view) return;
    const { grid } = this;
    const { words } = grid.data;
    this.id = view.id;
    this.card = view.card;
    this.similar = undefined;
    this.player = new Player(Object.create(grid.settings));
    this.player.visible = true;
    this.player.show(view.card, words);
    this.player.box.tabIndex = 0;
    this.player.box.setAttribute("role", "group");
    this.player.box.setAttribute("aria-label", words.closer);
    this.player.box.addEventListener("click", () => this.player.toggle());
    this.about = create("p", "how");
    this.row = create("div", "brushes");
    this.alike = create("div", "alike");
    this.alike.append(create("p", "group-title", words.similar_wait));
    this.tell();
    const closed = () => { this.player.unload(); for (const one of this.players || []) one.unload(); this.player = undefined; this.players = []; grid.act({ kind: "closer", clip: "" }); };
    const box = create("div", "closer");
    box.append(this.player.box, this.about, this.row, this.alike);
    grid.dialogs.open("closer", `${view.card.shown || view.card.video} ${interval(view.card)}`, [box], { toggles: ["f"], closed, keys: (event, key) => this.actions(event, key) });
    this.player.box.focus();
    grid.act({ kind: "closer", clip: view.id });
  }

  // The server's answer: the clip in full size, and those alike.
  show(data) {
    if (!this.player) return;
    this.tell();
    const { closer, words } = data;
    if (!closer || closer.clip !== this.id || this.similar) return;
    if (closer.url && closer.url !== this.card.url) this.player.show({ ...this.card, url: closer.url }, words);
    this.similar = closer.similar;
    this.ticked = new Set(closer.similar.filter((card) => !card.label && !card.settled).map((card) => card.id));
    const strip = create("div", "strip sample");
    this.players = [];
    this.inView?.disconnect();
    this.inView = new IntersectionObserver((seen) => seen.forEach(({ target, intersectionRatio }) => { target.player.before = intersectionRatio >= 0.5; }), { threshold: [0, 0.5] });
    for (const card of closer.similar) {
      const player = new Player(Object.create(this.grid.settings));
      player.visible = true;
      player.show(card, words);
      this.players.push(player);
      const figure = create("figure");
      figure.dataset.clip = card.id;
      const tick = Object.assign(create("input", "tick"), { type: "checkbox", checked: this.ticked.has(card.id), disabled: Boolean(card.settled) });
      const shown = card.label || card.suggestion;
      const text = `${card.video} ${interval(card)}`;
      tick.setAttribute("aria-label", `${words.pick} ${text}`);
      tick.addEventListener("change", () => { if (tick.checked) this.ticked.add(card.id); else this.ticked.delete(card.id); this.tell(); });
      player.box.append(tick);
      this.inView.observe(player.box);
      player.box.player = player;
      player.box.addEventListener("click", (event) => { if (event.target !== tick && !tick.disabled) tick.click(); });
      figure.append(player.box, create("figcaption", "", `${shown ? `${card.label ? "" : "⌁ "}${this.grid.name(shown)} · ` : ""}${text}`));
      strip.append(figure);
    }
    this.alike.replaceChildren(create("p", "group-title", closer.similar.length ? words.similar : words.similar_none), strip);
    this.tell();
  }

  tell() {
    const { grid } = this;
    const { words, classes, marks } = grid.data;
    const view = grid.views.get(this.id);
    const count = this.ticked && this.similar ? this.ticked.size : 0;
    const label = view ? view.label : this.card.label;
    this.about.textContent = [label ? grid.name(label) : words.no_label, words.closer_help, count ? fill(words.similar_help, { count: count + 1 }) : ""].filter(Boolean).join(" · ");
    const drawn = JSON.stringify([words.code, classes, label, count]);
    if (this.drawn === drawn && this.row.children.length) return;
    this.drawn = drawn;
    this.row.replaceChildren(...[...classes, ...marks.map((mark) => mark.label)].map((one) => {
      const button = grid.toolbar.button(grid.name(one), "", (event) => this.label(one, event.shiftKey), "brush");
      button.prepend(create("kbd", "", grid.keyFor(one)));
      button.style.setProperty("--mark", grid.colour(one));
      button.setAttribute("aria-pressed", String(label === one));
      button.addEventListener("mousedown", (event) => event.preventDefault());
      return button;
    }));
  }

  label(label, all) {
    const view = this.grid.views.get(this.id);
    if (!view) return;
    if (all && this.ticked?.size) this.labelAlike(view, label);
    else this.grid.label(view, label, "key");
    this.tell();
  }

  // This clip and those that are ticked get one label, as one act.
  labelAlike(view, label) {
    const { grid } = this;
    const cards = [view.card, ...this.similar.filter((card) => this.ticked.has(card.id))];
    // only what was before the person's eyes for a moment
    const looked = (card) => (card === view.card ? this.player.seeable === "shown" : this.players[this.similar.indexOf(card)].seen);
    const seen = cards.filter((card) => label === grid.data.bad || looked(card));
    if (!seen.length) { grid.notices.show(grid.data.words.cannot_see, { kind: "bad" }); return; }
    const of = (value) => Object.fromEntries(seen.map((card) => [card.id, value(card)]));
    const before = of((card) => grid.views.get(card.id)?.label ?? card.label ?? null);
    grid.breaks.act();
    const act = grid.act({ kind: grid.decides ? "relabel" : "alike", clips: seen.map((card) => card.id), tickets: of((card) => card.ticket), label, effects: of(() => label) });
    grid.history.add(act, before);
    (grid.rests ||= new Map()).set(act.id, cards.length - seen.length);
    for (const card of seen) { const one = grid.views.get(card.id); one?.show(one.card, grid.data); }
    grid.dialogs.close();
  }

  draw(now) {
    this.player?.draw(now);
    for (const player of this.players || []) {
      player.draw(now);
      if (player.seen) continue;
      if (player.before && player.seeable === "shown") player.seen = now - (player.since ??= now) >= SEEN_MS;
      else player.since = undefined;
    }
  }

  refresh() { this.player?.refresh(); for (const player of this.players || []) player.refresh(); }

  actions(event, key) {
    const { grid } = this;
    const held = (run) => ({ run, repeat: true });
    const outer = grid.actions(event, key);
    const label = grid.labelOf(key);
    const own = {
      ",": held(() => this.player.frames(-1)), ".": held(() => this.player.frames(1)), " ": () => this.player.toggle(),
      v: () => this.player.box.classList.toggle("revealed"),
      ...Object.fromEntries(["+", "=", "-", "s", "z", "y", "0"].filter((one) => outer[one]).map((one) => [one, outer[one]])),
      ...Object.fromEntries(grid.data.marks.map((mark) => [mark.key, () => this.label(mark.label, event.shiftKey)])),
    };
    if (label) own[key] = () => { grid.zeros = 0; this.label(label, event.shiftKey); };
    return own;
  }
}
