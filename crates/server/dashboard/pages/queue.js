// One queue: what goes in and out, who consumes it, what is in it, and what can be done with it.

import { get, part, post, put, remove } from "../api.js";
import { explainPolicy, explainQueue } from "../arguments.js";
import { chart, range, rangeSwitch } from "../chart.js";
import { ask, toast } from "../dialog.js";
import { h } from "../dom.js";
import { ago, bytes, count, exact, number, rate, span } from "../format.js";
import { message, publish } from "../messages.js";
import { card, facts, figures, table, tag, to } from "../table.js";
import { argumentsList, bindingTable } from "./exchanges.js";
import { state } from "./connections.js";

const perSecond = (row, name) => rate(row.message_stats?.[`${name}_details`]?.rate ?? 0);

export default function queue(ctx) {
  const [vhost, name] = ctx.params;
  const path = `/api/queues/${part(vhost)}/${part(name)}`;
  const history = () => `${path}/history?range=${range(ctx)}`;
  const charts = {
    rates: chart({ title: "Messages per second", format: rate, series: [
      { name: "publish", label: "In", color: "blue" }, { name: "deliver", label: "Out", color: "green" }, { name: "ack", label: "Ack", color: "amber" }] }),
    waiting: chart({ title: "Messages", format: number, series: [{ name: "ready", label: "Ready", color: "violet" }, { name: "unacked", label: "Unacked", color: "pink" }] }),
  };
  const browser = browse(ctx, path);
  let shown = null;
  return {
    title: name,
    actions: () => buttons(ctx, { vhost, name, path, row: ctx.body(path) }),
    gets: () => [path, `${path}/bindings`, history()],
    view() {
      const row = ctx.need(path);
      const past = ctx.body(history());
      if (past && past !== shown) {
        shown = past;
        for (const one of Object.values(charts)) one.set(past);
      }
      const unbind = (binding) => ctx.act(() => remove(`/api/bindings/${part(vhost)}/e/${part(binding.source)}/q/${part(name)}/${part(binding.properties_key)}`), "Unbound.");
      return [
        row.state === "paused" ? h("p", { class: "notice" }, "This queue is paused: it takes messages, and gives none to consumers.") : null,
        numbers(row),
        h("div", { class: "chart-bar" }, rangeSwitch(ctx)),
        h("div", { class: "charts" }, Object.values(charts).map(({ element }) => element)),
        card("Messages in it", browser.view(row)),
        card("Consumers", consumers(row)),
        card("Bindings", bindingTable(vhost, ctx.body(`${path}/bindings`) ?? [], unbind)),
        h("div", { class: "halves" }, about(row), rules(row)),
      ];
    },
    end: () => Object.values(charts).forEach((one) => one.end()),
  };
}

/** What Leveret says beyond RabbitMQ's fields. */
const own = (row) => row.leveret ?? {};

function numbers(row) {
  return figures([
    ["State", state(row.state)],
    ["Ready", number(row.messages_ready), bytes(row.message_bytes_ready)],
    ["Unacked", number(row.messages_unacknowledged), bytes(row.message_bytes_unacknowledged)],
    own(row).waiting > 0 ? ["Waiting", number(own(row).waiting), "for their time, of the ready"] : null,
    ["Oldest", ago(own(row).oldest_at), "message's age"],
    ["Consumers", number(row.consumers)],
    ["In", perSecond(row, "publish"), number(row.message_stats?.publish ?? 0)],
    ["Out", perSecond(row, "deliver_get"), number(row.message_stats?.deliver_get ?? 0)],
    ["Ack", perSecond(row, "ack"), number(row.message_stats?.ack ?? 0)],
  ]);
}

function consumers(row) {
  return table({
    caption: "Consumers", rows: row.consumer_details ?? [], key: (one) => JSON.stringify([one.channel_details?.name, one.consumer_tag]), empty: "Nobody consumes it.",
    columns: [
      { title: "Tag", head: true, cell: (one) => one.consumer_tag },
      { title: "Channel", cell: (one) => one.channel_details?.name ? h("a", { href: to.channel(one.channel_details.name) }, one.channel_details.name) : "in this process" },
      { title: "State", cell: (one) => one.active === false ? tag("stands by") : tag("active", "good") },
      { title: "Acknowledges", wide: true, cell: (one) => one.ack_required ? "yes" : "no" },
      { title: "Priority", wide: true, num: true, cell: (one) => String(own(one).priority ?? one.arguments?.["x-priority"] ?? 0) },
      { title: "Exclusive", wide: true, cell: (one) => one.exclusive ? "yes" : "no" },
      { title: "Prefetch", num: true, cell: (one) => one.prefetch_count === 0 ? "no limit" : number(one.prefetch_count) },
      { title: "Unacked", num: true, cell: (one) => number(own(one).unacknowledged) },
    ],
  });
}

function about(row) {
  const stats = row.message_stats ?? {};
  const more = own(row);
  const reasons = (table) => Object.entries(table ?? {}).filter(([, amount]) => amount > 0).map(([why, amount]) => `${exact(amount)} ${why}`).join(", ");
  return card("Queue", facts([
    ["Virtual host", row.vhost], ["Type", row.type], ["Durable", row.durable ? "yes" : "no"], ["Goes with its last consumer", row.auto_delete ? "yes" : "no"],
    ["Exclusive", row.exclusive ? ["yes, of ", row.owner_pid_details?.name ? h("a", { href: to.connection(row.owner_pid_details.name) }, row.owner_pid_details.name) : "one connection"] : "no"],
    ["Policy", row.policy], ["Operator policy", row.operator_policy],
    ["Persistent messages", number(row.messages_persistent)], ["On disk", bytes(more.disk_bytes)], ["In memory", bytes(row.memory)],
    ["Bytes in, bytes out", `${bytes(more.published_bytes)}, ${bytes(more.delivered_bytes)}`], ["Processor", Number.isFinite(more.cpu_ns) ? span(more.cpu_ns / 1e9) : null],
    ["Redelivered", exact(stats.redeliver ?? 0)], ["Refused because it was full", exact(more.refused)],
    reasons(more.died) ? ["Died here", reasons(more.died)] : null, reasons(more.dead_lettered) ? ["Dead-lettered", reasons(more.dead_lettered)] : null,
  ]));
}

function rules(row) {
  const policy = row.effective_policy_definition ?? {};
  const given = row.arguments ?? {};
  if (Object.keys(given).length + Object.keys(policy).length === 0) return card("Arguments", h("p", { class: "muted" }, "It has none, and no policy applies to it."));
  return card("Arguments", argumentsList(given, explainQueue),
    Object.keys(policy).length > 0 ? [h("h3", null, "By policies"), argumentsList(policy, explainPolicy)] : null);
}

function buttons(ctx, { vhost, name, path, row }) {
  if (!row) return null;
  const paused = row.state === "paused";
  const purge = () => ask({
    title: `Purge ${name}?`, danger: true, submit: "Purge", text: `${count(row.messages_ready, "ready message")} will be deleted. What consumers have is kept.`,
    send: () => ctx.act(() => remove(`${path}/contents`), "Purged."),
  });
  const destroy = () => ask({
    title: `Delete the queue ${name}?`, danger: true, submit: "Delete", text: `${count(row.messages, "message")} and ${count(row.consumers, "consumer")} go with it.`,
    async send() {
      await remove(path);
      location.hash = "#/queues";
    },
  });
  return [
    h("button", { type: "button", class: "primary", "data-new": "", onclick: () => publish(ctx, { vhost, exchange: "", key: name, fixed: true }) }, "Publish"),
    h("button", { type: "button", onclick: () => ctx.act(() => put(`${path}/${paused ? "resume" : "pause"}`), paused ? "It goes on." : "Paused.") }, paused ? "Resume" : "Pause"),
    h("button", { type: "button", onclick: () => move(ctx, path, row) }, "Move"),
    h("button", { type: "button", onclick: purge }, "Purge"),
    h("button", { type: "button", class: "danger", onclick: destroy }, "Delete"),
  ];
}

function move(ctx, path, row) {
  ask({
    title: "Move messages", submit: "Move", text: "Ready messages go elsewhere, the oldest first. None is lost on the way.",
    fields: [
      { name: "kind", label: "To", kind: "select", options: [["queue", "a queue"], ["exchange", "an exchange"]] },
      { name: "name", label: "Its name", required: true },
      { name: "routing_key", label: "Routing key", hint: "For an exchange; empty: each message's own." },
      { name: "count", label: "How many", kind: "number", min: 1, value: row.messages_ready || 1 },
    ],
    async send({ kind, name, routing_key: key, count: most }) {
      const where = kind === "queue" ? { queue: name } : { exchange: name, routing_key: key };
      toast(moved(await post(`${path}/move`, { ...where, count: most }), "message"));
      ctx.reload();
    },
  });
}

/** What became of a request that moves messages. */
export function moved({ moved: gone, kept, left }, what) {
  return [`${count(gone, what)} moved.`, kept > 0 ? `${count(kept, what)} stayed: no queue takes them.` : null, left > 0 ? `${number(left)} left.` : null].filter(Boolean).join(" ");
}

/** Messages of a page. */
const COUNT = 20;

/** Looks into a queue without taking anything out of it. */
export function browse(ctx, path) {
  const filter = { contains: "", key: "", filter: "" };
  const seen = { from: null, found: null, error: null, busy: false };
  const load = async (from) => {
    const query = new URLSearchParams({ count: COUNT });
    for (const [name, value] of Object.entries(filter)) if (value !== "") query.set(name, value);
    if (from !== null) query.set("from", from);
    Object.assign(seen, { busy: true, error: null });
    ctx.draw();
    try {
      Object.assign(seen, { found: await get(`${path}/browse?${query}`), from });
    } catch (error) {
      seen.error = error.reason ?? error.message;
    }
    seen.busy = false;
    ctx.draw();
  };
  const field = (name, label, title) => h("input", { type: "text", "aria-label": label, placeholder: label, title, oninput: (event) => { filter[name] = event.target.value; }, spellcheck: "false" });
  return {
    view() {
      const { found } = seen;
      return [
        h("form", { class: "toolbar", onsubmit: (event) => { event.preventDefault(); load(null); } },
          field("contains", "Text in the body"), field("key", "Part of the key"),
          field("filter", 'attributes.region = "eu"', "A condition on headers and properties"),
          h("button", { type: "submit", disabled: seen.busy }, seen.busy ? "Looking…" : "Browse"),
          h("span", { class: "muted" }, "Nothing is taken out, and nothing is marked.")),
        seen.error ? h("p", { class: "error", role: "alert" }, seen.error) : null,
        found ? [
          found.messages.length === 0 ? h("p", { class: "empty" }, found.complete ? "No message is here that looks like this." : "Not among those looked at so far.")
            : h("div", { class: "messages" }, found.messages.map((one) => message(one, { key: `message ${one.position}` }))),
          h("div", { class: "pager" },
            h("span", { class: "muted" }, `${exact(found.scanned)} looked at${found.complete ? ", to the end" : ""}`),
            seen.from === null ? null : h("button", { type: "button", onclick: () => load(null) }, "From the start"),
            found.complete ? null : h("button", { type: "button", onclick: () => load(found.next) }, "Next")),
        ] : null,
      ];
    },
  };
}
