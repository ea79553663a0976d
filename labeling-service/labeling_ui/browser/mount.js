// Streamlit's component: the grid is made once, takes over from the first page, and gets every new state of the page.

const closeFirstPage = () => {
  document.posewatchFirst = null;
  document.getElementById("posewatch-first")?.remove();
};

// Streamlit's page is here: the grid that the first page has shown so far goes on in it, with its players and its acts.
const takeFirstPage = (home, data) => {
  const grid = document.posewatchFirst;
  const focused = grid.focused?.root.contains(grid.home.getRootNode().activeElement);
  const same = grid.data.who === data.who && grid.data.mode === data.mode;
  if (same) {
    home.replaceWith(grid.home);
    grid.dialogs.restore();
    grid.home.posewatchGrid = grid;
    if (focused) grid.focus(grid.focused, { scroll: false });
  } else grid.leave();
  closeFirstPage();
  return same ? grid.home : home;
};

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  let home = parentElement.querySelector(".grid");
  if (document.posewatchFirst) home = takeFirstPage(home, data);
  let grid = home.posewatchGrid;
  if (!grid || grid.data.who !== data.who) {
    grid?.leave();
    grid = home.posewatchGrid = new Grid(parentElement, data);
  }
  grid.update(data, (value) => setStateValue("outbox", value));
  return () => { if (!home.isConnected) { grid.leave(); home.posewatchGrid = null; } };
}
