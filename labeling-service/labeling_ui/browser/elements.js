// Small helpers of all parts.

const create = (tag, name, text) => {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text; // never innerHTML: names are untrusted
  return element;
};

const interval = (card) => `${card.start.toFixed(1)}–${card.end.toFixed(1)} s`;

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
