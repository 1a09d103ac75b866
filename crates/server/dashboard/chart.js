// Charts over time, drawn by uPlot (vendor/uplot.js, which defines `uPlot`).

import { h, s, show } from "./dom.js";
import { bytes, clock, number } from "./format.js";

/* global uPlot */

const HEIGHT = 170;
/** Steps between the lines of an axis in pieces, which have no halves. */
const WHOLE = Array.from({ length: 15 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat();
/** Steps between the lines of an axis in bytes. */
const POWERS = Array.from({ length: 50 }, (_, power) => 2 ** power);

/**
 * A chart that stays; `set` gives it its points. A series has `name`, `label` and `color` (of style.css: `--name`).
 * @param {{title: string, series: {name: string, label: string, color: string}[], format: (value: number) => string}} spec
 */
export function chart({ title, series, format }) {
  const legend = h("ul", { class: "legend" });
  const canvas = h("div", { class: "plot", role: "img" });
  const element = h("section", { class: "card chart", key: `chart ${title}`, opaque: true }, h("div", { class: "chart-head" }, h("h2", null, title), legend), canvas);
  let plot = null;
  let data = null;

  const say = (at) => {
    const values = series.map(({ name }) => data?.values[name]?.[at ?? data.at.length - 1]);
    show(legend, series.map(({ label, color }, index) =>
      h("li", null, h("span", { class: `swatch ${color}`, "aria-hidden": "true" }), `${label} `, h("b", null, format(values[index] ?? NaN)))));
    if (at === undefined) canvas.setAttribute("aria-label", `${title}: ${series.map(({ label }, index) => `${label} ${format(values[index] ?? NaN)}`).join(", ")}`);
  };
  const table = () => [data.at.map((at) => at / 1000), ...series.map(({ name }) => data.values[name] ?? data.at.map(() => null))];
  // All of the time that was chosen, so that a broker that has just started is at the right.
  const window = () => {
    const end = (data.at.at(-1) ?? Date.now()) / 1000;
    return [end - data.seconds, end];
  };
  const build = () => {
    plot?.destroy();
    plot = null;
    if (!data || canvas.clientWidth === 0) return;
    plot = new uPlot(options(series, format, canvas, window, (at) => say(at)), table(), canvas);
  };
  const sized = new ResizeObserver(() => {
    if (!plot) build();
    else if (Math.abs(plot.width - canvas.clientWidth) > 1) plot.setSize({ width: canvas.clientWidth, height: HEIGHT });
  });
  sized.observe(canvas);
  const onTheme = () => { if (canvas.isConnected) build(); };
  document.addEventListener("theme", onTheme);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", onTheme);
  say();
  return {
    element,
    /** Points of so many seconds: `at` in milliseconds, `values` a list for each series. */
    set({ at, values, range: seconds }) {
      data = { at, values, seconds };
      if (plot) plot.setData(table());
      else build();
      say();
    },
    end() {
      document.removeEventListener("theme", onTheme);
      dark.removeEventListener("change", onTheme);
      sized.disconnect();
      plot?.destroy();
    },
  };
}

const steps = new Map([[bytes, POWERS], [number, WHOLE]]);

function options(series, format, canvas, window, hover) {
  const color = (name) => colorOf(canvas, name);
  const [line, ink] = [color("line"), color("muted")];
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  return {
    width: canvas.clientWidth,
    height: HEIGHT,
    padding: [8, 18, 0, 0],
    legend: { show: false },
    cursor: { points: { size: 6 }, drag: { x: false, y: false }, sync: { key: "leveret" } },
    // From nothing on, and never flat on the floor.
    scales: { x: { range: window }, y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
    axes: [
      { ...axis, values: (_, splits) => splits.map((at) => clock(at * 1000).slice(0, 5)), space: 60, size: 28 },
      { ...axis, values: (_, splits) => splits.map((value) => value === 0 ? "0" : format(value)), size: 68, space: 36, ...(steps.has(format) ? { incrs: steps.get(format) } : {}) },
    ],
    series: [{}, ...series.map(({ label, color: name }) => ({
      label, stroke: color(name), width: 2, fill: series.length === 1 ? `color-mix(in srgb, ${color(name)} 14%, transparent)` : undefined,
      points: { show: false }, spanGaps: false }))],
    hooks: { setCursor: [(plot) => hover(plot.cursor.idx ?? undefined)] },
  };
}

/** A canvas takes no custom properties, so an element is asked what they are. */
function colorOf(place, name) {
  const probe = h("span", { class: `swatch ${name}` });
  place.append(probe);
  const { backgroundColor } = getComputedStyle(probe);
  probe.remove();
  return backgroundColor;
}

/** A line without axes beside a figure. */
export function spark(values, color) {
  const known = (values ?? []).filter(Number.isFinite);
  if (known.length < 2) return null;
  const most = Math.max(...known, 1e-9);
  const points = known.map((value, at) => `${(at / (known.length - 1) * 100).toFixed(1)},${(23 - value / most * 22).toFixed(1)}`).join(" ");
  return s("svg", { class: `spark ${color}`, viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("polygon", { points: `0,24 ${points} 100,24` }), s("polyline", { points }));
}

export const RANGES = [[600, "10 min"], [3600, "1 hour"], [86_400, "1 day"]];

/** Which of the ranges is shown. */
export function range(ctx) {
  const wanted = Number(ctx.query.get("range"));
  return RANGES.some(([seconds]) => seconds === wanted) ? wanted : 600;
}

export function rangeSwitch(ctx) {
  const chosen = range(ctx);
  return h("div", { class: "switch", role: "group", "aria-label": "Time shown" }, RANGES.map(([seconds, text]) =>
    h("button", { type: "button", "aria-pressed": String(seconds === chosen), onclick: () => ctx.set({ range: seconds === 600 ? null : String(seconds) }) }, text)));
}
