// The page Alarms: the list, newest first, the clip of the alarm that has the focus, and verdicts by keys. Streamlit
// calls the default export with every new set of data; between them the page asks for news itself.

const SPEEDS = [0.25, 0.5, 1, 2, 4];
const POLL_MS = 1000;
const AHEAD = 2; // alarms that are loaded before they are looked at
const SHIFT_MS = 350;
const COLOURS_OF = { true: 0, false: 1, unsure: 3, not_a_person: 4 };

class AlarmDesk {
  constructor(root, data) {
    this.data = data;
    this.settings = new Settings(data.who, data.welfare);
    this.outbox = Outbox.of(data.who);
    this.breaks = new Breaks(data.who);
    this.own = new OwnKeys(data.who);
    this.history = new ActHistory();
    this.rows = new Map();
    this.order = [];
    this.players = new Map();
    this.notes = new Map(); // begun, and not said yet
    this.refused = new Set();
    this.home = root.querySelector(".grid");
    this.home.classList.add("alarms");
    this.peers = document.posewatchGrids ||= [];
    this.peers.push(this);
    this.keys = new Keys(() => this.peers.filter((one) => one.home.isConnected).at(-1) === this, this.own);
    this.keys.push({ actions: (event, key) => this.actions(event, key) });
    this.dialogs = new Dialogs(this.keys, data.words);
    this.notices = new Notices(data.words);
    this.toolbar = new AlarmBar(this);
    this.form = new AlarmForm(this);
    this.veil = new Veil(this);
    this.curve = new Curve();
    this.title = create("h4", "title");
    this.stage = create("div", "screens");
    this.stage.addEventListener("click", () => this.player?.toggle());
    this.facts = create("p", "facts");
    this.said = create("p", "said-of");
    this.list = create("div", "alarm-list");
    const left = create("section", "stage");
    left.append(this.title, this.stage, this.curve.box, this.facts, this.said);
    this.desk = create("div", "desk");
    this.desk.append(left, this.list);
    const room = create("div", "room");
    room.append(this.toolbar.bar, this.veil.box, this.desk);
    this.home.replaceChildren(this.form.box, this.form.count, this.form.figures, room, this.toolbar.foot, this.dialogs.box, this.notices.home);
    this.ticks = 0;
    this.timer = setInterval(() => this.tick(), POLL_MS);
    this.seen = () => { if (!document.hidden) this.poll(); };
    document.addEventListener("visibilitychange", this.seen);
    const draw = (now) => { this.draw(now); this.frame = requestAnimationFrame(draw); };
    this.frame = requestAnimationFrame(draw);
  }

  get focused() { return this.rows.get(this.focusId); }
  get player() { return this.players.get(this.focusId); }

  update(data, post) {
    const newPage = data.page !== this.data.page || !this.order.length;
    const former = this.order;
    const top = former.length && this.rows.get(former[0]).row.time;
    this.data = data;
    this.dialogs.words = this.notices.words = data.words;
    this.outbox.post = post;
    const undone = new Set(this.outbox.acts.filter((act) => act.kind === "unjudge" && !act.alarm).map((act) => act.id));
    const asked = this.outbox.acts.some((act) => act.id === data.raw?.id);
    this.outbox.done([...data.saved, ...data.refused.map((one) => one.id)]);
    this.order = data.rows.map((row) => row.id);
    const wanted = new Set(this.order);
    const had = this.list.contains(this.home.getRootNode().activeElement);
    for (const [id, row] of this.rows) {
      if (wanted.has(id)) continue;
      if (!newPage && !data.away) this.lose(row); // whatever is on the page stays on it
      row.root.remove();
      this.rows.delete(id);
    }
    data.rows.forEach((one, i) => {
      let row = this.rows.get(one.id);
      if (!row) { row = new AlarmRow(this, one.id); this.rows.set(one.id, row); }
      if (this.list.children[i] !== row.root) this.list.insertBefore(row.root, this.list.children[i] || null);
      row.show(one, data.words);
    });
    const news = newPage ? [] : this.order.filter((id) => !former.includes(id) && this.rows.get(id).row.time > top);
    for (const id of news) this.rows.get(id).root.classList.add("news");
    if (news.length) this.notices.show(fill(data.words.alarms_new, { count: news.length }));
    if (newPage) this.focus(this.rows.get(data.start) || this.open() || this.rows.get(this.order[0]), { dom: had });
    else if (!wanted.has(this.focusId)) this.refocus(former, had);
    this.answer(data, undone);
    if (asked) this.players.get(data.raw.alarm)?.unmask(data.raw.url);
    this.notices.hold("kept", data.kept ? data.words.kept_server : "");
    this.notices.hold("store", data.away ? data.words.store_away : "");
    this.desk.hidden = !this.order.length;
    this.show();
    if (!this.connected && post) { this.connected = true; this.outbox.send(); this.adopt(); }
  }

  // What the page shows besides the list.
  show() {
    const { data } = this;
    this.form.show(data);
    this.toolbar.show(data, this.settings);
    this.load();
    this.look();
    this.tell();
    this.status();
  }

  status() { this.toolbar.status(this.outbox, this.data.words); }

  // The server's answers: what was refused and why, and what was taken back by the undos that did not say of what.
  // Those are known by the outbox, which outlives this desk when Streamlit mounts the page anew.
  answer(data, undone) {
    for (const one of data.refused.filter(({ id }) => !this.refused.has(id))) this.notices.show(one.message, { kind: "bad", lasts: 20000 });
    this.history.forget(data.refused.map((one) => one.id));
    this.refused = new Set(data.refused.map((one) => one.id));
    for (const { id, alarm, camera } of data.judged.filter((one) => undone.has(one.id))) {
      const row = this.rows.get(alarm);
      if (row) this.focus(row);
      this.notices.show(`${data.words.undo_done} ${row ? `${row.title} · ${row.when}` : camera}`);
    }
  }

  colour(verdict) { return verdict ? classColour(COLOURS_OF[verdict] ?? 7) : "transparent"; }

  keyFor(verdict) { return this.own.key(this.data.marks.find((mark) => mark.label === verdict)?.key ?? ""); }

  // The verdict of a row once all acts are saved.
  verdictOf(row) {
    if (!row?.row) return null;
    const pending = this.outbox.pending(row.id);
    if (pending === undefined) return row.row.said;
    return pending ? { verdict: pending, mine: true, waiting: true, note: "" } : null;
  }

  // The next row without a verdict, below the focus and then above it.
  open() {
    const at = this.order.indexOf(this.focusId);
    const ids = [...this.order.slice(at + 1), ...this.order.slice(0, Math.max(0, at))];
    return ids.map((id) => this.rows.get(id)).find((row) => !row.gone && !this.verdictOf(row));
  }

  // The focused alarm has gone from the list: nobody has seen the next one yet, so what is pressed now judges nothing.
  refocus(former, dom) {
    const at = former.indexOf(this.focusId);
    this.shifted = performance.now();
    const left = [...former.slice(at + 1), ...former.slice(0, Math.max(0, at)).reverse()].find((id) => this.rows.has(id));
    this.focusId = undefined;
    this.focus(this.rows.get(left ?? this.order[0]), { dom });
  }

  focus(row, { dom = true } = {}) {
    if (!row) return;
    const before = this.player;
    this.focusId = row.id;
    for (const other of this.rows.values()) {
      other.root.classList.toggle("focus", other === row);
      other.root.tabIndex = other === row ? 0 : -1;
      if (other === row) other.root.setAttribute("aria-current", "true");
      else other.root.removeAttribute("aria-current");
    }
    row.root.classList.remove("news");
    const { list } = this; // it scrolls, and the page does not: the clip stays in view
    if (row.root.offsetTop < list.scrollTop) list.scrollTop = row.root.offsetTop;
    else if (row.root.offsetTop + row.root.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = row.root.offsetTop + row.root.offsetHeight - list.clientHeight;
    if (dom) row.root.focus({ preventScroll: true });
    if (before && before !== this.player) before.box.classList.remove("revealed");
    this.load();
    this.tell();
    this.toolbar.show(this.data, this.settings);
  }

  move(by) {
    const to = Math.min(this.order.length - 1, Math.max(0, this.order.indexOf(this.focusId) + by));
    this.focus(this.rows.get(this.order[to]));
  }

  // Load the focused alarm and those that come next; the others are unloaded.
  load() {
    const row = this.focused;
    if (!row) return;
    const at = this.order.indexOf(row.id);
    const next = this.order.slice(at + 1).filter((id) => !this.verdictOf(this.rows.get(id))).slice(0, AHEAD);
    const wanted = [row.id, ...new Set([...next, this.order[at + 1]])].filter(Boolean);
    for (const [id, player] of this.players) if (!wanted.includes(id)) { player.unload(); player.box.remove(); this.players.delete(id); }
    for (const id of wanted) {
      if (!this.players.has(id)) {
        const player = new AlarmPlayer(this, this.rows.get(id).row);
        this.players.set(id, player);
        this.stage.append(player.box);
      }
      const player = this.players.get(id);
      const here = id === row.id;
      if (here === player.here) continue;
      player.here = here;
      player.box.hidden = !here;
      player.held = here ? undefined : true;
      if (here) this.show_curve(player);
      player.refresh();
    }
  }

  show_curve(player) {
    if (player.about) this.curve.show(player.about, this.data.words);
    else this.curve.box.hidden = true;
  }

  // A record has come, or is not there.
  opened(player, expired = false) {
    const row = [...this.players].find(([, one]) => one === player)?.[0];
    if (expired) { this.lookAgain(); return; }
    if (player.gone && this.rows.has(row)) this.lose(this.rows.get(row));
    if (player !== this.player) return;
    this.show_curve(player);
    this.toolbar.show(this.data, this.settings);
    this.tell();
  }

  // Retention has deleted it.
  lose(row) {
    if (row.gone) return;
    row.gone = true;
    row.show(row.row, this.data.words);
    if (row === this.focused) this.notices.show(`${row.title} · ${row.when}: ${this.data.words.alarm_gone}`, { kind: "bad", lasts: 20000 });
    if (row === this.focused) this.tell();
  }

  draw(now) {
    const { player } = this;
    if (!player) return;
    player.draw(now);
    if (player.about?.times.length) this.curve.at(player.about.times[player.frame(now)]);
  }

  tell() {
    const { focused: row, player } = this;
    if (!row) return;
    const { words } = this.data;
    const title = [row.title, row.when].filter(Boolean).join(" · ");
    if (this.title.textContent !== title) this.title.textContent = title;
    const about = player?.about;
    const facts = [
      row.row.kind === "alarm" ? "" : words[`one_${row.row.kind}`], about?.label, row.row.rule ? words[`rule_${row.row.rule}`] || row.row.rule : "", `${words.score} ${percent(row.row.score)}`,
      row.row.length ? `${row.row.length.toFixed(1)} s` : "", row.row.version ? `${words.version} ${row.row.version}` : "",
      about?.times_raised > 1 ? fill(words.raised_times, { count: about.times_raised }) : "", about?.reason ? words[`reason_${about.reason.replace(" ", "_")}`] || about.reason : "",
      player?.settings.view === "skeleton" && about && !about.url ? words.only_skeletons : "", row.gone ? words.alarm_gone_short : "",
    ];
    this.facts.textContent = facts.filter(Boolean).join(" · ");
    const said = this.verdictOf(row);
    const by = said && (said.waiting ? words.saving : said.mine ? words.you : said.who);
    this.said.textContent = said ? `${words[`verdict_${said.verdict}`]} · ${by}${said.note ? ` · “${said.note}”` : ""}` : words.verdict_open;
    this.said.classList.toggle("none", !said);
    this.said.style.setProperty("--mark", this.colour(said?.verdict));
  }

  // Judge the focused alarm and go on to the next one.
  judge(verdict, note) {
    const { focused: row, player } = this;
    const { words } = this.data;
    if (!row) return false;
    if (performance.now() - (this.shifted ?? -SHIFT_MS) < SHIFT_MS) { this.notices.show(words.not_yet); return false; }
    if (row.gone) { this.notices.show(words.alarm_gone, { kind: "bad" }); return false; }
    const state = player?.seeable ?? "loading";
    if (state === "away" || (state === "missing" && verdict !== "unsure")) { this.notices.show(words[state === "away" ? "store_away" : "cannot_see"], { kind: "bad" }); return false; }
    this.breaks.act();
    const before = this.verdictOf(row);
    const text = storable((note ?? this.notes.get(row.id) ?? "").trim());
    this.notes.delete(row.id);
    if (before?.verdict !== verdict || !before.mine || text) {
      const act = { kind: "judge", alarm: row.id, record: row.row.record, verdict, note: text, seen: row.row.said?.id ?? 0, about: `${row.title} ${row.when}`, label: words[`verdict_${verdict}`], effects: { [row.id]: verdict } };
      this.history.add(this.act(act), { [row.id]: before?.verdict ?? null });
      row.show(row.row, this.data.words);
    }
    if (note === undefined) this.focus(this.open() || row);
    this.show();
    return true;
  }

  act(act) {
    const whole = this.outbox.add(act);
    this.status();
    return whole;
  }

  // Undo or redo: of this tab's acts at once; of an act from before the server says which alarm it was about.
  step(direction) {
    const known = this.history.step(direction);
    const { words } = this.data;
    if (!known) {
      if (direction === "undo") this.act({ kind: "unjudge" });
      else this.notices.show(words.no_redo);
      return;
    }
    const [[id, verdict]] = Object.entries(known.effects);
    const row = this.rows.get(id);
    const about = row ? `${row.title} ${row.when}` : "";
    if (direction === "undo") this.act({ kind: "unjudge", alarm: id, about, effects: known.effects });
    else if (row) this.act({ kind: "judge", alarm: id, record: row.row.record, verdict, note: "", seen: row.row.said?.id ?? 0, about, effects: known.effects });
    if (!row) return;
    row.show(row.row, words);
    this.focus(row);
    this.show();
    this.notices.show(`${words[`${direction}_done`]} ${about}: ${verdict ? words[`verdict_${verdict}`] : words.verdict_open}`);
  }

  // Whether there is a clip as it was recorded, and this person may see it.
  get hasRaw() { return Boolean(this.data.may_raw && this.player?.about?.raw && this.settings.view !== "skeleton"); }

  // Play it, which is recorded each time, or the masked one again.
  lookRaw() {
    const { focused: row, player } = this;
    if (!this.hasRaw || row.gone) return;
    if (player.unmasked) { player.unmask(""); this.show(); }
    else this.act({ kind: "raw", alarm: row.id, record: row.row.record });
  }

  // What others should know about it; it goes out with a verdict.
  note() {
    const { focused: row, dialogs } = this;
    const { words, marks } = this.data;
    if (!row) return;
    const text = create("textarea");
    Object.assign(text, { rows: 3, maxLength: 2000, placeholder: words.note_placeholder, value: this.notes.get(row.id) ?? "" });
    text.setAttribute("aria-label", words.note_placeholder);
    text.addEventListener("input", () => this.notes.set(row.id, text.value));
    const send = (verdict) => { if (this.focused === row && text.value.trim() && this.judge(verdict, text.value)) dialogs.close(); else text.focus(); };
    const now = () => this.verdictOf(row)?.verdict;
    text.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && now()) { event.preventDefault(); send(now()); } });
    const choices = create("div", "choices");
    for (const { label, text: name } of marks) {
      const button = create("button", label === now() ? "main" : "", name);
      button.type = "button";
      button.addEventListener("click", () => send(label));
      choices.append(button);
    }
    dialogs.open("note", `${words.note} · ${row.title} · ${row.when}`, [text, create("p", "how", words.note_how), choices]);
    text.focus();
  }

  set(changes) {
    this.settings.set(changes);
    for (const player of this.players.values()) player.refresh();
    this.show();
  }

  pauseAll() {
    this.settings.paused = !this.settings.paused;
    if (this.player) this.player.held = undefined;
    this.set({});
  }

  look() {
    const { blur, grey } = this.settings;
    for (const [name, on] of Object.entries({ blur, grey })) this.home.classList.toggle(name, Boolean(on));
    this.veil.show(this.data, this.settings);
    for (const player of this.players.values()) player.box.classList.toggle("bones", player.settings.view === "skeleton");
  }

  actions(event, key) {
    const s = this.settings;
    const faster = (by) => this.set({ speed: SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, SPEEDS.indexOf(s.speed) + by))] });
    const held = (run) => ({ run, repeat: true });
    const actions = {
      ArrowDown: held(() => this.move(1)), ArrowRight: held(() => this.move(1)), ArrowUp: held(() => this.move(-1)), ArrowLeft: held(() => this.move(-1)),
      Home: () => this.move(-this.order.length), End: () => this.move(this.order.length),
      u: () => this.judge("unsure"), z: () => this.step(event.shiftKey ? "redo" : "undo"), y: () => this.step("redo"), c: () => this.note(),
      " ": () => this.player?.toggle(), a: () => this.pauseAll(), s: () => this.set({ overlay: !s.overlay }), "+": () => faster(1), "=": () => faster(1), "-": () => faster(-1),
      ",": held(() => this.player?.frames(-1)), ".": held(() => this.player?.frames(1)), v: () => this.player?.box.classList.toggle("revealed"),
      n: () => this.turn("next"), p: () => this.turn("previous"), PageDown: () => this.turn("next"), PageUp: () => this.turn("previous"),
      l: () => this.copyLink(), r: () => this.lookRaw(), "?": () => this.help(), h: () => this.help(),
    };
    for (const mark of this.data.marks) actions[mark.key] = () => this.judge(mark.label);
    if (event.key !== key && !actions[key] && actions[event.key]) actions[key] = actions[event.key];
    return actions;
  }

  turn(direction) { if (this.data.turns.includes(direction)) this.act({ kind: direction, page: this.data.page }); }

  async copyLink() {
    if (!this.focused) return;
    const link = new URL(location.href);
    link.hash = "";
    link.searchParams.set("alarm", this.focusId);
    const { words } = this.data;
    try { await navigator.clipboard.writeText(link.href); this.notices.show(words.link_copied); } catch { this.notices.show(`${words.link} ${link.href}`, { lasts: 60000 }); }
  }

  help() {
    const change = this.toolbar.button(this.data.words.own_keys, "", () => this.own.open(this));
    this.dialogs.help(this.data.words.keys_alarms, []);
    this.dialogs.box.querySelector(".sheet").append(change);
  }

  // Ask Streamlit for the page once more.
  lookAgain() { if (!this.outbox.acts.some((act) => act.kind === "look")) this.act({ kind: "look", page: this.data.page }); }

  tick() {
    if (!this.home.isConnected) { this.leave(); return; }
    this.ticks += 1;
    this.outbox.tick();
    this.status();
    if (this.breaks.due(this.settings.pause_min) && !this.dialogs.kind) this.remindToPause();
    if (!document.hidden) this.poll();
    if (this.data.reading) this.lookAgain();
    if (this.ticks % 5) return;
    for (const player of this.players.values()) if (player.seeable === "away") player.again();
    this.adopt();
  }

  // Whether there is news, which costs the server little; only then the page is drawn again.
  async poll() {
    const { news, stamp, away } = this.data;
    if (this.polling) return;
    if (!news) { if (away && this.ticks % 3 === 0) this.lookAgain(); return; }
    this.polling = true;
    const row = this.focused;
    try {
      const answer = await fetch(`${news}&at=${encodeURIComponent(row && !row.gone ? row.row.record : "")}`);
      if (answer.status === 403) this.lookAgain();
      if (answer.ok) {
        const state = await answer.json();
        this.notices.hold("store", state.away ? this.data.words.store_away : "");
        if (state.gone) this.lose(row);
        if (!state.away && (away || state.stamp !== this.data.stamp)) this.lookAgain();
      }
    } catch { /* no connection: the line below tells what is kept */ }
    this.polling = false;
  }

  // Acts that a closed tab or a crash left unsent.
  async adopt() {
    const taken = await this.outbox.adopt();
    if (!taken.length) return;
    const about = taken.filter((act) => act.about).map((act) => act.about);
    this.notices.show([fill(this.data.words.restored, { count: taken.length }), ...about.slice(0, 3)].join(" · ") + (about.length > 3 ? " …" : ""), { lasts: 30000 });
    for (const row of this.rows.values()) row.show(row.row, this.data.words);
    this.status();
  }

  remindToPause() {
    const { words } = this.data;
    const button = create("button", "rest main", words.rested);
    button.type = "button";
    button.addEventListener("click", () => { this.breaks.rested(); this.dialogs.close(); });
    const closed = () => { if (this.breaks.due(this.settings.pause_min)) this.breaks.later(this.settings.pause_min); if (this.player) this.player.held = undefined; this.player?.refresh(); };
    if (this.player) { this.player.held = true; this.player.refresh(); }
    this.dialogs.open("pause", words.pause_title, [create("p", "", words.pause_text), button], { closed });
  }

  leave() {
    this.peers.splice(this.peers.indexOf(this), 1);
    this.keys.close();
    clearInterval(this.timer);
    cancelAnimationFrame(this.frame);
    document.removeEventListener("visibilitychange", this.seen);
    for (const player of this.players.values()) player.unload();
  }
}

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  document.getElementById("posewatch-first")?.remove();
  const home = parentElement.querySelector(".grid");
  let desk = home.posewatchGrid;
  if (!desk || desk.data.who !== data.who) {
    desk?.leave();
    desk = home.posewatchGrid = new AlarmDesk(parentElement, data);
  }
  desk.update(data, (value) => setStateValue("outbox", value));
  return () => { if (!home.isConnected) { desk.leave(); home.posewatchGrid = null; } };
}
