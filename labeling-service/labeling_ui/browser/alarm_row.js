// One alarm in the list: what it is, and the verdict that counts.

class AlarmRow {
  constructor(desk, id) {
    this.desk = desk;
    this.id = id;
    this.root = create("article", "alarm");
    this.root.dataset.alarm = id;
    this.root.tabIndex = -1;
    this.head = create("div", "head");
    this.line = create("div", "line");
    this.root.append(this.head, this.line);
    this.root.addEventListener("click", () => desk.focus(this));
    this.root.addEventListener("focusin", () => { if (desk.focusId !== id) desk.focus(this, { dom: false }); });
  }

  show(row, words) {
    this.row = row;
    const said = this.desk.verdictOf(this);
    const kind = row.kind === "alarm" ? "" : words[`one_${row.kind}`];
    this.title = row.person ? `${row.camera} #${row.person}` : row.camera;
    this.when = row.time ? new Date(row.time).toLocaleString(words.code, { dateStyle: "short", timeStyle: "medium" }) : "";
    const chip = create("span", "chip", said ? words[`verdict_${said.verdict}`] : "");
    chip.hidden = !said;
    if (said) this.root.style.setProperty("--mark", this.desk.colour(said.verdict));
    else this.root.style.removeProperty("--mark");
    this.root.classList.toggle("waiting", Boolean(said?.waiting));
    this.root.classList.toggle("gone", Boolean(this.gone));
    this.head.replaceChildren(create("b", "name", this.title), chip);
    const about = [kind, this.when, percent(row.score), said && !said.mine ? said.who : "", this.gone ? words.alarm_gone_short : ""].filter(Boolean);
    this.line.replaceChildren(create("span", "about", about.join(" · ")));
    this.root.setAttribute("aria-label", [this.title, ...about, said ? chip.textContent : words.verdict_open].join(", "));
    this.root.title = this.title;
  }
}
