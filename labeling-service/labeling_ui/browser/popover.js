// What a class means, beside its button while the pointer or the keyboard's focus is on it.

const HOVER_MS = 350;

class Popover {
  constructor(grid) {
    this.grid = grid;
    this.box = create("div", "popover");
    this.box.id = "class-guide";
    this.box.setAttribute("role", "tooltip");
    this.box.hidden = true;
    // it stays while the pointer is on it, so that its examples can be looked at
    this.box.addEventListener("pointerenter", () => clearTimeout(this.timer));
    this.box.addEventListener("pointerleave", () => this.later(() => this.hide()));
  }

  attach(button, label) {
    button.addEventListener("pointerenter", () => this.later(() => this.show(button, label)));
    button.addEventListener("pointerleave", () => this.later(() => this.hide()));
    button.addEventListener("focus", () => { if (button.matches(":focus-visible")) this.show(button, label); });
    button.addEventListener("blur", () => this.hide());
    button.addEventListener("click", () => this.hide());
  }

  later(act) { clearTimeout(this.timer); this.timer = setTimeout(act, HOVER_MS); }

  show(button, label) {
    clearTimeout(this.timer);
    const about = this.grid.guide.of(label);
    if (!about || !button.isConnected || this.grid.dialogs.kind) return;
    this.hide();
    this.box.replaceChildren(...this.grid.guide.sections([about]), create("p", "how", this.grid.data.words.brush_help));
    this.box.hidden = false;
    this.button = button;
    button.setAttribute("aria-describedby", this.box.id);
    const { left, bottom } = button.getBoundingClientRect();
    this.box.style.left = `${Math.max(8, Math.min(left, innerWidth - this.box.offsetWidth - 16))}px`;
    this.box.style.top = `${bottom + 6}px`;
  }

  hide() {
    clearTimeout(this.timer);
    this.button?.removeAttribute("aria-describedby");
    this.button = undefined;
    this.box.hidden = true;
    this.box.replaceChildren();
  }
}
