// The grid: keys, focus, brush, toolbar. Streamlit calls the default export with every new set of data.

class Grid {
  constructor(root, data) {
    this.root = root;
    this.data = data;
    this.settings = new Settings(data.who, data.welfare);
    this.outbox = new Outbox(data.who);
    this.breaks = new Breaks(data.who);
    this.views = new Map();
    this.order = [];
    this.at = 0;
    this.brush = null;
    this.marks = data.marks; // the names of all marks, also where a mark cannot be given
    this.observer = new IntersectionObserver((seen) => seen.forEach(({ target, isIntersecting }) => {
      target.player.visible = isIntersecting;
      target.player.refresh();
    }), { rootMargin: "150px" });
    this.bar = create("div", "bar");
    this.cards = create("div", "cards");
    this.foot = create("div", "foot");
    this.over = create("div", "over");
    this.over.hidden = true;
    this.home = root.querySelector(".grid");
    this.home.replaceChildren(this.bar, this.cards, this.foot, this.over);
    this.keys = (event) => this.key(event);
    // while Streamlit changes pages two grids can exist for a moment: only the newest handles keys
    this.peers = document.posewatchGrids ||= [];
    this.peers.push(this);
    document.addEventListener("keydown", this.keys, true);
    this.timer = setInterval(() => { if (!this.home.isConnected) { this.leave(); return; } this.outbox.tick(); this.status(); }, 1000);
    const draw = (now) => { for (const view of this.views.values()) view.player.draw(now); this.frame = requestAnimationFrame(draw); };
    this.frame = requestAnimationFrame(draw);
  }

  update(data, post) {
    const newPage = data.page !== this.data.page || !this.order.length;
    this.data = data;
    this.outbox.post = post;
    this.outbox.done([...data.saved, ...data.refused.map((one) => one.id)]);
    data.refused.filter((one) => !this.reported?.has(one.id)).forEach((one) => this.toast(one.message));
    this.reported = new Set(data.refused.map((one) => one.id));
    const wanted = new Set(data.cards.map((card) => card.id));
    for (const [id, view] of this.views) if (!wanted.has(id)) { view.remove(); this.views.delete(id); }
    this.order = data.cards.map((card) => card.id);
    data.cards.forEach((card, i) => {
      let view = this.views.get(card.id);
      if (!view) { view = new CardView(this, card.id); this.views.set(card.id, view); }
      if (this.cards.children[i] !== view.root) this.cards.insertBefore(view.root, this.cards.children[i] || null);
      view.show(card, data);
    });
    if (newPage) {
      const open = data.cards.findIndex((card) => !card.label);
      this.at = Math.max(0, open);
      this.focus(this.views.get(this.order[this.at]), false);
    }
    this.toolbar();
    if (data.context) this.context(data.context);
    else if (this.over.dataset.kind === "context") this.over.hidden = true;
    this.status();
    if (!this.first) { this.first = true; this.outbox.send(); } // acts that a reload or a crash left unsent
  }

  name(label) {
    return [...this.data.marks, ...this.marks].find((mark) => mark.label === label)?.text || label;
  }

  colour(label) {
    const i = this.data.classes.indexOf(label);
    return i < 0 ? (label ? "#64748b" : "transparent") : COLOURS[i % COLOURS.length];
  }

  focus(view, scroll = true) {
    if (!view) return;
    this.at = this.order.indexOf(view.id);
    for (const other of this.views.values()) other.root.classList.toggle("focus", other === view);
    if (scroll) view.root.scrollIntoView({ block: "nearest" });
  }

  get focused() { return this.views.get(this.order[this.at]); }

  move(by) {
    const to = Math.min(this.order.length - 1, Math.max(0, this.at + by));
    this.focus(this.views.get(this.order[to]));
  }

  get columns() {
    const tops = [...this.cards.children].map((card) => card.offsetTop);
    return Math.max(1, tops.filter((top) => top === tops[0]).length);
  }

  clicked(view) {
    this.focus(view, false);
    if (this.brush) this.label(view, this.brush, "brush");
    else view.player.toggle();
  }

  label(view, label, how) {
    if (!view || (view.card.settled && this.data.mode !== "review")) return;
    this.breaks.act();
    this.act({ kind: this.data.mode === "review" ? "adjudicate" : "label", clip: view.id, label, how });
    view.show(view.card, this.data);
  }

  act(act) {
    this.outbox.add(act);
    this.status();
  }

  labelRest() {
    const open = this.order.filter((id) => !this.views.get(id).label);
    if (!open.length) return;
    this.breaks.act();
    this.act({ kind: "rest", clips: open, label: this.data.default });
    for (const id of open) this.views.get(id).show(this.views.get(id).card, this.data);
  }

  set(changes) {
    this.settings.set(changes);
    for (const view of this.views.values()) view.player.refresh();
    this.toolbar();
  }

  key(event) {
    const target = event.composedPath()[0];
    const isChoice = target.tagName === "INPUT" && ["radio", "checkbox"].includes(target.type); // uses arrows and space only
    if (["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName) && !(isChoice && /^[a-z0-9]$/i.test(event.key))) return;
    if (target.isContentEditable) return;
    if (event.altKey || event.metaKey || (event.ctrlKey && !["z", "y"].includes(event.key))) return;
    if (this.peers.filter((grid) => grid.home.isConnected).at(-1) !== this) return;
    if (!this.over.hidden && event.key === "Escape") { this.close(); event.stopPropagation(); return; }
    const { classes } = this.data;
    const mark = this.data.marks.find((one) => one.key === event.key);
    const digit = /^Digit([1-9])$/.exec(event.code) || /^Numpad([1-9])$/.exec(event.code);
    const s = this.settings;
    const speeds = [0.5, 1, 2, 4];
    const faster = (by) => this.set({ speed: speeds[Math.min(3, Math.max(0, speeds.indexOf(s.speed) + by))] });
    const labelFocused = (label) => { this.label(this.focused, label, "key"); this.move(1); };
    const action = {
      ArrowRight: () => this.move(1), ArrowLeft: () => this.move(-1),
      ArrowDown: () => this.move(this.columns), ArrowUp: () => this.move(-this.columns),
      " ": () => this.focused?.player.toggle(), Enter: () => this.focused?.card.suggestion && labelFocused(this.focused.card.suggestion),
      Backspace: () => this.label(this.focused, null, "key"),
      e: () => this.data.mode === "label" && this.labelRest(), z: () => this.act({ kind: event.shiftKey ? "redo" : "undo" }),
      Z: () => this.act({ kind: "redo" }), y: () => this.act({ kind: "redo" }),
      n: () => this.turn("next"), p: () => this.turn("previous"), PageDown: () => this.turn("next"), PageUp: () => this.turn("previous"),
      s: () => this.set({ overlay: !s.overlay }), "+": () => faster(1), "=": () => faster(1), "-": () => faster(-1),
      x: () => this.focused && this.act({ kind: "context", clip: this.focused.id }), v: () => this.focused?.root.classList.toggle("revealed"),
      "?": () => this.help(), h: () => this.help(), Escape: () => this.pick(null),
    }[event.key];
    if (digit && Number(digit[1]) <= classes.length) {
      const label = classes[Number(digit[1]) - 1];
      if (event.shiftKey) this.pick(this.brush === label ? null : label);
      else if (!event.repeat) labelFocused(label);
    } else if (mark) labelFocused(mark.label);
    else if (action) action();
    else return;
    event.preventDefault();
    event.stopPropagation(); // Streamlit has its own keys
  }

  turn(direction) { if (this.data.turns.includes(direction)) this.act({ kind: direction, page: this.data.page }); }

  pick(label) { this.brush = label; this.toolbar(); }

  toolbar() {
    const { words, classes, marks, mode } = this.data;
    const s = this.settings;
    const button = (text, title, act, name = "") => {
      const element = create("button", name, text);
      element.title = title;
      element.type = "button";
      element.addEventListener("click", () => { act(); element.blur(); });
      return element;
    };
    const choices = [...classes.map((label, i) => [label, i < 9 ? String(i + 1) : ""]), ...marks.map((mark) => [mark.label, mark.key])];
    const brushes = choices.map(([label, key]) => {
      const element = button(this.name(label), words.brush_help, () => this.pick(this.brush === label ? null : label), "brush");
      element.prepend(create("kbd", "", key));
      element.style.setProperty("--mark", this.colour(label));
      element.setAttribute("aria-pressed", String(this.brush === label));
      return element;
    });
    const toggle = (text, title, on, act) => { const element = button(text, title, act); element.setAttribute("aria-pressed", String(on)); return element; };
    const tools = [
      ...(mode === "label" ? [button(`${words.rest} ${this.data.default}`, words.rest_help, () => this.labelRest(), "rest")] : []),
      button("↶", `${words.undo} (z)`, () => this.act({ kind: "undo" }), "undo"), button("↷", `${words.redo} (y)`, () => this.act({ kind: "redo" }), "redo"),
      button(`${s.speed}×`, words.speed, () => this.set({ speed: { 0.5: 1, 1: 2, 2: 4, 4: 0.5 }[s.speed] }), "speed"),
      toggle(words.skeleton, "s", s.overlay, () => this.set({ overlay: !s.overlay })),
      toggle(words.welfare, words.welfare_help, s.blur || s.grey || s.view === "skeleton", () => this.welfare()),
      button("?", `${words.help} (h)`, () => this.help(), "ask"),
    ];
    const groups = [create("div", "group"), create("div", "group")];
    groups[0].append(...brushes);
    groups[1].append(...tools);
    this.bar.replaceChildren(...groups);
    const turns = this.data.turns.map((to) => button(words[to], to === "next" ? "n" : "p", () => this.turn(to), `turn ${to}`));
    this.state = this.state || create("span", "state");
    this.foot.replaceChildren(this.state, ...turns);
    const grid = this.cards.parentElement;
    grid.classList.toggle("blur", s.blur);
    grid.classList.toggle("grey", s.grey);
    grid.classList.toggle("bones", s.view === "skeleton");
    grid.classList.toggle("painting", Boolean(this.brush));
    grid.style.setProperty("--size", `${s.size}px`);
  }

  status() {
    if (!this.state) return;
    const { words } = this.data;
    const pending = this.outbox.acts.length;
    this.state.textContent = pending ? `${words.saving} (${pending})` : words.saved;
    this.state.classList.toggle("busy", pending > 0);
    if (this.breaks.due(this.settings.pause_min) && this.over.hidden) this.remindToPause();
  }

  toast(text) {
    const element = create("div", "toast", text);
    this.cards.parentElement.append(element);
    setTimeout(() => element.remove(), 8000);
  }

  close() { if (this.over.dataset.kind === "context") this.act({ kind: "context", clip: null }); this.over.hidden = true; this.over.replaceChildren(); this.settings.paused = false; this.set({}); }

  open(kind, title, ...parts) {
    const sheet = create("div", "sheet");
    const close = create("button", "shut", "×");
    close.title = this.data.words.close;
    close.addEventListener("click", () => this.close());
    sheet.append(create("h3", "", title), close, ...parts);
    this.over.dataset.kind = kind;
    this.over.replaceChildren(sheet);
    this.over.hidden = false;
  }

  help() {
    if (!this.over.hidden) { this.close(); return; }
    const list = create("dl");
    for (const [keys, text] of this.data.words.keys) list.append(create("dt", "", keys), create("dd", "", text));
    this.open("help", this.data.words.help, list);
  }

  welfare() {
    const { words } = this.data;
    const s = this.settings;
    const line = (text, input) => { const label = create("label", "", ""); label.append(input, create("span", "", text)); return label; };
    const box = (name) => { const input = Object.assign(create("input"), { type: "checkbox", checked: s[name] }); input.addEventListener("change", () => this.set({ [name]: input.checked })); return input; };
    const view = Object.assign(create("input"), { type: "checkbox", checked: s.view === "skeleton" });
    view.addEventListener("change", () => this.set({ view: view.checked ? "skeleton" : "masked" }));
    const minutes = Object.assign(create("input"), { type: "number", min: 0, max: 240, value: s.pause_min });
    minutes.addEventListener("change", () => this.set({ pause_min: Number(minutes.value) || 0 }));
    const size = Object.assign(create("input"), { type: "range", min: 140, max: 480, step: 10, value: s.size });
    size.addEventListener("input", () => this.set({ size: Number(size.value) }));
    this.open("welfare", words.welfare, create("p", "", words.welfare_text), line(words.view_skeleton, view), line(words.blur, box("blur")),
      line(words.grey, box("grey")), line(words.pause_after, minutes), line(words.size, size));
  }

  remindToPause() {
    this.settings.paused = true;
    this.set({});
    const button = create("button", "rest", this.data.words.rested);
    button.addEventListener("click", () => { this.breaks.rested(); this.close(); });
    this.open("pause", this.data.words.pause_title, create("p", "", this.data.words.pause_text), button);
  }

  context(neighbours) {
    if (this.over.dataset.kind === "context" && !this.over.hidden && this.shown === neighbours.clip) return;
    this.shown = neighbours.clip;
    const strip = create("div", "strip");
    for (const card of neighbours.cards) {
      const player = new Player({ ...this.settings, paused: false });
      player.visible = true;
      player.show(card, this.data.words);
      const box = create("figure", card.id === neighbours.clip ? "this" : "");
      box.append(player.box, create("figcaption", "", `${card.start.toFixed(1)}–${card.end.toFixed(1)} s ${card.label ? this.name(card.label) : ""}`));
      strip.append(box);
    }
    this.open("context", this.data.words.context, strip);
  }

  leave() {
    this.peers.splice(this.peers.indexOf(this), 1);
    document.removeEventListener("keydown", this.keys, true);
    clearInterval(this.timer);
    cancelAnimationFrame(this.frame);
    this.observer.disconnect();
    for (const view of this.views.values()) view.player.unload();
  }
}

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const home = parentElement.querySelector(".grid");
  let grid = home.posewatchGrid;
  if (!grid || grid.data.who !== data.who) {
    grid?.leave();
    grid = home.posewatchGrid = new Grid(parentElement, data);
  }
  grid.update(data, (value) => setStateValue("outbox", value));
  return () => { if (!home.isConnected) { grid.leave(); home.posewatchGrid = null; } };
}
