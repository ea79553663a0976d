// The filters of the alarms, and the line of figures. Each change of a filter is a new address, so Back takes it back.

const today = () => { const now = new Date(); return new Date(now - now.getTimezoneOffset() * 60000).toISOString().slice(0, 10); };

class AlarmForm {
  constructor(desk) {
    this.desk = desk;
    this.box = create("details", "filters");
    this.summary = create("summary");
    this.form = create("form", "find");
    this.count = create("output", "count");
    this.count.setAttribute("role", "status");
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.go(); });
    this.form.addEventListener("change", () => this.go());
    this.figures = create("p", "figures");
    this.box.append(this.summary, this.form);
  }

  show(data) {
    const { query, words, cameras, versions, problem } = data;
    const key = JSON.stringify([query, cameras, versions, words.code]);
    const name = this.form.getRootNode().activeElement?.name;
    if (this.drawn !== key && (!name || this.drawn === undefined || JSON.stringify(query) !== this.asked)) {
      this.drawn = key;
      this.asked = JSON.stringify(query);
      this.draw(data);
      if (name) this.form.elements[name]?.focus(); // a field that was changed keeps the focus
    }
    const given = Object.keys(query).filter((one) => one !== "zone");
    if (problem) this.box.open = true;
    this.summary.textContent = given.length ? `${words.filters} (${given.length})` : words.filters;
    const shown = data.turns.length ? words.alarms_shown : words.alarms_count;
    const text = data.rows.length ? fill(shown, { count: data.rows.length }) : data.reading ? "" : words.alarms_none;
    const now = problem || [text, data.reading ? words.alarms_reading : ""].filter(Boolean).join(" · ");
    if (this.count.textContent !== now) this.count.textContent = now;
    this.count.classList.toggle("problem", Boolean(problem));
    this.tell(data);
  }

  draw({ query, words, cameras, versions, kinds, marks }) {
    const field = (name, element, text, wide = "") => {
      const label = create("label", wide);
      element.name = name;
      if (element.tagName === "SELECT" && query[name] && ![...element.options].some((one) => one.value === query[name])) element.append(Object.assign(create("option", "", query[name]), { value: query[name] }));
      element.value = query[name] ?? "";
      label.append(create("span", "", text), element);
      return label;
    };
    const select = (choices) => { const element = create("select"); element.append(...choices.map(([value, text]) => Object.assign(create("option", "", text), { value }))); return element; };
    const input = (type, rest = {}) => Object.assign(create("input"), { type, ...rest });
    const any = ["", words.find_any];
    const percentage = (name) => {
      const label = field(name, input("number", { min: 0, max: 100, step: 1, placeholder: "%" }), words[`find_${name}`], "short");
      label.querySelector("input").value = query[name] === undefined ? "" : Math.round(100 * query[name]);
      return label;
    };
    // A day, and beside it a time of that day, which may stay empty.
    const moment = (name, text) => {
      const [day, time] = [field(name, input("date"), text), field(`${name}_time`, input("time"), words[`alarm_${name}_time`], "short")];
      [day.querySelector("input").value, time.querySelector("input").value] = [(query[name] ?? "").slice(0, 10), (query[name] ?? "").slice(11, 16)];
      return [day, time];
    };
    const clear = create("button", "", words.find_clear);
    clear.type = "button";
    clear.addEventListener("click", () => this.desk.act({ kind: "filter", query: {} }));
    const again = create("button", "", words.find_again);
    again.type = "submit";
    const row = create("div", "fields");
    row.append(
      field("kind", select(kinds.map((kind, i) => [i ? kind : "", words[`kind_${kind}`]])), words.alarm_kind),
      field("verdict", select([any, ["open", words.verdict_open], ...marks.map(({ label, text }) => [label, text])]), words.verdict),
      field("camera", select([any, ...cameras]), words.camera),
      ...moment("since", words.alarm_since), ...moment("until", words.find_until),
      percentage("low"), percentage("high"), field("version", select([any, ...versions]), words.version), clear, again,
    );
    this.form.replaceChildren(row);
  }

  get query() {
    const query = {};
    for (const element of this.form.elements) {
      const value = element.name && element.value.trim();
      if (value) query[element.name] = ["low", "high"].includes(element.name) ? String(value / 100) : value;
    }
    for (const name of ["since", "until"]) {
      const time = query[`${name}_time`];
      delete query[`${name}_time`];
      if (time) query[name] = `${query[name] ?? today()}T${time.slice(0, 5)}`;
    }
    if (query.since || query.until) query.zone = String(-new Date().getTimezoneOffset());
    return query;
  }

  go() { if (this.form.reportValidity()) this.desk.act({ kind: "filter", query: this.query }); }

  // How often the alarms were right, and how much is missed.
  tell({ figures, words }) {
    this.figures.hidden = !figures?.judged;
    if (!figures?.judged) return;
    const range = ([hits, n, low, high]) => ({ hits, n, share: percent(hits / n), low: percent(low), high: percent(high) });
    const cameras = figures.cameras.map(([camera, ...share]) => fill(words.precision_of, { camera, ...range(share) }));
    if (figures.others) cameras.push(fill(words.precision_others, { count: figures.others }));
    const [hits, n] = figures.missed;
    const missed = n < figures.fewest ? fill(words.missed_few, { n, most: figures.fewest }) : fill(words.missed, { ...range(figures.missed), hits });
    const text = [fill(words.judged_count, { count: figures.judged }), cameras.length ? `${words.precision} ${cameras.join(", ")}` : "", missed].filter(Boolean).join(" · ");
    if (this.figures.textContent !== text) this.figures.textContent = text;
  }
}
