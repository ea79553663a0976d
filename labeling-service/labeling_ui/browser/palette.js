// A colour for each class: white text on it has a contrast of at least 4.5, and no two look alike.

const COLOURS = ["#1f7a48", "#b4232f", "#2257b8", "#8f5600", "#6a3fb5", "#0c6b70", "#9a2f63", "#4b5a70", "#5f6300",
  "#7c2d12", "#0b3d91", "#14532d", "#c026a3", "#3f1d75", "#a34700", "#00758f", "#6b1030", "#4d7c0f"];
const GOLDEN = 137.508;

// WCAG's relative luminance of red, green and blue in [0, 1].
const luminance = (rgb) => rgb.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);

const classColour = (i) => {
  if (i < COLOURS.length) return COLOURS[i];
  const hue = (i * GOLDEN) % 360;
  const saturation = [0.8, 0.5][i % 2];
  const rgb = (light) => [0, 8, 4].map((n) => { const k = (n + hue / 30) % 12; return light - saturation * Math.min(light, 1 - light) * Math.max(-1, Math.min(k - 3, 9 - k, 1)); });
  let light = [0.46, 0.36, 0.28][i % 3];
  while (1.05 / (luminance(rgb(light)) + 0.05) < 4.7) light -= 0.01;
  return `rgb(${rgb(light).map((v) => Math.round(255 * v)).join(" ")})`;
};
