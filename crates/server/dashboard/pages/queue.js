// One queue: what goes in and out, who consumes it, what is in it, and what can be done with it.

import { get, part, post, put, remove } from "../api.js";
import { explainPolicy, explainQueue } from "../arguments.js";
import { chart, range, rangeSwitch } from "../chart.js";
import { ask } from "../dialog.js";
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
        for (const one of Object.values(charts)) one.set(past.at, past.values);
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

function numbers(row) {
  return figures([
    ["State", state(row.state)],
    ["Ready", number(row.messages_ready), bytes(row.message_bytes_ready)],
    ["Unacked", number(row.messages_unacknowledged), bytes(row.message_bytes_unacknowledged)],
    row.messages_waiting ? ["Waiting", number(row.messages_waiting), "for their next attempt"] : null,
    ["Oldest", Number.isFinite(row.oldest_message_age) ? span(row.oldest_message_age) : row.head_message_timestamp ? ago(row.head_message_timestamp * 1000) : "–", "message's age"],
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
      { title: "Exclusive", wide: true, cell: (one) => one.exclusive ? "yes" : "no" },
      { title: "Prefetch", num: true, cell: (one) => one.prefetch_count === 0 ? "no limit" : number(one.prefetch_count) },
      { title: "Unacked", num: true, cell: (one) => number(one.messages_unacknowledged ?? NaN) },
    ],
  });
}

function about(row) {
  const stats = row.message_stats ?? {};
  const died = Object.entries(row.dead_lettered ?? stats.dead_lettered ?? {});
  return card("Queue", facts([
    ["Virtual host", row.vhost], ["Type", row.type], ["Durable", row.durable ? "yes" : "no"], ["Goes with its last consumer", row.auto_delete ? "yes" : "no"],
    ["Exclusive", row.exclusive ? "yes, of one connection" : "no"], ["Policy", row.policy], ["Operator policy", row.operator_policy],
    ["Persistent messages", number(row.messages_persistent)], ["Redelivered", number(stats.redeliver ?? 0)],
    died.length > 0 ? ["Died here", died.map(([why, amount]) => `${amount} ${why}`).join(", ")] : null,
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
    title: "Move messages", submit: "Move", text: "Ready messages go to another queue, or through an exchange, the oldest first. None is lost on the way.",
    fields: [
      { name: "exchange", label: "Exchange", hint: "Without one, the key is the name of a queue." },
      { name: "routing_key", label: "Queue or routing key", required: true },
      { name: "count", label: "How many", kind: "number", min: 1, value: row.messages_ready || 1 },
    ],
    send: ({ exchange = "", routing_key: key, count: most }) => ctx.act(() => post(`${path}/move`, { exchange, routing_key: key, count: most }),
      (moved) => `${count(moved?.moved ?? 0, "message")} moved.`),
  });
}

/** Looks into a queue without taking anything out of it. */
export function browse(ctx, path) {
  const seen = { filter: { contains: "", header: "", value: "" }, offset: 0, found: null, error: null, busy: false };
  const COUNT = 20;
  const load = async (offset) => {
    const query = new URLSearchParams({ offset, count: COUNT });
    if (seen.filter.contains) query.set("body", seen.filter.contains);
    if (seen.filter.header) query.set("header", `${seen.filter.header}=${seen.filter.value}`);
    Object.assign(seen, { busy: true, error: null });
    ctx.draw();
    try {
      Object.assign(seen, { found: await get(`${path}/browse?${query}`), offset });
    } catch (error) {
      seen.error = error.reason ?? error.message;
    }
    seen.busy = false;
    ctx.draw();
  };
  const typed = (name) => (event) => { seen.filter[name] = event.target.value; };
  return {
    view() {
      const { found } = seen;
      return [
        h("form", { class: "toolbar", onsubmit: (event) => { event.preventDefault(); load(0); } },
          h("input", { type: "text", "aria-label": "Text in the body", placeholder: "Text in the body", oninput: typed("contains"), spellcheck: "false" }),
          h("input", { type: "text", "aria-label": "Header", placeholder: "Header", oninput: typed("header"), spellcheck: "false" }),
          h("input", { type: "text", "aria-label": "Value of the header", placeholder: "its value", oninput: typed("value"), spellcheck: "false" }),
          h("button", { type: "submit", disabled: seen.busy }, seen.busy ? "Looking…" : "Browse"),
          h("span", { class: "muted" }, "Nothing is taken out, and nothing is marked.")),
        seen.error ? h("p", { class: "error", role: "alert" }, seen.error) : null,
        found ? [
          found.messages.length === 0 ? h("p", { class: "empty" }, "No message is here that looks like this.")
            : h("div", { class: "messages" }, found.messages.map((one) => message(one, { key: `message ${one.position}` }))),
          h("div", { class: "pager" },
            h("span", { class: "muted" }, `${exact(found.scanned)} looked at${found.more ? "" : ", to the end"}`),
            seen.offset > 0 ? h("button", { type: "button", onclick: () => load(0) }, "From the start") : null,
            found.more ? h("button", { type: "button", onclick: () => load(seen.offset + Math.max(found.scanned, 1)) }, "Next") : null),
        ] : null,
      ];
    },
  };
}
