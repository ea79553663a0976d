// One handler for all keys. A key belongs to what has focus: a dialog before the page, and text fields, dropdowns,
// buttons and links keep the keys that they use themselves.

const LABEL_KINDS = ["label", "adjudicate", "rest", "undo", "redo", "comment", "example", "relabel", "interval", "alike", "judge", "unjudge"];

// The key that a person means, whatever the layout: letters as the layout has them, by their place where it has other
// scripts (Hangul); digits always by their place; Caps Lock changes nothing.
const keyOf = ({ key, code }) => {
  const digit = /^Digit([0-9])$/.exec(code || "") || /^([0-9])$/.exec(key);
  if (digit) return digit[1];
  if (/^[a-z]$/i.test(key)) return key.toLowerCase();
  const place = /^Key([A-Z])$/.exec(code || "");
  return place && (key.length === 1 || ["Process", "Unidentified", "Dead", "HangulMode"].includes(key)) ? place[1].toLowerCase() : key;
};

const TEXT_ROLES = ["textbox", "searchbox", "combobox", "listbox", "spinbutton"];
const CHOICE_ROLES = ["radio", "checkbox", "switch", "slider", "tab", "option", "menuitem", "menuitemradio", "gridcell", "treeitem"];

// Which keys an element uses itself: "all", "moves" (arrows, Space, Enter, ...), "press" (Space, Enter) or "none".
const usedBy = (target) => {
  if (!target?.closest) return "none";
  const role = target.getAttribute("role") || "";
  if (target.isContentEditable || ["TEXTAREA", "SELECT"].includes(target.tagName) || TEXT_ROLES.includes(role)) return "all";
  if (target.tagName === "INPUT") return ["radio", "checkbox", "range"].includes(target.type) ? "moves" : ["button", "submit"].includes(target.type) ? "press" : "all";
  if (CHOICE_ROLES.includes(role) || target.tagName === "CANVAS" || target.controls) return "moves";
  return target.closest("button, a[href], summary, [role=button], [role=link]") ? "press" : "none";
};

const isUsed = (use, key) => use === "all" || (use === "press" && [" ", "Enter"].includes(key)) || (use === "moves" && !/^[a-z0-9?]$/.test(key));

class Keys {
  constructor(active, own) {
    this.own = own;
    this.active = active; // whether the keys are this grid's at all
    this.scopes = []; // {actions: (event) => ({key: {run, repeat}}), element}
    this.listen = (event) => this.handle(event);
    document.addEventListener("keydown", this.listen, true);
  }

  push(scope) {
    this.scopes.push(scope);
    return () => { this.scopes = this.scopes.filter((one) => one !== scope); };
  }

  handle(event) {
    const scope = this.scopes.at(-1);
    if (!scope || !this.active() || event.altKey) return;
    const target = event.composedPath()[0];
    // a dialog or menu of Streamlit lies over the page, unless it is hidden (that about a lost connection is)
    if (!scope.element && [...document.querySelectorAll('[role="dialog"], [role="menu"], dialog[open]')].some((one) => one.getClientRects().length)) return;
    const pressed = keyOf(event);
    const key = this.own.meaning(pressed);
    const chord = event.ctrlKey || event.metaKey;
    if (chord && !["z", "y"].includes(key)) return;
    if (isUsed(usedBy(target), pressed) && !(scope.element && key === "Escape")) return;
    const found = scope.actions(event, key)[key];
    if (!found) return;
    event.preventDefault();
    event.stopPropagation(); // Streamlit has its own keys
    const { run, repeat } = typeof found === "function" ? { run: found } : found;
    if (!event.repeat || repeat) run(); // a key that is held down labels one clip
  }

  close() { document.removeEventListener("keydown", this.listen, true); }
}
