// Pictures of what leads where: boxes in columns, lines between them.

import { h, s } from "./dom.js";
import { number } from "./format.js";

const BOX = { width: 190, height: 40, gap: 14, between: 160 };
/** Boxes of a column that are drawn; more than that is a list, not a picture. */
const MOST = 40;

/**
 * A picture. A node has `id`, `column`, `title`, maybe `below`, `kind` and `href`; an edge `from`, `to` and maybe
 * `label` and `flow` (per second, which makes it wider).
 * @param {{label: string, nodes: object[], edges: object[], columns?: string[]}} spec
 */
export function graph({ label, nodes, edges, columns = [] }) {
  const lanes = arrange(nodes, edges);
  const place = new Map();
  const tallest = Math.max(1, ...lanes.map((lane) => lane.length));
  const height = tallest * (BOX.height + BOX.gap) + BOX.gap + (columns.length > 0 ? 24 : 0);
  const top = columns.length > 0 ? 24 : 0;
  lanes.forEach((lane, column) => {
    const used = lane.length * (BOX.height + BOX.gap) - BOX.gap;
    lane.forEach((node, row) => place.set(node.id, {
      x: column * (BOX.width + BOX.between) + 4, y: top + (height - top - used) / 2 + row * (BOX.height + BOX.gap) }));
  });
  const width = lanes.length * (BOX.width + BOX.between) - BOX.between + 8;
  const hidden = nodes.length - place.size;
  return h("div", { class: "picture", key: `picture ${label}` },
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
      s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: `graph lanes-${lanes.length}`, role: "group", "aria-label": label },
        columns.map((text, column) => s("text", { class: "lane", x: column * (BOX.width + BOX.between) + 4 + BOX.width / 2, y: 12 }, text)),
        edges.filter(({ from, to }) => place.has(from) && place.has(to)).map((edge) => line(edge, place)),
        nodes.filter(({ id }) => place.has(id)).map((node) => box(node, place.get(node.id))))),
    hidden > 0 ? h("p", { class: "muted" }, `${number(hidden)} more are not drawn.`) : null);
}

/** Nodes by column, each near to what it is connected with: three sweeps by the mean of the neighbours. */
function arrange(nodes, edges) {
  const lanes = [];
  for (const node of nodes) (lanes[node.column] ??= []).push(node);
  const cut = Array.from(lanes, (lane) => (lane ?? []).slice(0, MOST));
  const at = new Map();
  const number = () => cut.forEach((lane) => lane.forEach((node, row) => at.set(node.id, row / lane.length)));
  number();
  const beside = new Map();
  for (const { from, to } of edges) {
    if (!at.has(from) || !at.has(to)) continue;
    (beside.get(from) ?? beside.set(from, []).get(from)).push(to);
    (beside.get(to) ?? beside.set(to, []).get(to)).push(from);
  }
  const mean = ({ id }) => {
    const others = beside.get(id) ?? [];
    return others.length === 0 ? at.get(id) : others.reduce((sum, other) => sum + at.get(other), 0) / others.length;
  };
  for (let sweep = 0; sweep < 3; sweep++) {
    for (const lane of cut) {
      const wanted = new Map(lane.map((node) => [node.id, mean(node)]));
      lane.sort((a, b) => wanted.get(a.id) - wanted.get(b.id));
      lane.forEach((node, row) => at.set(node.id, row / lane.length));
    }
  }
  return cut;
}

function line({ from, to, label, flow }, place) {
  const [a, b] = [place.get(from), place.get(to)];
  const forth = a.x < b.x;
  const [x1, x2] = forth ? [a.x + BOX.width, b.x] : [a.x, b.x + BOX.width];
  const [y1, y2] = [a.y + BOX.height / 2, b.y + BOX.height / 2];
  const bend = a.x === b.x ? 60 : (x2 - x1) / 2;
  const path = `M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`;
  const wide = 1.5 + Math.min(4, Math.log10(1 + (flow ?? 0)));
  return s("g", { class: `edge ${flow > 0 ? "flows" : ""}` }, s("path", { d: path, "stroke-width": wide }),
    label ? s("text", { x: (x1 + x2) / 2, y: (y1 + y2) / 2 - 5 }, cut(label, 18), s("title", null, label)) : null);
}

function box({ title, below, kind, href }, { x, y }) {
  const inside = [s("title", null, below ? `${title} (${below})` : title),
    s("rect", { x, y, width: BOX.width, height: BOX.height, rx: 8 }),
    s("text", { class: "name", x: x + 12, y: y + (below ? 17 : 24) }, cut(title, 20)),
    below ? s("text", { class: "below", x: x + 12, y: y + 32 }, cut(below, 27)) : null];
  return s("g", { class: `node ${kind ?? ""}` }, href ? s("a", { href }, inside) : inside);
}

function cut(text, most) {
  const letters = [...text];
  return letters.length <= most ? text : `${letters.slice(0, most - 1).join("")}…`;
}
