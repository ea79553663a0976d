// One clip of the grid: its player, its labels and its dropdown.

const COLOURS = ["#2a9d5c", "#d6404f", "#3273dc", "#d98a12", "#8456d6", "#12979c", "#b8477f", "#64748b", "#8a8f12"];

const create = (tag, name, text) => {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text; // never innerHTML: names are untrusted
  return element;
};

class CardView {
  constructor(grid, id) {
    this.grid = grid;
    this.id = id;
    this.root = create("article", "card");
    this.root.dataset.clip = id;
    this.root.tabIndex = -1;
    this.player = new Player(grid.settings);
    this.badge = create("div", "badge");
    this.about = create("div", "about");
    this.select = create("select");
    this.player.box.append(this.badge);
    this.root.append(this.player.box, this.select, this.about);
    this.player.box.addEventListener("click", () => grid.clicked(this));
    this.root.addEventListener("mousedown", () => grid.focus(this, false));
    this.select.addEventListener("change", () => {
      const value = this.select.value;
      this.select.blur();
      grid.label(this, value === "" ? null : value, "dropdown");
    });
    grid.observer.observe(this.root);
    this.root.player = this.player;
  }

  show(card, data) {
    this.card = card;
    const { words } = data;
    const pending = this.grid.outbox.pending(this.id, card.label);
    const label = pending === undefined ? card.label : pending;
    this.label = label;
    this.player.show(card, words);
    this.options(data);
    this.select.value = label || "";
    this.select.setAttribute("aria-label", `${words.label_of} ${card.id}`);
    this.select.disabled = Boolean(card.settled && data.mode !== "review");
    const suggested = !label && card.suggestion;
    this.root.classList.toggle("model", Boolean(suggested));
    this.root.classList.toggle("file", Boolean(label) && card.source === "import" && pending === undefined);
    this.root.classList.toggle("person", Boolean(label) && (card.source !== "import" || pending !== undefined));
    this.root.classList.toggle("waiting", pending !== undefined);
    this.root.classList.toggle("sensitive", data.sensitive.includes(label || card.suggestion || ""));
    this.root.style.setProperty("--mark", this.grid.colour(label || card.suggestion));
    this.badge.replaceChildren(...this.badges(card, label, suggested, pending, words));
    const interval = `${card.start.toFixed(1)}–${card.end.toFixed(1)} s`;
    this.about.textContent = [interval, card.video, card.people === 0 ? words.nobody : "", card.held ? `${words.held} ${card.held}` : ""]
      .filter(Boolean).join(" · ");
    this.about.title = card.video;
  }

  badges(card, label, suggested, pending, words) {
    if (card.votes.length && this.grid.data.mode === "review") {
      return card.votes.map(([who, vote]) => create("span", "vote", `${who}: ${this.grid.name(vote)}`));
    }
    if (suggested) {
      const confidence = card.confidence == null ? "" : ` ${Math.round(card.confidence * 100)} %`;
      return [create("span", "robot", `⌁ ${words.suggested} ${this.grid.name(card.suggestion)}${confidence}`)];
    }
    if (!label) return card.second ? [create("span", "empty", words.second)] : [];
    const from = pending !== undefined ? words.saving : card.mine ? words.you : card.source === "import" ? words.from_file : card.who;
    return [create("span", "chip", this.grid.name(label)), create("span", "who", card.settled ? `${from} ✓` : from)];
  }

  options(data) {
    const key = JSON.stringify([data.classes, data.words.unsure, this.label]);
    if (this.drawn === key) return;
    this.drawn = key;
    const values = [["", data.words.choose], ...data.classes.map((name) => [name, name]), ...data.marks.map((mark) => [mark.label, mark.text])];
    if (this.label && !values.some(([value]) => value === this.label)) values.push([this.label, `${this.grid.name(this.label)} (${data.words.deleted_class})`]);
    this.select.replaceChildren(...values.map(([value, text]) => Object.assign(create("option", "", text), { value })));
  }

  remove() { this.grid.observer.unobserve(this.root); this.player.unload(); this.root.remove(); }
}
