// The guidelines: what each class means, with example clips; and the first visit, which explains the page.

class Guide {
  constructor(grid) {
    this.grid = grid;
    this.name = `posewatch guide ${grid.data.who}`;
  }

  get classes() { return this.grid.data.guide?.classes || []; }
  get version() { return this.grid.data.guide?.version || ""; }
  of(label) { return this.classes.find((one) => one.label === label); }

  // The first visit opens by itself; guidelines that have changed since are told.
  visit() {
    if (this.grid.data.mode !== "label" || !this.grid.order.length) return;
    if (this.known === undefined) try { this.known = localStorage.getItem(this.name); } catch { this.known = this.version; }
    if (this.known === this.version) return;
    const first = this.known === null;
    this.remember();
    if (first) this.welcome();
    else if (this.version) {
      const button = create("button", "", this.grid.data.words.guide);
      button.type = "button";
      button.addEventListener("click", () => this.open());
      this.grid.notices.show(this.grid.data.words.guide_changed, { kind: "news", parts: [button], lasts: 30000 });
    }
  }

  remember() {
    this.known = this.version;
    try { localStorage.setItem(this.name, this.version); } catch { /* told again at the next visit */ }
  }

  // One section per class: its key and name, its text, its examples.
  sections(classes = this.classes) {
    return classes.map(({ label, text, examples }) => {
      const section = create("section", "class");
      section.style.setProperty("--mark", this.grid.colour(label));
      const heading = create("h4", "", label);
      const key = this.grid.keyFor(label);
      if (key) heading.prepend(create("kbd", "", key));
      section.append(heading);
      if (text) section.append(create("p", "text", text));
      if (examples.length) section.append(this.grid.strip(examples.map((card) => ({ ...card, label: null }))));
      return section;
    });
  }

  open() {
    const { words } = this.grid.data;
    const parts = this.classes.length ? this.sections() : [create("p", "", words.guide_none)];
    this.grid.dialogs.open("guide", words.guide, parts, { toggles: ["g"], wide: true });
  }

  welcome() {
    const { words, sensitive, default: rest, marks } = this.grid.data;
    const keys = this.grid.data.classes.slice(0, 9).map((label, i) => `${i + 1} ${label}`).join(" · ");
    const steps = create("ol", "steps");
    const [unsure, bad] = marks.map((mark) => mark.text);
    const [first, ...others] = words.welcome_steps;
    const persons = [...this.grid.views.values()].some((view) => view.card.person);
    for (const step of [first, ...(persons ? [words.welcome_person] : []), ...others]) steps.append(create("li", "", fill(step, { keys, rest, unsure, bad })));
    const foot = create("div", "sheet-foot");
    const start = create("button", "main", words.welcome_start);
    start.type = "button";
    start.addEventListener("click", () => this.grid.dialogs.close());
    foot.append(start);
    const veil = sensitive.length ? [this.veil()] : [];
    const guide = this.classes.length ? [create("h4", "part", words.guide), ...this.sections()] : [];
    this.grid.dialogs.open("welcome", words.welcome_title, [steps, ...veil, ...guide, foot], { wide: true });
    start.focus({ preventScroll: true });
  }

  // What is hidden of sensitive clips, why, and the choice how much to see.
  veil() {
    const { words, sensitive } = this.grid.data;
    const { settings } = this.grid;
    const box = create("fieldset", "veil-choice");
    box.append(create("legend", "", words.veil_title), create("p", "", fill(words.veil_text, { classes: sensitive.join(", ") })));
    const now = settings.view === "skeleton" ? "skeleton" : settings.blur || settings.grey ? "soft" : "sharp";
    for (const [value, text, changes] of [
      ["soft", words.veil_soft, { view: "masked", blur: true, grey: true }],
      ["skeleton", words.veil_skeleton, { view: "skeleton" }],
      ["sharp", words.veil_sharp, { view: "masked", blur: false, grey: false }],
    ]) {
      const input = Object.assign(create("input"), { type: "radio", name: "veil", value, checked: value === now });
      input.addEventListener("change", () => this.grid.set(changes));
      const line = create("label");
      line.append(input, create("span", "", text));
      box.append(line);
    }
    return box;
  }
}

// The line above the clips that says what is hidden and how to see it, until it is closed.
class Veil {
  constructor(grid) {
    this.grid = grid;
    this.box = create("div", "veil");
    this.text = create("span");
    this.shut = create("button", "shut", "×");
    this.shut.type = "button";
    this.shut.addEventListener("click", () => grid.set({ told: true }));
    this.box.append(this.text, this.shut);
  }

  show({ words, sensitive }, settings) {
    const bones = settings.view === "skeleton";
    this.box.hidden = settings.told || !sensitive.length || !(bones || settings.blur || settings.grey);
    this.text.textContent = `${bones ? words.veil_bones : words.veil_line} ${words.veil_how}`;
    this.shut.title = words.close;
    this.shut.setAttribute("aria-label", words.close);
  }
}
