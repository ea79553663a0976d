// The timeline of one video: a player that goes from clip to clip without a gap, a strip of all clips, and marks for an
// interval that labels what it covers.

const EDGE_S = 0.03;

class Timeline {
  constructor(grid) {
    this.grid = grid;
    this.box = create("div", "timeline");
    this.stage = create("div", "stage");
    this.line = create("div", "now");
    this.strip = create("div", "track");
    this.strip.setAttribute("role", "group");
    this.head = create("div", "head");
    this.span = create("div", "span");
    this.players = [0, 1].map(() => new Player(Object.create(grid.settings)));
    for (const player of this.players) { player.video.loop = false; player.at = 0; player.renew = () => grid.renew(); this.stage.append(player.box); }
    [this.player, this.spare] = this.players;
    this.player.box.addEventListener("click", () => this.toggle());
    this.spare.box.addEventListener("click", () => this.toggle());
    this.marks = {};
    const scroll = create("div", "scroll");
    scroll.append(this.strip);
    this.box.append(this.stage, this.line, scroll);
  }

  get time() { return this.current ? this.current.card.start + this.position : 0; }

  // Seconds since the beginning of the clip.
  get position() {
    const { video, at } = this.player;
    return this.grid.settings.view === "skeleton" || video.readyState < 1 ? at : video.currentTime;
  }

  show(data) {
    const cards = data.cards;
    if (!cards.length) { this.strip.replaceChildren(); this.line.textContent = ""; return; }
    [this.from, this.to] = [Math.min(...cards.map((one) => one.start)), Math.max(...cards.map((one) => one.end))];
    const lanes = [...new Set(cards.map((one) => one.person ?? 0))].sort((a, b) => a - b);
    const share = (seconds) => `${(100 * (seconds - this.from)) / (this.to - this.from)}%`;
    this.strip.style.minWidth = `${Math.round((9 * cards.length) / lanes.length)}px`;
    this.strip.style.height = `${52 * lanes.length}px`;
    this.strip.setAttribute("aria-label", data.words.timeline);
    for (const card of cards) {
      const { root } = this.grid.views.get(card.id);
      Object.assign(root.style, { left: share(card.start), width: `calc(${share(card.end - card.start + this.from)} - 2px)`, top: `${52 * lanes.indexOf(card.person ?? 0)}px` });
      if (root.parentNode !== this.strip) this.strip.append(root);
    }
    this.strip.append(this.span, this.head);
    if (!this.current || !this.grid.views.has(this.current.id)) { this.marks = {}; this.current = undefined; this.seek(this.grid.focused); }
    this.mark({});
  }

  // Play a clip from its beginning, or from `offset` seconds on.
  seek(view, offset = 0) {
    if (!view || view === this.current) return;
    const ready = this.next?.view === view && this.next.offset === offset;
    if (ready) [this.player, this.spare] = [this.spare, this.player];
    this.current = view;
    this.next = undefined;
    const { player, spare } = this;
    player.held = this.held;
    player.at = offset;
    player.visible = true;
    player.box.hidden = false;
    if (!ready) this.load(player, view, offset);
    player.refresh();
    spare.box.hidden = true;
    spare.held = true;
    spare.visible = false;
    spare.refresh();
    const after = this.after(view);
    if (!after) return;
    this.next = after; // loaded before it is needed
    spare.visible = true;
    this.load(spare, after.view, after.offset);
  }

  load(player, view, offset) {
    player.show(view.card, this.grid.data.words);
    player.at = offset;
    const begin = () => { player.video.currentTime = player.at; };
    if (player.video.readyState >= 1) begin();
    else player.video.addEventListener("loadedmetadata", begin, { once: true });
  }

  // The clip in which playing goes on, and where in it: the last of the same person that begins before this one ends.
  after(view) {
    const { card } = view;
    const lane = this.grid.order.map((id) => this.grid.views.get(id)).filter((one) => (one.card.person ?? 0) === (card.person ?? 0) && one.card.start > card.start);
    const next = lane.filter((one) => one.card.start <= card.end + EDGE_S).at(-1) ?? lane[0];
    return next && { view: next, offset: Math.max(0, card.end - next.card.start) < EDGE_S ? 0 : Math.max(0, card.end - next.card.start) };
  }

  toggle() {
    this.held = this.player.running;
    this.player.held = this.held;
    if (!this.held && this.finished) this.restart();
    this.player.refresh();
  }

  restart() { this.player.at = 0; this.player.video.currentTime = 0; }

  get finished() {
    const { card } = this.current;
    return this.position >= card.end - card.start - EDGE_S || (this.grid.settings.view !== "skeleton" && this.player.video.ended);
  }

  draw(now) {
    const passed = Math.min(0.25, (now - (this.drawn ?? now)) / 1000);
    this.drawn = now;
    if (!this.current) return;
    const { grid, player } = this;
    const playing = player.running && !grid.dialogs.kind;
    if (grid.settings.view === "skeleton" && playing) player.at += passed * grid.settings.speed;
    player.draw(now);
    this.current.seen ||= player.seeable === "shown" && this.position > Math.min(0.3, (this.current.card.end - this.current.card.start) / 2);
    if (playing && this.finished && this.next) {
      const { view, offset } = this.next;
      const had = this.current.root.contains(grid.home.getRootNode().activeElement);
      this.seek(view, offset);
      grid.shifted = performance.now(); // what is pressed in this moment was meant for the clip before
      grid.focus(view, { dom: had });
    }
    const share = (100 * (this.time - this.from)) / (this.to - this.from);
    this.head.style.left = `${Math.min(100, Math.max(0, share))}%`;
    this.tell();
  }

  tell() {
    const { words } = this.grid.data;
    const { since, until } = this.marks;
    const marks = since === undefined && until === undefined ? words.marks_help
      : `${words.marks} ${since === undefined ? "…" : since.toFixed(1)}–${until === undefined ? "…" : until.toFixed(1)} s`
        + (this.ready ? ` · ${fill(words.marks_cover, { count: this.covered.length })}` : "");
    const text = `${this.time.toFixed(1)} s · ${this.current.about} · ${marks}`;
    if (this.line.textContent !== text) this.line.textContent = text;
  }

  get ready() { return this.marks.since !== undefined && this.marks.until !== undefined; }

  mark(changes) {
    this.marks = { ...this.marks, ...changes };
    const { since, until } = this.marks;
    if (this.ready && since >= until) this.marks = { ...changes };
    this.covered = this.ready ? this.grid.order.map((id) => this.grid.views.get(id)).filter((view) => this.covers(view.card)) : [];
    for (const view of this.grid.views.values()) view.root.classList.toggle("covered", this.covered.includes(view));
    const share = (seconds) => (100 * (seconds - this.from)) / (this.to - this.from);
    const [left, right] = [this.marks.since ?? this.marks.until, this.marks.until ?? this.marks.since];
    this.span.hidden = left === undefined;
    if (left !== undefined) Object.assign(this.span.style, { left: `${share(left)}%`, width: `calc(${share(right) - share(left)}% + 2px)` });
  }

  // The same rule as that of the server, which has the last word.
  covers(card) {
    if ((card.person ?? 0) !== (this.current.card.person ?? 0)) return false;
    const { since, until } = this.marks;
    const overlap = Math.min(card.end, until) - Math.max(card.start, since);
    return overlap > 1e-9 && overlap + 1e-9 >= Math.min(this.grid.data.min_overlap_s, (until - since) / 2, (card.end - card.start) / 2);
  }

  // Label what the interval covers, as one act. Asks where some of it has not been played.
  async label(label) {
    const { grid } = this;
    const { words } = grid.data;
    let views = this.covered.filter((view) => !view.card.settled && (label === grid.data.bad || view.player.seeable !== "missing"));
    if (!views.length) { grid.notices.show(grid.data.words.marks_none, { kind: "bad" }); return; }
    const unseen = label === grid.data.bad ? [] : views.filter((view) => !view.seen);
    if (unseen.length) {
      const values = { count: views.length, other: unseen.length, label: grid.name(label) };
      const choice = await grid.dialogs.ask(words.marks_title, fill(words.marks_unseen, values), [
        ...(unseen.length < views.length ? [["leave", fill(words.rest_leave, values)]] : []), ["all", fill(words.rest_all, values)], [undefined, words.cancel]]);
      if (!choice) return;
      views = views.filter((view) => grid.views.get(view.id) === view && (choice === "all" || view.seen));
      if (!views.length) return;
    }
    const of = (value) => Object.fromEntries(views.map((view) => [view.id, value(view)]));
    grid.breaks.act();
    const before = of((view) => view.label ?? null);
    const { since, until } = this.marks;
    const act = grid.act({ kind: "interval", clips: views.map((view) => view.id), tickets: of((view) => view.card.ticket), since, until, label, effects: of(() => label) });
    grid.history.add(act, before);
    for (const view of views) view.show(view.card, grid.data);
    this.marks = {};
    this.mark({});
  }

  // Some frames on or back.
  frames(count) {
    const { card } = this.current;
    if (this.player.running) this.toggle();
    const to = Math.min(card.end - card.start, Math.max(0, this.position + count / card.fps));
    this.player.at = this.player.video.currentTime = to;
  }

  leave() { for (const player of this.players) player.unload(); }

  actions(event) {
    if (!this.current) return {};
    const go = (kind) => () => this.grid.act({ kind, page: this.grid.data.page });
    return {
      i: () => this.mark({ since: this.time }), o: () => this.mark({ until: this.time }),
      ...(event.shiftKey && { n: go("later video"), p: go("earlier video") }),
      ...((this.marks.since ?? this.marks.until) !== undefined && { Escape: () => { this.marks = {}; this.mark({}); } }),
    };
  }
}
