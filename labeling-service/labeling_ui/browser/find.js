// The form of filters above the clips that were found. Each change is a new address, so Back takes it back.

class FindForm {
  constructor(grid) {
    this.grid = grid;
    this.box = create("form", "find");
    this.box.addEventListener("submit", (event) => { event.preventDefault(); this.go(); });
    this.box.addEventListener("change", () => this.go());
  }

  show(data) {
    const { find, words } = data;
    const key = JSON.stringify([find.query, find.people, data.classes, words.code, find.problem]);
    if (this.drawn !== key) {
      this.drawn = key;
      const name = this.box.getRootNode().activeElement?.name;
      this.draw(data);
      if (name) this.box.elements[name]?.focus(); // a field that was changed keeps the focus
    }
    const count = find.count > find.most ? fill(words.find_many, { count: find.most }) : fill(words.find_count, { count: find.count });
    this.count.textContent = find.problem || (find.count ? count : words.find_none);
    this.count.classList.toggle("problem", Boolean(find.problem));
  }

  draw({ find, words, classes, marks }) {
    const { query } = find;
    const field = (name, element, text, wide = "") => {
      const label = create("label", wide, undefined);
      element.name = name;
      if (element.type === "checkbox") { element.checked = query[name] === "1"; label.append(element, create("span", "", text)); } else { element.value = query[name] ?? ""; label.append(create("span", "", text), element); }
      return label;
    };
    const select = (choices) => { const element = create("select"); element.append(...choices.map(([value, text]) => Object.assign(create("option", "", text), { value }))); return element; };
    const input = (type, rest = {}) => Object.assign(create("input"), { type, ...rest });
    const any = ["", words.find_any];
    const labels = [any, [OPEN, words.find_open], ...classes.map((one) => [one, one]), ...this.grid.data.all_marks.map((mark) => [mark.label, mark.text])];
    const label = field("label", select(labels), words.class);
    if (query.open === "1") label.querySelector("select").value = OPEN;
    const share = { min: 0, max: 100, step: 1, placeholder: "%" };
    const percent = (name) => { const box = field(name, input("number", share), words[`find_${name}`], "short"); box.querySelector("input").value = query[name] === undefined ? "" : Math.round(100 * query[name]); return box; };
    this.count = create("output", "count");
    this.count.setAttribute("role", "status");
    const clear = create("button", "", words.find_clear);
    clear.type = "button";
    clear.addEventListener("click", () => this.grid.act({ kind: "find", query: {} }));
    const again = create("button", "", words.find_again);
    again.type = "submit";
    const row = (...parts) => { const group = create("div", "fields"); group.append(...parts); return group; };
    this.box.replaceChildren(
      row(label, field("who", select([any, ...find.people.map((who) => [who, who])]), words.find_who),
        field("source", select([any, ...["human", "bulk", "verdict", "import", "model"].map((one) => [one, words[`source_${one}`]])]), words.find_source),
        field("video", input("search", { placeholder: words.find_part }), words.find_video, "wide"),
        ...(find.persons ? [field("person", input("number", { min: 1, step: 1 }), words.find_person, "short")] : []),
        field("since", input("date"), words.find_since), field("until", input("date"), words.find_until)),
      row(field("model", select([any, ...classes.map((one) => [one, one])]), words.find_model), percent("low"), percent("high"),
        field("odd", input("checkbox"), words.find_odd, "check"), field("differ", input("checkbox"), words.find_differ, "check"),
        field("sort", select(["video", "new", "old", "sure", "unsure"].map((one) => [one === "video" ? "" : one, words[`sort_${one}`]])), words.find_sort), clear, again, this.count),
    );
  }

  // The filter as it stands in the form.
  get query() {
    const query = {};
    for (const element of this.box.elements) {
      if (!element.name) continue;
      const value = element.type === "checkbox" ? (element.checked ? "1" : "") : element.value.trim();
      if (value) query[element.name] = ["low", "high"].includes(element.name) ? String(value / 100) : value;
    }
    if (query.label === OPEN) { delete query.label; query.open = "1"; }
    if (query.since || query.until) query.zone = String(-new Date().getTimezoneOffset());
    return query;
  }

  go() { if (this.box.reportValidity()) this.grid.act({ kind: "find", query: this.query }); }
}

const OPEN = "\u0000open"; // no class has this name
