// All queues: the broker searches, sorts and cuts into pages, so that ten thousand are as quick as ten.

import { part, put } from "../api.js";
import { queueArguments } from "../arguments.js";
import { ask } from "../dialog.js";
import { h } from "../dom.js";
import { bytes, number, plain, rate } from "../format.js";
import { search } from "../form.js";
import { broken, pager, paging, table, tag, to } from "../table.js";
import { state } from "./connections.js";

const COLUMNS = ["name", "vhost", "type", "durable", "auto_delete", "exclusive", "arguments", "policy", "state", "messages_ready", "messages_unacknowledged",
  "message_bytes", "consumers", "message_stats.publish_details.rate", "message_stats.deliver_get_details.rate", "message_stats.ack_details.rate"].join(",");

const perSecond = (name) => (row) => rate(row.message_stats?.[`${name}_details`]?.rate ?? 0);

/** A form that declares a queue. */
function add(ctx) {
  ask({
    title: "Add a queue", submit: "Add",
    fields: [
      { name: "vhost", label: "Virtual host", kind: "select", options: ctx.vhosts(), value: ctx.vhost ?? ctx.vhosts()[0] },
      { name: "name", label: "Name", required: true, autofocus: true },
      { name: "type", label: "Type", kind: "select", options: ["classic", "quorum"] },
      { name: "durable", label: "Durable", kind: "check", value: true },
      { name: "auto_delete", label: "Goes with its last consumer", kind: "check" },
      { name: "arguments", label: "Arguments", kind: "map", ...queueArguments },
    ],
    async send({ vhost, name, type, ...definition }) {
      if (type === "quorum") definition.arguments["x-queue-type"] = "quorum";
      await put(`/api/queues/${part(vhost)}/${part(name)}`, definition);
      location.hash = to.queue(vhost, name);
    },
  });
}

export default function queues(ctx) {
  const path = () => `${ctx.list("queues")}?${paging(ctx, { columns: COLUMNS })}`;
  return {
    title: "Queues",
    actions: () => h("button", { type: "button", class: "primary", "data-new": "", onclick: () => add(ctx) }, "Add a queue"),
    gets: () => [path()],
    view() {
      const body = ctx.need(path());
      return [
        h("div", { class: "toolbar" }, search(ctx, "Search queues"), pager(ctx, body, "queue")),
        table({
          ctx, caption: "Queues", rows: body.items, key: ({ vhost, name }) => JSON.stringify([vhost, name]),
          empty: ctx.query.get("q") ? "No queue has this in its name." : "There is no queue yet. Programs declare theirs; `Add a queue` does it by hand.",
          columns: [
            { title: "Name", sort: "name", head: true, cell: (row) => h("a", { href: to.queue(row.vhost, row.name) }, broken(row.name)) },
            { title: "Virtual host", sort: "vhost", wide: true, cell: (row) => row.vhost },
            { title: "Features", wide: true, cell: (row) => features(row) },
            { title: "State", sort: "state", cell: (row) => state(row.state) },
            { title: "Ready", sort: "messages_ready", num: true, cell: (row) => number(row.messages_ready) },
            { title: "Unacked", sort: "messages_unacknowledged", num: true, cell: (row) => number(row.messages_unacknowledged) },
            { title: "Size", sort: "message_bytes", num: true, wide: true, cell: (row) => bytes(row.message_bytes) },
            { title: "Consumers", sort: "consumers", num: true, cell: (row) => number(row.consumers) },
            { title: "In", sort: "message_stats.publish_details.rate", num: true, cell: perSecond("publish") },
            { title: "Out", sort: "message_stats.deliver_get_details.rate", num: true, cell: perSecond("deliver_get") },
            { title: "Ack", sort: "message_stats.ack_details.rate", num: true, wide: true, cell: perSecond("ack") },
          ],
        }),
      ];
    },
  };
}

/** Arguments that many queues have, in a word; what they are in full is on the queue's page. */
const SHORT = { __proto__: null, "x-message-ttl": "TTL", "x-expires": "expires", "x-max-length": "limit", "x-max-length-bytes": "limit", "x-dead-letter-exchange": "dead letters",
  "x-delivery-limit": "attempts", "x-delayed-retry-min": "retry later", "x-single-active-consumer": "single active", "x-group-header": "groups", "x-message-deduplication": "once" };

function features(row) {
  const given = Object.entries(row.arguments ?? {});
  const words = new Map(given.filter(([name]) => SHORT[name]).map(([name, value]) => [SHORT[name], `${name}: ${plain(value)}`]));
  const others = given.filter(([name]) => !queueArguments.suggest.includes(name) && name !== "x-queue-type");
  return [tag(row.type ?? "classic"), row.durable ? null : [" ", tag("transient")], row.auto_delete ? [" ", tag("auto-delete")] : null, row.exclusive ? [" ", tag("exclusive")] : null,
    [...words].map(([word, full]) => [" ", tag(word, "", full)]),
    others.length > 0 ? [" ", tag(`+${others.length}`, "", others.map(([name, value]) => `${name}: ${plain(value)}`).join("\n"))] : null,
    row.policy ? [" ", tag(row.policy, "policy", `Policy ${row.policy}`)] : null];
}
