// The bar above an alarm: the verdicts with their keys, and the tools; below, what is saved, and page turns.

class AlarmBar extends Toolbar {
  show(data, settings) {
    const { words, marks, turns } = data;
    const desk = this.grid;
    const key = JSON.stringify([words.code, marks.map(({ label }) => desk.keyFor(label)), turns, desk.own.key("c"), desk.hasRaw]);
    if (this.drawn !== key) { this.drawn = key; this.draw(data); }
    for (const [verdict, element] of this.brushes) element.setAttribute("aria-pressed", String(desk.verdictOf(desk.focused)?.verdict === verdict));
    this.speed.textContent = `${settings.speed}×`;
    this.skeleton.setAttribute("aria-pressed", String(settings.overlay));
    this.welfare.setAttribute("aria-pressed", String(settings.blur || settings.grey || settings.view === "skeleton"));
    this.pause.setAttribute("aria-pressed", String(settings.paused));
    this.raw?.setAttribute("aria-pressed", String(Boolean(desk.player?.unmasked)));
  }

  draw({ words, marks, turns }) {
    const desk = this.grid;
    this.brushes = marks.map(({ label, text }) => {
      const element = this.button(text, "", () => desk.judge(label), "brush");
      element.prepend(create("kbd", "", desk.keyFor(label)));
      element.style.setProperty("--mark", desk.colour(label));
      return [label, element];
    });
    const faster = () => SPEEDS[(SPEEDS.indexOf(desk.settings.speed) + 1) % SPEEDS.length];
    this.speed = this.button("", words.speed, () => desk.set({ speed: faster() }), "speed");
    this.skeleton = this.button(words.skeleton, "s", () => desk.set({ overlay: !desk.settings.overlay }));
    this.welfare = this.button(words.welfare, words.welfare_help, () => desk.dialogs.welfare(desk.settings, (changes) => desk.set(changes)));
    this.pause = this.button(words.pause, `${words.pause_all} (a)`, () => desk.pauseAll(), "pause");
    this.raw = desk.hasRaw ? this.button(words.scene_raw, `${words.scene_raw_how} (r)`, () => desk.lookRaw(), "raw") : null;
    const tools = [
      ...(this.raw ? [this.raw] : []),
      this.button(words.note, "c", () => desk.note(), "note-button"),
      this.button("↶", `${words.undo} (z)`, () => desk.step("undo"), "undo"), this.button("↷", `${words.redo} (y)`, () => desk.step("redo"), "redo"),
      this.pause, this.speed, this.skeleton, this.welfare,
      this.button("?", `${words.help} (h)`, () => desk.help(), "ask"),
    ];
    for (const element of tools) if (!/[\p{L}\d]/u.test(element.textContent)) element.setAttribute("aria-label", element.title);
    const groups = [create("div", "group"), create("div", "group")];
    groups[0].append(...this.brushes.map(([, element]) => element));
    groups[1].append(...tools);
    this.bar.replaceChildren(...groups);
    this.foot.replaceChildren(this.state, ...turns.map((to) => this.button(words[to], to === "next" ? "n" : "p", () => desk.turn(to), `turn ${to}`)));
  }
}
