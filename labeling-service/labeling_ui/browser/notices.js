// Messages that go away by themselves: what an undo did, what was restored, why an act was refused.

class Notices {
  constructor(words) {
    this.words = words;
    this.home = create("div", "notices");
    this.home.setAttribute("role", "status");
    this.home.setAttribute("aria-live", "polite");
  }

  // Show a line of text, with small players of clips that are not on the page. A plain one replaces the last plain one.
  show(text, { kind = "", parts = [], lasts = 9000 } = {}) {
    if (!kind) this.home.querySelector(".notice.plain")?.remove();
    const notice = create("div", `notice ${kind || "plain"}`);
    const close = create("button", "shut", "×");
    close.type = "button";
    close.title = this.words.close;
    close.setAttribute("aria-label", this.words.close);
    const remove = () => { clearTimeout(timer); notice.remove(); };
    close.addEventListener("click", remove);
    notice.append(create("span", "", text), ...parts, close);
    this.home.append(notice);
    while (this.home.children.length > 4) this.home.firstChild.remove();
    const timer = setTimeout(remove, lasts);
    return remove;
  }

  // One message as long as something lasts; "" ends it.
  hold(name, text) {
    this.held ||= {};
    if (this.held[name]?.text === text) return;
    this.held[name]?.remove();
    this.held[name] = text ? { text, remove: this.show(text, { kind: "held", lasts: 2 ** 31 - 1 }) } : undefined;
  }
}
