// The grid: focus, brush, labels. Streamlit calls the default export with every new set of data.

const SPEEDS = [0.25, 0.5, 1, 2, 4];
const ZERO_MS = 2500;
const SHIFT_MS = 350;
const AGAIN_S = 5;

class Grid {
  constructor(root, data) {
    this.data = data;
    this.settings = new Settings(data.who, data.welfare);
    this.outbox = Outbox.of(data.who);
    this.breaks = new Breaks(data.who);
    this.own = new OwnKeys(data.who);
    this.closer = new Closer(this);
    this.zeros = 0;
    this.history = new ActHistory();
    this.views = new Map();
    this.order = [];
    this.later = new Set(); // clips that load when others have
    this.focusId = null;
    this.brush = null;
    this.told = new Set();
    this.refused = new Set();
    this.near = new IntersectionObserver((seen) => seen.forEach(({ target, isIntersecting }) => {
      target.view.player.visible = isIntersecting;
      target.view.player.refresh();
    }), { rootMargin: "150px" });
    this.inView = new IntersectionObserver((seen) => seen.forEach(({ target, intersectionRatio }) => { target.view.visible = intersectionRatio >= 0.5; }), { threshold: [0, 0.5] });
    this.home = root.querySelector(".grid");
    // while Streamlit changes pages two grids can exist for a moment: only the newest handles keys
    this.peers = document.posewatchGrids ||= [];
    this.peers.push(this);
    this.keys = new Keys(() => this.peers.filter((grid) => grid.home.isConnected).at(-1) === this, this.own);
    this.keys.push({ actions: (event, key) => this.actions(event, key) });
    this.dialogs = new Dialogs(this.keys, data.words);
    this.guide = new Guide(this);
    this.popover = new Popover(this);
    this.veil = new Veil(this);
    this.comments = new Comments(this);
    this.strips = new Set(); // players outside of the grid's cards
    this.notices = new Notices(data.words);
    this.toolbar = new Toolbar(this);
    this.cards = create("div", "cards");
    // what only some views have; their files are loaded there
    this.form = typeof FindForm === "function" ? new FindForm(this) : undefined;
    this.selection = typeof Picks === "function" ? new Picks(this) : undefined;
    this.timeline = typeof Timeline === "function" ? new Timeline(this) : undefined;
    const parts = [this.form?.box, this.toolbar.bar, this.selection?.bar, this.timeline?.box, this.veil.box].filter(Boolean);
    this.home.replaceChildren(...parts, this.cards, this.toolbar.foot, this.popover.box, this.dialogs.box, this.notices.home);
    this.sizes = new ResizeObserver(() => { // the focused clip must not stop below a bar
      this.home.style.setProperty("--bar", `${this.toolbar.bar.offsetHeight}px`);
      this.home.style.setProperty("--foot", `${this.toolbar.foot.offsetHeight}px`);
    });
    this.sizes.observe(this.toolbar.bar);
    this.sizes.observe(this.toolbar.foot);
    this.ticks = 0;
    this.timer = setInterval(() => this.tick(), 1000);
    const draw = (now) => {
      const open = Boolean(this.dialogs.kind);
      for (const view of this.views.values()) { view.player.draw(now); if (!open) view.look(now); }
      this.timeline?.draw(now);
      this.closer.draw(now);
      for (const player of this.strips) {
        if (player.box.isConnected) player.draw(now);
        else { player.unload(); this.strips.delete(player); }
      }
      this.frame = requestAnimationFrame(draw);
    };
    this.frame = requestAnimationFrame(draw);
  }

  update(data, post) {
    const newPage = data.page !== this.data.page || !this.order.length;
    this.data = data;
    this.dialogs.words = this.notices.words = data.words;
    this.outbox.post = post;
    this.outbox.done([...data.saved, ...data.refused.map((one) => one.id)]);
    const waited = this.waiting;
    this.answer(data);
    const former = this.order;
    this.order = data.cards.map((card) => card.id);
    const wanted = new Set(this.order);
    const had = this.focused?.root.contains(this.home.getRootNode().activeElement);
    for (const [id, view] of this.views) if (!wanted.has(id)) { view.remove(); this.views.delete(id); }
    data.cards.forEach((card, i) => {
      let view = this.views.get(card.id);
      if (!view) { view = this.timeline ? new SegmentView(this, card.id) : new CardView(this, card.id); this.views.set(card.id, view); }
      if (this.cards.children[i] !== view.root) this.cards.insertBefore(view.root, this.cards.children[i] || null);
      view.show(card, data);
    });
    if (newPage) this.focus(this.views.get(this.came) || this.views.get(data.start) || this.views.get(data.mode === "find" ? this.order[0] : data.cards.find((card) => !card.label)?.id) || this.views.get(this.order[0]), { scroll: Boolean(data.start), dom: had });
    else if (!wanted.has(this.focusId)) this.refocus(former, had);
    if (newPage && this.views.has(this.came) && !data.moment) this.came = undefined;
    this.show(data.told || [], waited);
    this.form?.show(data);
    if (newPage) this.selection?.clear();
    else this.selection?.show();
    this.timeline?.show(data);
    this.closer.show(data);
    this.toolbar.show(data, this.settings, this.brush);
    this.look();
    if (data.context) this.context(data.context);
    else if (this.dialogs.kind === "context") this.dialogs.close();
    this.comments.refresh();
    this.guide.visit();
    this.status();
    if (!this.connected && post) { this.connected = true; this.outbox.send(); this.adopt(); }
  }

  // The focused clip has gone: the next one of the former order gets the focus. Unless the person has just decided on
  // the clip, they have not seen that yet, so what they press in this moment labels nothing.
  refocus(former, dom) {
    const at = former.indexOf(this.focusId);
    if (this.decided !== this.focusId) this.shifted = performance.now();
    const left = [...former.slice(at + 1), ...former.slice(0, Math.max(0, at)).reverse()].find((id) => this.views.has(id));
    this.focusId = null;
    this.focus(this.views.get(left ?? this.order[0]), { scroll: true, dom });
  }

  answer(data) {
    const news = data.refused.filter((one) => !this.refused.has(one.id));
    for (const one of news) this.notices.show(one.message, { kind: "bad", lasts: 20000 });
    this.history.forget(data.refused.map((one) => one.id));
    this.refused = new Set(data.refused.map((one) => one.id));
    if (this.waiting && [...data.saved, ...this.refused].includes(this.waiting)) this.waiting = null;
    this.notices.hold("kept", data.kept ? data.words.kept_server : "");
  }

  // What the server did: an undo shows its clips, the rest of a page says how many got a label.
  show(told, waited) {
    for (const one of told) {
      if (this.told.has(one.id)) continue;
      this.told.add(one.id);
      const { words } = this.data;
      if (one.kind === "rest") {
        const left = (this.rests?.get(one.id) || 0) + one.asked - one.count;
        this.notices.show(fill(left ? words.rest_left : words.rest_done, { count: one.count, left, label: this.name(this.data.default) }));
        continue;
      }
      if (one.label) { // several clips at once
        const left = (one.asked ? one.asked - one.count : 0) + (this.rests?.get(one.id) || 0);
        this.notices.show(fill(left ? words.several_left : words.several_done, { count: one.count, left, label: this.name(one.label) }));
        continue;
      }
      if (!one.count) { this.notices.show(words[`no_${one.kind}`]); continue; }
      const [first] = one.clips;
      const change = `${first.was ? this.name(first.was) : words.no_label} → ${first.now ? this.name(first.now) : words.no_label}`;
      const text = one.count === 1 ? `${words[`${one.kind}_done`]} ${change} · ${first.video} ${interval(first)}`
        : `${words[`${one.kind}_done`]} ${fill(words.labels_count, { count: one.count })}`;
      const here = one.clips.find((clip) => this.views.has(clip.id));
      if (here && one.id === waited) this.focus(this.views.get(here.id)); // else the person is further on already
      this.notices.show(text, { parts: here ? [] : [this.strip(one.cards)] });
    }
  }

  // Whether this view settles clips instead of giving one more label.
  get decides() { return ["review", "find"].includes(this.data.mode); }

  name(label) {
    return this.data.all_marks.find((mark) => mark.label === label)?.text || label;
  }

  title(card) { return `${card.shown || card.video} ${interval(card)}`; }

  colour(label) {
    const i = this.data.classes.indexOf(label);
    return i < 0 ? (label ? "#4b5a70" : "transparent") : classColour(i);
  }

  // `dom`: the clip gets the keyboard's focus, too.
  focus(view, { scroll = true, dom = true } = {}) {
    if (!view) return;
    this.focusId = view.id;
    for (const other of this.views.values()) {
      other.root.classList.toggle("focus", other === view);
      other.root.tabIndex = other === view ? 0 : -1;
      other.choice.select.tabIndex = other === view ? 0 : -1;
    }
    if (dom) view.root.focus({ preventScroll: true });
    if (scroll) view.root.scrollIntoView({ block: "nearest" });
    this.timeline?.seek(view);
  }

  get focused() { return this.views.get(this.focusId); }

  move(by) {
    const to = Math.min(this.order.length - 1, Math.max(0, this.order.indexOf(this.focusId) + by));
    this.focus(this.views.get(this.order[to]));
  }

  // After a label the next clip; a reviewer's next clip is one without a decision, because decided ones go.
  advance() {
    if (this.data.mode !== "review") { this.move(1); return; }
    const at = this.order.indexOf(this.focusId);
    const next = [...this.order.slice(at + 1), ...this.order.slice(0, at)].find((id) => this.outbox.pending(id) === undefined);
    this.focus(this.views.get(next));
  }

  get columns() {
    const tops = [...this.cards.children].map((card) => card.offsetTop);
    return Math.max(1, tops.filter((top) => top === tops[0]).length);
  }

  clicked(view, event) {
    this.focus(view, { scroll: false });
    if (this.selection) { this.selection.click(view, event); return; }
    if (this.brush) this.label(view, this.brush, "brush");
    else view.player.toggle();
  }

  // Label one clip; false when it cannot get this label now.
  label(view, label, how) {
    if (!view || (view.card.settled && !this.decides)) return false;
    if (this.waiting || performance.now() - (this.shifted ?? -SHIFT_MS) < SHIFT_MS) { this.notices.show(this.data.words.not_yet); return false; }
    const state = view.player.seeable;
    const allowed = label === null || state === "loading" || state === "shown" || view.seen || (state === "missing" && label === this.data.bad);
    if (!allowed) {
      this.notices.show(this.data.words[state === "away" ? "store_away" : "cannot_see"], { kind: "bad" });
      view.show(view.card, this.data);
      return false;
    }
    this.breaks.act();
    const review = this.decides;
    if (label === null ? !view.label : label === view.label && !review && view.card.source !== "bulk" && (view.card.mine || view.root.classList.contains("waiting"))) return true;
    if (review && label === null) return false;
    const act = { kind: review ? "adjudicate" : "label", clip: view.id, ticket: view.card.ticket, label, how, queued: this.data.queued, about: this.title(view.card), effects: { [view.id]: label } };
    this.decided = review ? view.id : null;
    this.history.add(this.act(act), { [view.id]: view.label ?? null });
    view.show(view.card, this.data);
    return true;
  }

  // What a label is for instead of the focused clip.
  get several() { return this.selection?.size ? this.selection : this.timeline?.ready ? this.timeline : undefined; }

  labelFocused(label) {
    if (this.several) { this.several.label(label); return; }
    if (this.label(this.focused, label, "key")) this.advance();
  }

  act(act) {
    const whole = this.outbox.add(act);
    this.status();
    return whole;
  }

  // The rest of the page: only clips that were before the person's eyes. Asks once where a model says otherwise.
  async labelRest() {
    const { words, default: label } = this.data;
    const open = this.order.map((id) => this.views.get(id)).filter((view) => !view.label);
    if (!open.length) return;
    let covered = open.filter((view) => view.seen && view.player.seeable === "shown");
    const otherwise = covered.filter((view) => view.card.suggestion && view.card.suggestion !== label);
    if (otherwise.length) {
      const name = this.name(label);
      const choice = await this.dialogs.ask(words.rest_title, fill(words.rest_otherwise, { count: covered.length, other: otherwise.length, label: name }), [
        ["leave", fill(words.rest_leave, { other: otherwise.length })], ["all", fill(words.rest_all, { count: covered.length, label: name })], [undefined, words.cancel]]);
      if (!choice) return;
      if (choice === "leave") covered = covered.filter((view) => !otherwise.includes(view));
      covered = covered.filter((view) => this.views.get(view.id) === view && !view.label); // the page may have changed meanwhile
    }
    const left = open.length - covered.length;
    if (!covered.length) {
      this.notices.show(fill(words.rest_none, { left }));
    } else {
      this.breaks.act();
      const of = (value) => Object.fromEntries(covered.map((view) => [view.id, value(view)]));
      const act = this.act({ kind: "rest", clips: covered.map((view) => view.id), tickets: of((view) => view.card.ticket), label, effects: of(() => label) });
      this.history.add(act, of(() => null));
      (this.rests ||= new Map()).set(act.id, left);
      for (const view of covered) view.show(view.card, this.data);
    }
    const first = open.find((view) => !covered.includes(view));
    if (first) this.focus(first);
  }

  // Undo or redo. The last act of this tab is shown at once; for any other the page waits until the server tells.
  step(direction) {
    const known = this.history.step(direction);
    const act = this.act({ kind: direction, ...(known && { act: known.id, effects: known.effects }) });
    const view = known && this.views.get(Object.keys(known.effects).find((id) => this.views.has(id)));
    if (!view) { this.waiting = act.id; return; }
    for (const id of Object.keys(known.effects)) this.views.get(id)?.show(this.views.get(id).card, this.data);
    this.focus(view);
  }

  set(changes) {
    this.settings.set(changes);
    for (const player of [...[...this.views.values()].map((view) => view.player), ...this.strips]) player.refresh();
    this.closer.refresh();
    this.toolbar.show(this.data, this.settings, this.brush);
    this.look();
  }

  pauseAll(on = !this.settings.paused) {
    this.settings.paused = on;
    for (const view of this.views.values()) view.player.held = undefined;
    this.set({});
  }

  look() {
    const s = this.settings;
    for (const [name, on] of Object.entries({ blur: s.blur, grey: s.grey, bones: s.view === "skeleton", painting: this.brush, moment: this.data.moment })) this.home.classList.toggle(name, Boolean(on));
    this.home.style.setProperty("--size", `${s.size}px`);
    this.veil.show(this.data, s);
  }

  actions(event, key) {
    const { classes, marks, mode } = this.data;
    const s = this.settings;
    const faster = (by) => this.set({ speed: SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, SPEEDS.indexOf(s.speed) + by))] });
    const held = (run) => ({ run, repeat: true });
    const actions = {
      ArrowRight: held(() => this.move(1)), ArrowLeft: held(() => this.move(-1)),
      ArrowDown: held(() => this.move(this.columns)), ArrowUp: held(() => this.move(-this.columns)),
      " ": () => this.focused?.player.toggle(), Enter: () => this.focused?.card.suggestion && !this.focused.label && this.labelFocused(this.focused.card.suggestion),
      Backspace: () => this.label(this.focused, null, "key"),
      e: () => mode === "label" && this.labelRest(), z: () => this.step(event.shiftKey ? "redo" : "undo"), y: () => this.step("redo"),
      n: () => this.turn("next"), p: () => this.turn("previous"), PageDown: () => this.turn("next"), PageUp: () => this.turn("previous"),
      s: () => this.set({ overlay: !s.overlay }), "+": () => faster(1), "=": () => faster(1), "-": () => faster(-1), a: () => this.pauseAll(),
      x: () => this.ask(this.focused), w: () => this.ask(this.focused, true), m: () => this.moment(this.focused), v: () => this.focused?.root.classList.toggle("revealed"),
      f: () => this.closer.open(this.focused), ",": held(() => this.focused?.player.frames(-1)), ".": held(() => this.focused?.player.frames(1)),
      c: () => this.comments.open(this.focused), g: () => this.guide.open(),
      "?": () => this.help(), h: () => this.help(), Escape: () => { this.popover.hide(); if (this.brush || !this.data.moment) this.pick(null); else this.moment(); },
      l: () => this.copyLink(), j: () => !this.timeline && this.focused && location.assign(this.link("timeline")),
      ...this.selection?.actions(event), ...this.timeline?.actions(event),
    };
    for (const mark of marks) actions[mark.key] = () => this.labelFocused(mark.label);
    if (classes.length > 9) actions[0] = () => this.zero();
    const label = this.labelOf(key);
    if (label) actions[key] = () => { this.zeros = 0; (event.shiftKey ? this.pick(this.brush === label ? null : label) : this.labelFocused(label)); };
    else if (event.key !== key && actions[event.key]) actions[key] = actions[event.key]; // a layout with "-" on a digit
    return actions;
  }

  // The class that a key stands for: 1 to 9; 0 before them goes to the next nine.
  labelOf(key) {
    const whole = /^[1-9]$/.test(key) && this.zeros && performance.now() - this.zeroAt < ZERO_MS ? "0".repeat(this.zeros) + key : key;
    return /^0*[1-9]$/.test(whole) ? this.data.classes[9 * (whole.length - 1) + Number(whole.at(-1)) - 1] : undefined;
  }

  zero() {
    const { classes, words } = this.data;
    const open = this.zeros && performance.now() - this.zeroAt < ZERO_MS ? this.zeros : 0;
    this.zeros = (open + 1) % Math.ceil(classes.length / 9);
    this.zeroAt = performance.now();
    const some = classes.slice(9 * this.zeros, 9 * this.zeros + 9).map((name, i) => `${i + 1} ${name}`);
    this.notices.show(`${words.keys_now} ${some.join(" · ")}`, { lasts: ZERO_MS });
  }

  // The clips before and after one, or the scene around a clip of one person.
  ask(view, scene = false) { if (view && (!scene || view.card.person)) this.act({ kind: "context", clip: view.id, scene }); }

  // Everybody at the moment of a clip of one person, as a page of its own; again: back to the page before.
  moment(view) {
    const open = Boolean(view?.card.person) && !this.data.moment;
    if (!open && !this.data.moment) return;
    if (open) this.came = view.id;
    this.act({ kind: "moment", clip: open ? view.id : null });
  }

  // The key that gives a label, "" without one.
  keyFor(label) {
    const i = this.data.classes.indexOf(label);
    return this.own.key(i < 0 ? this.data.all_marks.find((mark) => mark.label === label)?.key ?? "" : classKey(i));
  }

  turn(direction) { if (this.data.turns.includes(direction)) this.act({ kind: direction, page: this.data.page }); }

  pick(label) {
    if (this.selection || this.timeline) { if (label) this.labelFocused(label); return; }
    this.brush = label; this.toolbar.show(this.data, this.settings, label);
    this.look();
  }

  // The address of the focused clip: in this view where it has an address of its own, else in its video.
  link(view = "") {
    const { card } = this.focused;
    const here = !view && (this.form || this.timeline);
    const link = new URL(here ? location.href : location.pathname.replace(/[^/]*$/, view), location.href);
    link.hash = "";
    if (!here) link.search = new URLSearchParams({ video: card.video_id });
    link.searchParams.set("clip", card.id);
    return link.href;
  }

  async copyLink() {
    if (!this.focused) return;
    const link = this.link();
    const { words } = this.data;
    try { await navigator.clipboard.writeText(link); this.notices.show(words.link_copied); } catch { this.notices.show(`${words.link} ${link}`, { lasts: 60000 }); }
  }

  help() {
    const change = this.toolbar.button(this.data.words.own_keys, "", () => this.own.open(this));
    this.dialogs.help([...this.data.words.keys, ...(this.data.words[`keys_${this.data.mode}`] || [])], this.guide.sections());
    this.dialogs.box.querySelector(".sheet").append(change);
  }

  status() { this.toolbar.status(this.outbox, this.data.words); }

  tick() {
    if (!this.home.isConnected) { this.leave(); return; }
    this.ticks += 1;
    this.outbox.tick();
    this.status();
    if (this.breaks.due(this.settings.pause_min) && !this.dialogs.kind) this.remindToPause();
    const away = [...this.views.values()].filter((view) => view.player.seeable === "away");
    this.notices.hold("store", away.length || this.data.away ? this.data.words.store_away : "");
    if (this.ticks % AGAIN_S) return;
    for (const view of away) view.player.again();
    if (this.data.cards.some((card) => card.away)) this.renew();
    this.adopt();
  }

  // Ask for new addresses of the clips; every other act brings them, too.
  renew() { if (!this.outbox.acts.length) this.act({ kind: "refresh" }); }

  // Acts that a closed tab or a crash left unsent.
  async adopt() {
    const taken = await this.outbox.adopt();
    if (!taken.length) return;
    const { words } = this.data;
    const about = taken.filter((act) => act.about).map((act) => `${act.about}: ${act.text || (act.label ? this.name(act.label) : words.no_label)}`);
    this.notices.show([fill(words.restored, { count: taken.length }), ...about.slice(0, 3)].join(" · ") + (about.length > 3 ? " …" : ""), { lasts: 30000 });
    for (const view of this.views.values()) view.show(view.card, this.data);
    this.status();
  }

  remindToPause() {
    const { words } = this.data;
    const before = this.settings.paused;
    this.pauseAll(true);
    const button = create("button", "rest main", words.rested);
    button.addEventListener("click", () => { this.breaks.rested(); this.dialogs.close(); });
    const closed = () => { if (this.breaks.due(this.settings.pause_min)) this.breaks.later(this.settings.pause_min); this.pauseAll(before); };
    this.dialogs.open("pause", words.pause_title, [create("p", "", words.pause_text), button], { closed });
  }

  // Small players of clips, with their labels.
  strip(cards, marked) {
    const strip = create("div", "strip");
    for (const card of cards) {
      const player = new Player(Object.assign(Object.create(this.settings), { paused: false }));
      player.visible = true;
      this.strips.add(player);
      player.show(card, this.data.words);
      const box = create("figure", card.id === marked ? "this" : "");
      box.append(player.box, create("figcaption", "", `${interval(card)} ${card.label ? this.name(card.label) : ""}`));
      strip.append(box);
    }
    return strip;
  }

  context(neighbours) {
    const { words } = this.data;
    const { around } = neighbours;
    const asked = `${neighbours.clip} ${neighbours.scene} ${Boolean(around?.raw)}`;
    if (this.dialogs.kind === "context" && this.contextOf === asked) return;
    this.contextOf = asked;
    const card = neighbours.cards.find((one) => one.id === neighbours.clip);
    const closed = () => { if (this.data.context && this.contextOf === asked) this.act({ kind: "context", clip: null }); };
    if (!neighbours.scene) {
      this.dialogs.open("context", `${words.context} · ${this.title(card)}`, [this.strip(neighbours.cards, neighbours.clip)], { toggles: ["x"], closed });
      return;
    }
    const scene = around ? new Around(this, card, around) : new Scene(this, neighbours.cards, neighbours.clip);
    this.strips.add(scene);
    const others = neighbours.cards.length - 1;
    const told = around ? words.scene_outlined : words.scene_about;
    const about = create("p", "how", others ? fill(told, { person: card.person, others }) : words.scene_alone);
    const raw = () => this.act({ kind: "context", clip: card.id, scene: true, raw: true });
    const more = this.data.may_raw && !around?.raw ? [this.toolbar.button(words.scene_raw, "r", raw, "raw")] : [];
    if (more.length) about.append(` ${words.scene_raw_how}`);
    const title = around?.raw ? words.scene_raw : words.scene;
    this.dialogs.open("context", `${title} · ${this.title(card)}`, [scene.box, about, ...more], { toggles: ["w"], closed, keys: () => (more.length ? { r: raw } : {}) });
    this.dialogs.box.querySelector(".shut").focus(); // not the button whose look is recorded
  }

  leave() {
    this.peers.splice(this.peers.indexOf(this), 1);
    this.keys.close();
    clearInterval(this.timer);
    cancelAnimationFrame(this.frame);
    for (const observer of [this.near, this.inView, this.sizes]) observer.disconnect();
    this.timeline?.leave();
    for (const player of [...[...this.views.values()].map((view) => view.player), ...this.strips]) player.unload();
  }
}
