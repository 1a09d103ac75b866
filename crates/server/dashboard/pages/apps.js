// Applications that use the SDK: topics, their subscriptions, and who handles them.

import { h } from "../dom.js";
import { number, rate } from "../format.js";
import { graph } from "../graph.js";
import { card, table, to } from "../table.js";

const COLUMN = { __proto__: null, topic: 0, subscription: 1, dead: 2, consumer: 2 };

export default function apps(ctx) {
  return {
    title: "Applications",
    gets: () => ["/api/apps"],
    view() {
      const { nodes, edges, truncated } = ctx.need("/api/apps");
      const byId = new Map(nodes.map((node) => [node.id, node]));
      const mine = nodes.filter(({ vhost }) => ctx.vhost === null || vhost === undefined || vhost === ctx.vhost);
      const shown = new Set(mine.map(({ id }) => id));
      if (mine.length === 0) {
        return h("div", { class: "empty" }, h("p", null, "No application has a topic here."),
          h("p", { class: "muted" }, "A program with the crate leveret shows up as soon as it publishes to a topic or subscribes to one."));
      }
      return [
        truncated ? h("p", { class: "notice" }, "There are more than can be shown. Choose a virtual host.") : null,
        card("Topics and subscriptions", graph({ label: "Topics and subscriptions", columns: ["Topics", "Subscriptions", "Handlers and dead letters"],
          nodes: mine.map((node) => ({ id: node.id, column: COLUMN[node.kind] ?? 0, title: node.name, below: below(node), kind: node.kind, href: link(node) })),
          edges: edges.map((edge) => ({ from: edge.from, to: edge.to, label: edge.rate > 0 ? rate(edge.rate) : edge.filter, flow: edge.rate })) })),
        card("The same as a list", table({
          caption: "Topics and subscriptions", rows: edges.filter(({ from }) => shown.has(from)), key: (edge) => `${edge.from} ${edge.to}`,
          columns: [
            { title: "From", head: true, cell: (edge) => name(byId, edge.from) },
            { title: "To", cell: (edge) => name(byId, edge.to) },
            { title: "What", wide: true, cell: (edge) => edge.kind ?? "–" },
            { title: "Per second", num: true, cell: (edge) => rate(edge.rate ?? NaN) },
          ],
        })),
      ];
    },
  };
}

function name(byId, id) {
  const node = byId.get(id);
  if (!node) return id;
  const href = link(node);
  return href ? h("a", { href }, node.name) : node.name;
}

function below(node) {
  if (node.kind === "subscription") return `${number(node.messages ?? 0)} waiting, ${number(node.consumers ?? 0)} handling`;
  if (node.kind === "dead") return `${number(node.messages ?? 0)} dead letters`;
  if (node.kind === "topic") return "topic";
  return node.below ?? "application";
}

function link(node) {
  if (node.kind === "topic") return to.exchange(node.vhost, node.exchange ?? node.name);
  if (node.kind === "subscription" || node.kind === "dead") return to.queue(node.vhost, node.queue ?? node.name);
  return node.connection ? to.connection(node.connection) : null;
}
