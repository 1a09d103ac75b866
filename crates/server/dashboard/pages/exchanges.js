// Exchanges, and where each leads.

import { part, post, put, remove } from "../api.js";
import { exchangeArguments, explainExchange } from "../arguments.js";
import { ask } from "../dialog.js";
import { h } from "../dom.js";
import { number, plain, rate } from "../format.js";
import { search } from "../form.js";
import { graph } from "../graph.js";
import { publish } from "../messages.js";
import { argumentTags, broken, card, exchangeName, facts, figures, pager, paging, table, tag, to } from "../table.js";

const perSecond = (name) => (row) => rate(row.message_stats?.[`${name}_details`]?.rate ?? 0);

export default function exchanges(ctx) {
  const path = () => `${ctx.list("exchanges")}?${paging(ctx)}`;
  const add = () => ask({
    title: "Add an exchange", submit: "Add",
    fields: [
      { name: "vhost", label: "Virtual host", kind: "select", options: ctx.vhosts(), value: ctx.vhost ?? ctx.vhosts()[0] },
      { name: "name", label: "Name", required: true, autofocus: true },
      { name: "type", label: "Type", kind: "select", options: (ctx.body("/api/overview?columns=exchange_types")?.exchange_types ?? []).map(({ name }) => name), value: "direct" },
      { name: "durable", label: "Durable", kind: "check", value: true },
      { name: "auto_delete", label: "Goes with its last binding", kind: "check" },
      { name: "internal", label: "Internal: clients may not publish to it", kind: "check" },
      { name: "arguments", label: "Arguments", kind: "map", ...exchangeArguments },
    ],
    async send({ vhost, name, ...definition }) {
      await put(`/api/exchanges/${part(vhost)}/${part(name)}`, definition);
      location.hash = to.exchange(vhost, name);
    },
  });
  return {
    title: "Exchanges",
    actions: () => h("button", { type: "button", class: "primary", "data-new": "", onclick: add }, "Add an exchange"),
    gets: () => [path(), "/api/overview?columns=exchange_types"],
    view() {
      const body = ctx.need(path());
      return [
        h("div", { class: "toolbar" }, search(ctx, "Search exchanges"), pager(ctx, body, "exchange")),
        table({
          ctx, caption: "Exchanges", rows: body.items, key: ({ vhost, name }) => JSON.stringify([vhost, name]),
          empty: "No exchange has this in its name.",
          columns: [
            { title: "Name", sort: "name", head: true, cell: (row) => h("a", { href: to.exchange(row.vhost, row.name) }, broken(exchangeName(row.name))) },
            { title: "Virtual host", sort: "vhost", wide: true, cell: (row) => row.vhost },
            { title: "Type", sort: "type", cell: (row) => tag(row.type) },
            { title: "Features", wide: true, cell: (row) => features(row) },
            { title: "In", sort: "message_stats.publish_in_details.rate", num: true, cell: perSecond("publish_in") },
            { title: "Out", sort: "message_stats.publish_out_details.rate", num: true, cell: perSecond("publish_out") },
          ],
        }),
      ];
    },
  };
}

function features(row) {
  return [row.durable ? [tag("durable"), " "] : null, row.auto_delete ? [tag("auto-delete"), " "] : null, row.internal ? [tag("internal"), " "] : null,
    argumentTags(row.arguments), row.policy ? tag(`policy ${row.policy}`) : null];
}

export function exchange(ctx) {
  const [vhost, named] = ctx.params;
  const name = named === "amq.default" ? "" : named;
  const path = `/api/exchanges/${part(vhost)}/${part(named)}`;
  const outgoing = `${path}/bindings/source`;
  const incoming = `${path}/bindings/destination`;
  const bind = () => ask({
    title: `Bind to ${exchangeName(name)}`, submit: "Bind", again: true,
    fields: [
      { name: "kind", label: "To a", kind: "select", options: [["q", "queue"], ["e", "exchange"]] },
      { name: "destination", label: "Name", required: true, autofocus: true },
      { name: "routing_key", label: "Routing key", keepEmpty: true, hint: "With topic exchanges * is one word and # any number of them." },
      { name: "arguments", label: "Arguments", kind: "map", suggest: ["x-filter", "x-match"], hint: "x-filter takes a condition on headers and properties." },
    ],
    async send({ kind, destination, routing_key: key = "", arguments: given }) {
      await post(`/api/bindings/${part(vhost)}/e/${part(name)}/${kind}/${part(destination)}`, { routing_key: key, arguments: given });
      ctx.reload();
    },
  });
  const destroy = () => ask({
    title: `Delete the exchange ${name}?`, danger: true, submit: "Delete", text: "Its bindings go with it. Publishing to it is an error then.",
    async send() {
      await remove(path);
      location.hash = "#/exchanges";
    },
  });
  return {
    title: exchangeName(name),
    actions: () => [
      h("button", { type: "button", class: "primary", "data-new": "", onclick: () => publish(ctx, { vhost, exchange: name }) }, "Publish"),
      name === "" ? null : h("button", { type: "button", onclick: bind }, "Bind"),
      name === "" || name.startsWith("amq.") ? null : h("button", { type: "button", class: "danger", onclick: destroy }, "Delete"),
    ],
    // The default exchange has a binding for every queue, which need not be told.
    gets: () => name === "" ? [path] : [path, outgoing, incoming],
    view() {
      const row = ctx.need(path);
      const out = ctx.body(outgoing) ?? [];
      const into = (ctx.body(incoming) ?? []).filter(({ source }) => source !== "");
      const unbind = (binding) => ctx.act(() => remove(bindingPath(vhost, binding)), "Unbound.");
      return [
        figures([["Type", row.type], ["In", perSecond("publish_in")(row), number(row.message_stats?.publish_in ?? 0)], ["Out", perSecond("publish_out")(row), number(row.message_stats?.publish_out ?? 0)],
          name === "" ? null : ["Bindings", number(out.length)]]),
        card("Where it leads", out.length + into.length === 0
          ? h("p", { class: "empty" }, name === "" ? "Every queue is bound to it by its own name." : "Nothing is bound to it: what is published to it goes nowhere.")
          : picture(row, vhost, out, into)),
        h("div", { class: "halves" },
          card("Exchange", facts([["Virtual host", row.vhost], ["Durable", row.durable ? "yes" : "no"], ["Goes with its last binding", row.auto_delete ? "yes" : "no"],
            ["Internal", row.internal ? "yes" : "no"], ["Policy", row.policy],
            ["Live tail", name === "" ? null : h("a", { href: `#/tail?vhost=${part(vhost)}&exchange=${part(name)}` }, "Watch what is published")]])),
          Object.keys(row.arguments ?? {}).length > 0 ? card("Arguments", argumentsList(row.arguments, explainExchange)) : null),
        name === "" ? null : card("Bindings", bindingTable(vhost, [...out, ...into], unbind)),
      ];
    },
  };
}

/** Arguments with what they do. */
export function argumentsList(table, explain) {
  return h("dl", { class: "arguments" }, Object.entries(table).map(([name, value]) =>
    h("div", { key: name }, h("dt", null, h("code", null, name), " = ", h("code", null, plain(value))), h("dd", null, explain(name, value)))));
}

function bindingPath(vhost, binding) {
  const kind = binding.destination_type === "queue" ? "q" : "e";
  return `/api/bindings/${part(vhost)}/e/${part(binding.source)}/${kind}/${part(binding.destination)}/${part(binding.properties_key)}`;
}

/** Bindings as a table; those of the default exchange cannot be taken away. */
export function bindingTable(vhost, rows, unbind) {
  return table({
    caption: "Bindings", rows, key: (row) => JSON.stringify([row.source, row.destination_type, row.destination, row.properties_key]), empty: "There is no binding.",
    columns: [
      { title: "From", head: true, cell: (row) => h("a", { href: to.exchange(vhost, row.source) }, exchangeName(row.source)) },
      { title: "Key", cell: (row) => h("code", null, row.routing_key) },
      { title: "To", cell: (row) => [tag(row.destination_type), " ", h("a", { href: row.destination_type === "queue" ? to.queue(vhost, row.destination) : to.exchange(vhost, row.destination) }, row.destination)] },
      { title: "Arguments", wide: true, cell: (row) => argumentTags(row.arguments) },
      { title: "", cell: (row) => row.source === "" ? null
        : h("button", { type: "button", class: "quiet small", "aria-label": `Unbind ${row.destination} from ${row.source} with ${row.routing_key}`, onclick: () => unbind(row) }, "Unbind") },
    ],
  });
}

/** What leads to the exchange, it, and where it leads; several bindings of a pair are one line. */
function picture(row, vhost, out, into) {
  const self = `e ${row.name}`;
  const nodes = [{ id: self, column: into.length > 0 ? 1 : 0, title: exchangeName(row.name), below: row.type, kind: "exchange self" }];
  const edges = new Map();
  const connect = (from, to, key) => {
    const edge = edges.get(`${from} → ${to}`) ?? { from, to, keys: [] };
    edge.keys.push(key);
    edges.set(`${from} → ${to}`, edge);
  };
  const known = new Set();
  const add = (id, node) => {
    if (!known.has(id)) nodes.push({ id, ...node });
    known.add(id);
  };
  for (const binding of into) {
    const id = `from ${binding.source}`;
    add(id, { column: 0, title: binding.source, below: "exchange", kind: "exchange", href: to.exchange(vhost, binding.source) });
    connect(id, self, binding.routing_key);
  }
  for (const binding of out) {
    const queue = binding.destination_type === "queue";
    const id = `to ${binding.destination_type} ${binding.destination}`;
    add(id, { column: nodes[0].column + 1, title: binding.destination, below: binding.destination_type, kind: queue ? "queue" : "exchange",
      href: queue ? to.queue(vhost, binding.destination) : to.exchange(vhost, binding.destination) });
    connect(self, id, binding.routing_key);
  }
  const alternate = row.arguments?.["alternate-exchange"];
  if (typeof alternate === "string") {
    add("alternate", { column: nodes[0].column + 1, title: exchangeName(alternate), below: "alternate exchange", kind: "exchange", href: to.exchange(vhost, alternate) });
    connect(self, "alternate", "whatever else");
  }
  const lines = [...edges.values()].map(({ from, to, keys }) => ({ from, to, label: keys.length > 2 ? `${keys[0]}, ${keys.length - 1} more` : keys.join(", ") }));
  return graph({ label: `What is bound to ${exchangeName(row.name)}`, nodes, edges: lines });
}
