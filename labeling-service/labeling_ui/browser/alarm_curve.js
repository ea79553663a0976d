// The score of an alarm over time, with the threshold, the time of the alarm and the moment that is played.

const TALL = 100;
const WIDE = 1000;

class Curve {
  constructor() {
    this.box = create("div", "curve");
    this.box.setAttribute("role", "img");
    this.head = create("div", "head");
    this.limit = create("span", "limit");
  }

  show(about, words) {
    this.about = about;
    const { curve, times, on, start_s: start, end_s: end } = about;
    this.box.hidden = !curve.length;
    if (!curve.length) return;
    const moments = [...curve.map(([at]) => at), ...times];
    [this.from, this.to] = [Math.min(...moments), Math.max(...moments)];
    const svg = this.shape("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    if (start !== null && end !== null) svg.append(this.shape("rect", { class: "span", x: this.x(start), width: Math.max(2, this.x(end) - this.x(start)), y: 0, height: TALL }));
    svg.append(this.shape("path", { class: "each", d: this.line(curve, 1) }), this.shape("path", { class: "smoothed", d: this.line(curve, 2) }));
    if (typeof on === "number") svg.append(this.shape("path", { class: "on", d: `M0 ${this.y(on)}H${WIDE}` }));
    this.limit.hidden = typeof on !== "number";
    this.limit.textContent = `${words.threshold} ${percent(on ?? 0)}`;
    this.limit.style.top = `${this.y(on ?? 0)}%`;
    this.limit.classList.toggle("under", (on ?? 0) > 0.75);
    const scores = curve.map((row) => row[2]);
    this.box.setAttribute("aria-label", fill(words.curve_about, { low: percent(Math.min(...scores)), high: percent(Math.max(...scores)), on: typeof on === "number" ? percent(on) : "–" }));
    this.box.replaceChildren(svg, this.limit, this.head);
  }

  // The moment that is played, in seconds of the source.
  at(seconds) {
    if (this.about?.curve.length) this.head.style.left = `${(100 * this.x(seconds)) / WIDE}%`;
  }

  x(seconds) { return (WIDE * (seconds - this.from)) / Math.max(0.001, this.to - this.from); }

  y(score) { return TALL * (0.96 - 0.92 * score); }

  line(curve, which) { return curve.map((row, i) => `${i ? "L" : "M"}${this.x(row[0]).toFixed(1)} ${this.y(row[which]).toFixed(1)}`).join(""); }

  shape(name, attributes) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }
}

const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
