// Many clips at once: ticked by click, by a range, the whole page or the whole filter; then one label for all of them.

class Picks {
  constructor(grid) {
    this.grid = grid;
    this.ids = new Set();
    this.whole = false; // all of the filter, also what is on other pages
    this.anchor = null;
    this.bar = create("div", "picked");
    this.bar.setAttribute("role", "status");
  }

  get size() { return this.whole ? this.grid.data.find.count : this.ids.size; }

  // A box to tick on a card.
  dress(view) {
    if (view.tick) return;
    view.tick = Object.assign(create("input", "tick"), { type: "checkbox", tabIndex: -1 });
    view.tick.addEventListener("click", (event) => { event.stopPropagation(); this.click(view, event); });
    view.player.box.append(view.tick);
  }

  click(view, event) {
    if (event.shiftKey) this.range(view.id);
    else this.toggle(view.id);
  }

  toggle(id) {
    this.whole = false;
    if (!this.ids.delete(id)) this.ids.add(id);
    this.anchor = id;
    this.show();
  }

  // From the clip that was ticked last to this one.
  range(id) {
    const { order } = this.grid;
    const [from, to] = [order.indexOf(this.anchor ?? this.grid.focusId ?? id), order.indexOf(id)].sort((a, b) => a - b);
    this.whole = false;
    for (const one of order.slice(Math.max(0, from), to + 1)) this.ids.add(one);
    this.show();
  }

  page() {
    const all = this.grid.order.every((id) => this.ids.has(id)) && !this.whole;
    this.whole = false;
    this.ids = new Set(all ? [] : this.grid.order);
    this.show();
  }

  all() {
    if (this.grid.data.find.count > this.grid.data.find.most) { this.grid.notices.show(fill(this.grid.data.words.pick_too_many, { most: this.grid.data.find.most }), { kind: "bad" }); return; }
    this.whole = !this.whole;
    this.ids = new Set(this.whole ? this.grid.order : []);
    this.show();
  }

  clear() { this.ids.clear(); this.whole = false; this.anchor = null; this.show(); }

  // After a change, or with new clips on the page.
  show() {
    const { grid } = this;
    for (const id of this.ids) if (!grid.views.has(id)) this.ids.delete(id);
    for (const view of grid.views.values()) {
      this.dress(view);
      if (!view.tick) continue;
      view.tick.checked = this.ids.has(view.id);
      view.tick.setAttribute("aria-label", `${grid.data.words.pick} ${view.about.textContent}`);
      view.root.classList.toggle("ticked", this.ids.has(view.id));
    }
    const { words, find } = grid.data;
    const button = (text, key, run, pressed) => { const element = grid.toolbar.button(text, "", run); element.prepend(create("kbd", "", key)); if (pressed !== undefined) element.setAttribute("aria-pressed", String(pressed)); return element; };
    const drawn = JSON.stringify([words.code, [...this.ids], this.whole, find.count, grid.order.length]);
    if (this.drawn === drawn) return;
    this.drawn = drawn;
    const had = [...this.bar.children].indexOf(this.bar.getRootNode().activeElement);
    const parts = [button(words.pick_page, "r", () => this.page()), button(fill(words.pick_all, { count: Math.min(find.count, find.most) }), "R", () => this.all(), this.whole)];
    if (this.size) parts.push(button(words.pick_none, "Esc", () => this.clear()));
    this.bar.replaceChildren(...parts, create("span", "", this.size ? fill(words.picked, { count: this.size }) : words.pick_help));
    if (had >= 0) this.bar.children[Math.min(had, parts.length - 1)].focus();
  }

  // Give all that are ticked one label, as one act.
  async label(label) {
    const { grid } = this;
    const { words, find } = grid.data;
    const name = grid.name(label);
    let views = [...this.ids].map((id) => grid.views.get(id)).filter(Boolean);
    const unseen = label === grid.data.bad ? [] : views.filter((view) => !["shown", "loading"].includes(view.player.seeable) && !view.seen);
    views = views.filter((view) => !unseen.includes(view));
    const of = (value) => Object.fromEntries(views.map((view) => [view.id, value(view)]));
    const before = of((view) => view.label ?? null);
    const act = { kind: "relabel", label, effects: of(() => label) };
    if (this.whole) {
      const { whole } = find;
      const sure = await grid.dialogs.ask(words.pick_title, fill(words.pick_sure, { count: find.count, label: name }), [[true, fill(words.rest_all, { count: find.count, label: name })], [undefined, words.cancel]]);
      if (!sure) return;
      act.whole = whole;
    } else if (!views.length) {
      grid.notices.show(words.cannot_see, { kind: "bad" });
      return;
    } else Object.assign(act, { clips: views.map((view) => view.id), tickets: of((view) => view.card.ticket) });
    grid.breaks.act();
    grid.history.add(grid.act(act), before);
    for (const view of views) view.show(view.card, grid.data);
    this.clear();
  }

  actions(event) {
    const { grid } = this;
    return {
      t: () => (event.shiftKey ? this.range(grid.focusId) : this.toggle(grid.focusId)), r: () => (event.shiftKey ? this.all() : this.page()),
      ...(this.size && { Escape: () => this.clear() }),
    };
  }
}
