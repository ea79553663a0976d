// Comments on one clip: a dialog to read and write them, and, for a lead, to make the clip an example of its class.

class Comments {
  constructor(grid) {
    this.grid = grid;
    this.drafts = new Map();
  }

  // [who, when, text] of all comments on a clip, with those on their way (when is "").
  of(view) {
    const waiting = this.grid.outbox.acts.filter((act) => act.kind === "comment" && act.clip === view.id);
    return [...(view.card.comments || []), ...waiting.map((act) => [this.grid.data.words.you, "", act.text])];
  }

  list(view) {
    const { words } = this.grid.data;
    const list = create("ul", "comments");
    for (const [who, when, text] of this.of(view)) {
      const row = create("li");
      row.append(create("b", "", who), create("span", "when", when ? new Date(when).toLocaleString(words.code, { dateStyle: "medium", timeStyle: "short" }) : words.saving), create("p", "text", text));
      list.append(row);
    }
    return list;
  }

  open(view) {
    if (!view) return;
    const { words } = this.grid.data;
    this.id = view.id;
    this.body = create("div", "said");
    const text = create("textarea");
    text.rows = 3;
    text.maxLength = 2000;
    text.placeholder = words.comment_placeholder;
    text.setAttribute("aria-label", words.comment_placeholder);
    text.value = this.drafts.get(view.id) || "";
    text.addEventListener("input", () => this.drafts.set(view.id, text.value));
    const save = create("button", "main", words.comment_save);
    save.type = "button";
    const send = () => {
      const said = storable(text.value.trim());
      if (!said) { text.focus(); return; }
      this.grid.act({ kind: "comment", clip: view.id, ticket: view.card.ticket, text: said, about: this.grid.title(view.card) });
      this.drafts.delete(view.id);
      text.value = "";
      this.refresh();
      view.show(view.card, this.grid.data);
    };
    save.addEventListener("click", send);
    text.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); send(); } });
    const row = create("div", "choices");
    this.example = create("button");
    this.example.type = "button";
    this.example.addEventListener("click", () => this.toggle());
    row.append(save, this.example);
    this.grid.dialogs.open("comments", `${words.comments} · ${this.grid.title(view.card)}`, [this.body, text, row, create("p", "how", words.comment_how)], { closed: () => { this.id = undefined; } });
    this.refresh();
    text.focus();
  }

  // The class of which this clip is an example now.
  exampleOf(id) { return this.grid.guide.classes.find((one) => one.examples.some((card) => card.id === id))?.label; }

  toggle() {
    const view = this.grid.views.get(this.id);
    if (!view) return;
    const label = this.exampleOf(view.id) ? null : view.label;
    this.grid.act({ kind: "example", clip: view.id, ticket: view.card.ticket, label, about: this.grid.title(view.card) });
    this.example.disabled = true;
  }

  refresh() {
    const view = this.grid.views.get(this.id);
    if (!view || this.grid.dialogs.kind !== "comments") return;
    const { words, classes, may_guide } = this.grid.data;
    this.body.replaceChildren(this.of(view).length ? this.list(view) : create("p", "", words.no_comments));
    const shown = this.exampleOf(view.id);
    this.example.hidden = !may_guide || !(shown || classes.includes(view.label));
    this.example.textContent = fill(shown ? words.example_end : words.example_make, { label: shown || view.label });
    this.example.disabled = this.grid.outbox.acts.some((act) => act.kind === "example" && act.clip === view.id);
  }
}
