// The bar above the clips (labels as brushes, tools) and the one below (what is saved, page turns).

class Toolbar {
  constructor(grid) {
    this.grid = grid;
    this.bar = create("div", "bar");
    this.foot = create("div", "foot");
    this.state = create("span", "state");
    this.state.setAttribute("role", "status");
    for (const box of [this.bar, this.foot]) {
      box.addEventListener("mousedown", (event) => { if (event.target.closest("button")) event.preventDefault(); }); // the clip keeps the focus
    }
  }

  button(text, title, act, name = "") {
    const element = create("button", name, text);
    element.title = title;
    element.type = "button";
    element.addEventListener("click", act);
    return element;
  }

  // Drawn again only when its content changes, so that a button that has the focus keeps it.
  show(data, settings, brush) {
    const { words, classes, marks, mode, turns } = data;
    const { grid } = this;
    const key = JSON.stringify([words.unsure, words.help, classes, marks, mode, turns, data.default, Boolean(data.moment), grid.guide.classes.map((one) => one.label)]);
    if (this.drawn !== key) { this.drawn = key; this.draw(data); }
    for (const [label, element] of this.brushes) element.setAttribute("aria-pressed", String(brush === label));
    this.speed.textContent = `${settings.speed}×`;
    this.skeleton.setAttribute("aria-pressed", String(settings.overlay));
    this.welfare.setAttribute("aria-pressed", String(settings.blur || settings.grey || settings.view === "skeleton"));
    this.pause.setAttribute("aria-pressed", String(settings.paused));
  }

  draw({ words, classes, marks, mode, turns, moment, default: rest }) {
    const { grid } = this;
    const choices = [...classes, ...marks.map((mark) => mark.label)].map((label) => [label, grid.keyFor(label)]);
    this.brushes = choices.map(([label, key]) => {
      const about = grid.guide.of(label);
      const element = this.button(grid.name(label), about ? "" : words.brush_help, () => grid.pick(grid.brush === label ? null : label), "brush");
      if (about) grid.popover.attach(element, label);
      element.prepend(create("kbd", "", key));
      element.style.setProperty("--mark", grid.colour(label));
      return [label, element];
    });
    const faster = () => SPEEDS[(SPEEDS.indexOf(grid.settings.speed) + 1) % SPEEDS.length];
    this.speed = this.button("", words.speed, () => grid.set({ speed: faster() }), "speed");
    this.skeleton = this.button(words.skeleton, "s", () => grid.set({ overlay: !grid.settings.overlay }));
    this.welfare = this.button(words.welfare, words.welfare_help, () => grid.dialogs.welfare(grid.settings, (changes) => grid.set(changes)));
    this.pause = this.button(words.pause, `${words.pause_all} (a)`, () => grid.pauseAll(), "pause");
    const tools = [
      ...(moment ? [this.button(`← ${words.back}`, "Esc", () => grid.moment(), "back")] : []),
      ...(mode === "label" ? [this.button(moment ? fill(words.rest_moment, { label: rest }) : `${words.rest} ${rest}`, words.rest_help, () => grid.labelRest(), "rest")] : []),
      this.button("↶", `${words.undo} (z)`, () => grid.step("undo"), "undo"), this.button("↷", `${words.redo} (y)`, () => grid.step("redo"), "redo"),
      this.pause, this.speed, this.skeleton, this.welfare,
      ...(grid.guide.classes.length ? [this.button(words.guide, "g", () => grid.guide.open())] : []),
      this.button("?", `${words.help} (h)`, () => grid.help(), "ask"),
    ];
    for (const element of [...tools, ...this.brushes.map(([, brush]) => brush)]) if (!/[\p{L}\d]/u.test(element.textContent)) element.setAttribute("aria-label", element.title);
    const groups = [create("div", "group"), create("div", "group")];
    groups[0].append(...this.brushes.map(([, element]) => element));
    groups[1].append(...tools);
    this.bar.replaceChildren(...groups);
    this.foot.replaceChildren(this.state, ...turns.map((to) => this.button(moment ? words[`${to}_moment`] : words[to], to === "next" ? "n" : "p", () => grid.turn(to), `turn ${to}`)));
  }

  // What is saved: this tab's acts, and those that another tab has not sent yet.
  status(outbox, words) {
    const waiting = outbox.labels.length;
    const elsewhere = waiting ? 0 : outbox.elsewhere;
    const text = !waiting && !elsewhere ? words.saved
      : !outbox.kept ? fill(words.volatile, { count: waiting })
        : waiting && !this.grid.connected ? fill(words.not_loaded, { count: waiting })
        : elsewhere ? fill(words.elsewhere, { count: elsewhere })
          : outbox.late ? fill(words.kept, { count: waiting }) : `${words.saving} (${waiting})`;
    if (this.state.textContent !== text) this.state.textContent = text;
    this.state.classList.toggle("busy", waiting + elsewhere > 0);
  }
}
