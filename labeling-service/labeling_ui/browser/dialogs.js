// Dialogs over the page. While one is open no key reaches the page behind it.

class Dialogs {
  constructor(keys, words) {
    this.keys = keys;
    this.words = words;
    this.box = create("dialog", "over");
    this.box.addEventListener("cancel", (event) => { event.preventDefault(); this.close(); });
    this.box.addEventListener("click", (event) => { if (event.target === this.box) this.close(); });
  }

  get kind() { return this.box.open ? this.shown : ""; }

  // `toggles`: keys that close this dialog besides Escape; `keys`: actions of its own, by key; `closed` is called when it closes.
  open(kind, title, parts, { toggles = [], closed = () => {}, keys = () => ({}), wide = false } = {}) {
    this.close();
    const sheet = create("div", "sheet");
    const shut = create("button", "shut", "×");
    shut.type = "button";
    shut.title = this.words.close;
    shut.setAttribute("aria-label", this.words.close);
    shut.addEventListener("click", () => this.close());
    const heading = create("h3", "", title);
    heading.id = "dialog-title";
    this.box.setAttribute("aria-labelledby", heading.id);
    sheet.append(heading, ...parts, shut);
    this.box.replaceChildren(sheet);
    this.shown = kind;
    this.box.classList.toggle("wide", wide);
    this.back = this.box.getRootNode().activeElement;
    this.box.showModal();
    const close = () => this.close();
    const pop = this.keys.push({ element: this.box, actions: (event, key) => ({ ...Object.fromEntries(["Escape", ...toggles].map((one) => [one, close])), ...keys(event, key) }) });
    this.end = () => { pop(); closed(); };
  }

  // The page has moved in the document, where a dialog loses its place over it.
  restore() {
    if (!this.box.open) return;
    const focus = this.box.getRootNode().activeElement;
    this.box.close();
    this.box.showModal();
    focus?.focus({ preventScroll: true });
  }

  close() {
    if (!this.box.open) return;
    this.box.close();
    this.shown = "";
    this.box.replaceChildren();
    const end = this.end;
    this.end = undefined;
    end?.();
    if (this.back?.isConnected) this.back.focus({ preventScroll: true });
  }

  // Ask once: the chosen value, or undefined when the dialog is closed.
  ask(title, text, choices) {
    return new Promise((resolve) => {
      const row = create("div", "choices");
      let chosen;
      for (const [value, label] of choices) {
        const button = create("button", value === choices[0][0] ? "main" : "", label);
        button.type = "button";
        button.addEventListener("click", () => { chosen = value; this.close(); });
        row.append(button);
      }
      this.open("ask", title, [create("p", "", text), row], { closed: () => resolve(chosen) });
    });
  }

  // The keys, and beside them the guidelines.
  help(keys, guide) {
    const list = create("dl");
    for (const [names, text] of keys) list.append(create("dt", "", names), create("dd", "", text));
    const columns = create("div", "columns");
    const about = create("div");
    about.append(create("h4", "part", this.words.guide), ...guide);
    columns.append(list, ...(guide.length ? [about] : []));
    this.open("help", this.words.help, [columns], { toggles: ["h", "?"], wide: guide.length > 0 });
  }

  welfare(settings, set) {
    const { words } = this;
    const line = (text, input) => { const label = create("label"); label.append(input, create("span", "", text)); return label; };
    const box = (checked, change) => { const input = Object.assign(create("input"), { type: "checkbox", checked }); input.addEventListener("change", () => set(change(input.checked))); return input; };
    const number = (type, rest, event, change) => { const input = Object.assign(create("input"), { type, ...rest }); input.addEventListener(event, () => set(change(Number(input.value) || 0))); return input; };
    this.open("welfare", words.welfare, [
      create("p", "", words.welfare_text),
      line(words.view_skeleton, box(settings.view === "skeleton", (on) => ({ view: on ? "skeleton" : "masked" }))),
      line(words.blur, box(settings.blur, (blur) => ({ blur }))),
      line(words.grey, box(settings.grey, (grey) => ({ grey }))),
      line(words.pause_after, number("number", { min: 0, max: 240, value: settings.pause_min }, "change", (pause_min) => ({ pause_min }))),
      line(words.size, number("range", { min: 140, max: 480, step: 10, value: settings.size }, "input", (size) => ({ size }))),
    ]);
  }
}
