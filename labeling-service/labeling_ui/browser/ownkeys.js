// Keys of one's own: which key stands for which. They are kept in this browser for each person, like the other settings.

class OwnKeys {
  constructor(who) {
    this.name = `posewatch keys ${who}`;
    try { this.map = JSON.parse(localStorage.getItem(this.name)) || {}; } catch { this.map = {}; }
  }

  // What the page does at a key.
  meaning(key) { return this.map[key] ?? key; }

  // The key that does it, "" where none does.
  key(meaning) {
    const own = Object.keys(this.map).find((key) => this.map[key] === meaning);
    return own ?? (meaning in this.map ? "" : meaning);
  }

  // Give `key` this meaning. What it did before goes to the key that had the meaning.
  set(key, meaning) {
    const before = this.key(meaning);
    const was = this.meaning(key);
    this.map[key] = meaning;
    if (before && before !== key && before.length === 1) this.map[before] = was;
    for (const one of Object.keys(this.map)) if (this.map[one] === one) delete this.map[one];
    this.store();
  }

  clear() { this.map = {}; this.store(); }

  get changed() { return Object.keys(this.map).length > 0; }

  store() {
    try {
      if (this.changed) localStorage.setItem(this.name, JSON.stringify(this.map));
      else localStorage.removeItem(this.name);
    } catch { /* kept until the page closes */ }
  }

  // The dialog in which they are changed.
  open(grid) {
    const { words, classes } = grid.data;
    const rows = [...classes.map((label, i) => [classKey(i), label]), ...grid.data.all_marks.map((mark) => [mark.key, mark.text]), ...Object.entries(words.own_names)];
    const table = create("div", "own");
    const status = create("p", "how");
    status.setAttribute("role", "status");
    let wanted;
    const draw = () => {
      const focused = [...table.querySelectorAll("button")].indexOf(table.getRootNode().activeElement);
      table.replaceChildren(...rows.map(([meaning, text]) => {
        const row = create("div", "row");
        const button = create("button", "", this.key(meaning) || "–");
        button.type = "button";
        button.setAttribute("aria-label", fill(words.own_change, { text, key: this.key(meaning) || "–" }));
        button.setAttribute("aria-pressed", String(wanted === meaning));
        button.addEventListener("click", () => { wanted = meaning; draw(); });
        row.append(create("span", "", text), button);
        return row;
      }));
      if (focused >= 0) table.querySelectorAll("button")[focused].focus();
      const text = rows.find(([meaning]) => meaning === wanted)?.[1];
      status.textContent = text ? fill(words.own_press, { text }) : words.own_text;
      grid.toolbar.drawn = undefined;
      grid.toolbar.show(grid.data, grid.settings, grid.brush);
    };
    const restore = create("button", "", words.own_restore);
    restore.type = "button";
    restore.addEventListener("click", () => { this.clear(); wanted = undefined; draw(); });
    draw();
    const keys = (event) => {
      const key = keyOf(event);
      if (!wanted) return {};
      const take = () => { this.set(key, wanted); wanted = undefined; draw(); };
      return { Escape: () => { wanted = undefined; draw(); }, ...(/^[a-z1-9]$/.test(key) && { [this.meaning(key)]: take }) };
    };
    grid.dialogs.open("own", words.own_keys, [status, table, restore], { keys });
  }
}

// The keys of a class: a digit, with a 0 before it for the second nine, two for the third.
const classKey = (i) => "0".repeat(Math.floor(i / 9)) + String((i % 9) + 1);
