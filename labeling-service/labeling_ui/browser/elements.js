// Small helpers of all parts.

const create = (tag, name, text) => {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text; // never innerHTML: names are untrusted
  return element;
};

const interval = (card) => `${card.start.toFixed(1)}–${card.end.toFixed(1)} s`;

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);

// Text as the server stores it: half of an emoji (pasted, or cut by a limit) and NUL are no characters.
const storable = (text) => text.replace(/[\0\p{Surrogate}]/gu, "\ufffd");

// A speech bubble, as large as the text.
const bubble = () => {
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  picture.setAttribute("viewBox", "0 0 16 16");
  picture.setAttribute("aria-hidden", "true");
  picture.setAttribute("class", "bubble");
  const path = document.createElementNS(picture.namespaceURI, "path");
  path.setAttribute("d", "M2 2h12v9H8l-4 4v-4H2z");
  picture.append(path);
  return picture;
};
