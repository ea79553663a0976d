// The dropdown of a clip. Keys that run through the classes only try them out: Enter saves, Escape or leaving takes
// back. A choice from the open list counts at once.

const TRY_MS = 150;

class Choice {
  constructor(save) {
    this.save = save;
    this.box = create("div", "choice");
    this.select = create("select");
    this.hint = create("span", "hint");
    this.hint.hidden = true;
    this.box.append(this.select, this.hint);
    this.select.addEventListener("keydown", (event) => this.key(event));
    this.select.addEventListener("change", () => {
      if (performance.now() - (this.typed ?? -TRY_MS) < TRY_MS) this.draft(true);
      else this.commit();
    });
    this.select.addEventListener("blur", () => this.revert());
  }

  show(data, label, name, disabled, title) {
    this.words = data.words;
    const key = JSON.stringify([data.classes, data.words.unsure, label]);
    if (this.drawn !== key) {
      this.drawn = key;
      const values = [["", data.words.choose], ...data.classes.map((one) => [one, one]), ...data.marks.map((mark) => [mark.label, mark.text])];
      if (label && !values.some(([value]) => value === label)) values.push([label, `${name(label)} (${data.words.deleted_class})`]);
      this.select.replaceChildren(...values.map(([value, text]) => Object.assign(create("option", "", text), { value })));
      this.draft(false);
    }
    this.saved = label || "";
    if (this.hint.hidden) this.select.value = this.saved;
    this.select.disabled = disabled;
    this.select.setAttribute("aria-label", title);
  }

  key(event) {
    if (event.key === "Enter" && !this.hint.hidden) { event.preventDefault(); this.commit(); return; }
    if (event.key === "Escape" && !this.hint.hidden) { event.preventDefault(); event.stopPropagation(); this.revert(); return; }
    if (event.key !== "Enter" && event.key !== " " && !event.altKey) this.typed = performance.now();
  }

  draft(on) { this.hint.hidden = !on; this.hint.textContent = on ? this.words.enter_saves : ""; }

  commit() {
    this.draft(false);
    const { value } = this.select;
    if (value !== this.saved) this.save(value === "" ? null : value);
  }

  revert() { if (!this.hint.hidden) { this.draft(false); this.select.value = this.saved; } }
}
