// One clip of the grid: its player, its labels and its dropdown.

const SEEN_MS = 300;

class CardView {
  constructor(grid, id) {
    this.grid = grid;
    this.id = id;
    this.root = create("article", "card");
    this.root.dataset.clip = id;
    this.root.tabIndex = -1;
    this.player = new Player(grid.settings);
    this.player.waits = () => grid.later.has(id);
    this.player.renew = () => grid.renew();
    this.badge = create("div", "badge");
    this.about = create("div", "about");
    this.choice = new Choice((value) => grid.label(this, value, "dropdown"));
    this.around = create("div", "around");
    this.player.box.append(this.badge, this.around);
    this.line = create("div", "line");
    this.talk = create("button", "talk");
    this.talk.type = "button";
    this.talk.tabIndex = -1;
    this.talk.addEventListener("click", () => grid.comments.open(this));
    this.said = create("div");
    this.line.append(this.about, this.talk);
    this.root.append(this.player.box, this.choice.box, this.line, this.said);
    this.player.box.addEventListener("click", (event) => grid.clicked(this, event));
    this.root.addEventListener("mousedown", (event) => {
      grid.focus(this, { scroll: false, dom: event.target.tagName !== "SELECT" });
      if (event.target.tagName !== "SELECT") event.preventDefault(); // the focus is where it belongs
    });
    this.root.addEventListener("focusin", () => { if (grid.focusId !== id) grid.focus(this, { dom: false }); });
    grid.near.observe(this.root);
    grid.inView.observe(this.player.box);
    this.root.view = this.player.box.view = this;
  }

  show(card, data) {
    this.card = card;
    const { words } = data;
    const pending = this.grid.outbox.pending(this.id);
    const label = pending === undefined ? card.label : pending;
    this.label = label;
    this.player.show(card, words);
    this.choice.show(data, label, (one) => this.grid.name(one), Boolean(card.settled && !this.grid.decides), `${words.label_of} ${card.id}`);
    const suggested = !label && card.suggestion;
    this.root.classList.toggle("model", Boolean(suggested));
    this.root.classList.toggle("file", Boolean(label) && card.source === "import" && pending === undefined);
    this.root.classList.toggle("person", Boolean(label) && (card.source !== "import" || pending !== undefined));
    this.root.classList.toggle("waiting", pending !== undefined);
    this.root.classList.toggle("sensitive", data.sensitive.includes(label || card.suggestion || ""));
    this.root.style.setProperty("--mark", this.grid.colour(label || card.suggestion));
    this.badge.replaceChildren(...this.badges(card, label, suggested, pending, words));
    if (card.person && !this.around.children.length) this.tools(words);
    this.about.textContent = [card.person ? `#${card.person}` : "", interval(card), card.video, card.people === 0 ? words.nobody : "", card.held ? `${words.held} ${card.held}` : ""]
      .filter(Boolean).join(" · ");
    this.about.title = card.shown || card.video;
    this.talking(words, data.mode === "review");
    this.root.setAttribute("aria-label", [this.about.textContent, label ? this.grid.name(label) : ""].filter(Boolean).join(", "));
  }

  // What there is around a clip of one person: the scene, and everybody else.
  tools(words) {
    for (const [text, key, act] of [[words.scene, "w", () => this.grid.ask(this, true)], [words.everybody, "m", () => this.grid.moment(this)]]) {
      const button = create("button", "", text);
      Object.assign(button, { type: "button", title: `${text} (${key})`, tabIndex: -1 });
      button.addEventListener("click", (event) => { event.stopPropagation(); act(); });
      this.around.append(button);
    }
  }

  // The number of comments; a reviewer reads them on the card.
  talking(words, review) {
    const count = this.grid.comments.of(this).length;
    this.talk.hidden = !count;
    this.talk.replaceChildren(bubble(), String(count));
    this.talk.title = fill(words.comments_count, { count });
    this.talk.setAttribute("aria-label", `${this.talk.title} (c)`);
    this.said.replaceChildren(...(review && count ? [this.grid.comments.list(this)] : []));
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
    const differ = new Set(card.votes.map(([, vote]) => vote)).size > 1;
    const parts = [create("span", "chip", this.grid.name(label))];
    if (!differ || card.settled || pending !== undefined) parts.push(create("span", "who", card.settled ? `${from} ✓` : from));
    if (card.suggestion && card.suggestion !== label) parts.push(create("span", "otherwise", `⌁ ${this.grid.name(card.suggestion)} ${Math.round(card.confidence * 100)} %`));
    if (differ) parts.push(...card.votes.map(([who, vote]) => create("span", "vote", `${who}: ${this.grid.name(vote)}`)));
    return parts;
  }

  // Whether the person has had the clip before their eyes for a moment, and it played.
  look(now) {
    if (this.seen) return;
    if (!this.visible || this.player.seeable !== "shown") { this.since = undefined; return; }
    this.since ??= now;
    this.seen = now - this.since >= SEEN_MS;
  }

  remove() {
    this.grid.near.unobserve(this.root);
    this.grid.inView.unobserve(this.player.box);
    this.player.unload();
    this.root.remove();
  }
}
