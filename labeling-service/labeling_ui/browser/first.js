// The first page: the grid stands in the HTML, before Streamlit has loaded. Streamlit's page takes it over (mount.js).

const FIRST = 4; // clips that load before all others
const SLOW_MS = 150; // a line on which the HTML alone takes longer is slow
const PATIENCE_MS = 8000;
const ALERT_MS = 3000;

function openFirstPage() {
  const box = document.getElementById("posewatch-first");
  const host = box.querySelector(".host");
  host.attachShadow({ mode: "open" }).append(document.getElementById("posewatch-grid").content);
  const data = JSON.parse(document.getElementById("posewatch-data").textContent);
  const grid = new Grid(host.shadowRoot, data);
  const took = performance.now() - performance.getEntriesByType("navigation")[0].responseStart;
  const slow = took > SLOW_MS;
  data.cards.slice(FIRST).forEach(({ id }) => { grid.later.add(id); });
  document.posewatchFirst = grid;
  grid.update(data, null);
  const players = data.cards.map(({ id }) => grid.views.get(id).player);
  const since = performance.now();
  const settled = (some) => some.every((player) => player.seeable !== "loading") || performance.now() - since > PATIENCE_MS;
  const loadRest = () => { grid.later.clear(); players.forEach((player) => player.refresh()); };
  const loadStreamlit = () => document.head.append(document.importNode(document.getElementById("posewatch-later").content, true));
  const steps = [[() => settled(players.slice(0, FIRST)), loadRest], [() => settled(players.filter((player) => player.visible)), loadStreamlit]];
  if (!slow) { steps.length = 0; loadRest(); loadStreamlit(); }
  let told;
  const timer = setInterval(() => {
    if (document.posewatchFirst !== grid) { clearInterval(timer); return; }
    if (steps.length && steps[0][0]()) steps.shift()[1]();
    const other = document.querySelector('[data-testid="stMain"] [data-testid="stAlert"]'); // Streamlit has something else to say
    told = other ? told ?? performance.now() : undefined;
    if (told && performance.now() - told > ALERT_MS) { grid.leave(); closeFirstPage(); }
  }, 50);
}

openFirstPage();
