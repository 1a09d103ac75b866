// Channels: what each publishes and consumes.

import { part } from "../api.js";
import { h } from "../dom.js";
import { number, rate } from "../format.js";
import { search } from "../form.js";
import { card, facts, figures, pager, paging, table, tag, to } from "../table.js";
import { state } from "./connections.js";

const perSecond = (name) => (row) => rate(row.message_stats?.[`${name}_details`]?.rate ?? 0);

/** The columns of a list of channels. */
export function channelColumns() {
  return [
    { title: "Channel", sort: "name", head: true, cell: (row) => h("a", { href: to.channel(row.name) }, row.name) },
    { title: "User", sort: "user", wide: true, cell: (row) => row.user },
    { title: "Mode", cell: (row) => mode(row) },
    { title: "State", wide: true, cell: (row) => state(row.state) },
    { title: "Prefetch", sort: "prefetch_count", num: true, wide: true, cell: (row) => row.prefetch_count === 0 ? "no limit" : number(row.prefetch_count) },
    { title: "Consumers", sort: "consumer_count", num: true, cell: (row) => number(row.consumer_count) },
    { title: "Unacked", sort: "messages_unacknowledged", num: true, cell: (row) => number(row.messages_unacknowledged) },
    { title: "Unconfirmed", sort: "messages_unconfirmed", num: true, wide: true, cell: (row) => number(row.messages_unconfirmed) },
    { title: "Publish", sort: "message_stats.publish_details.rate", num: true, cell: perSecond("publish") },
    { title: "Deliver", sort: "message_stats.deliver_get_details.rate", num: true, cell: perSecond("deliver_get") },
    { title: "Ack", sort: "message_stats.ack_details.rate", num: true, cell: perSecond("ack") },
  ];
}

function mode(row) {
  return [row.confirm ? tag("confirms", "", "What it publishes is confirmed") : null, row.transactional ? tag("transactions", "", "It publishes in transactions") : null];
}

export default function channels(ctx) {
  const path = () => `${ctx.vhost === null ? "/api/channels" : `/api/vhosts/${part(ctx.vhost)}/channels`}?${paging(ctx)}`;
  return {
    title: "Channels",
    gets: () => [path()],
    view() {
      const body = ctx.need(path());
      return [
        h("div", { class: "toolbar" }, search(ctx, "Search channels"), pager(ctx, body, "channel")),
        table({ ctx, caption: "Channels", rows: body.items, key: ({ name }) => name, columns: channelColumns(), empty: ctx.query.get("q") ? "No channel has this in its name." : "There is no channel." }),
      ];
    },
  };
}

export function channel(ctx) {
  const [name] = ctx.params;
  const path = `/api/channels/${part(name)}`;
  return {
    title: name,
    gets: () => [path],
    view() {
      const row = ctx.need(path);
      const stats = row.message_stats ?? {};
      const names = [["publish", "Published"], ["confirm", "Confirmed"], ["return_unroutable", "Returned, no queue"], ["deliver", "Delivered, to be acknowledged"],
        ["deliver_no_ack", "Delivered without"], ["get", "Got, to be acknowledged"], ["get_no_ack", "Got without"], ["get_empty", "Found nothing to get"], ["redeliver", "Redelivered"], ["ack", "Acknowledged"]];
      return [
        figures([["State", state(row.state)], ["Unacked", number(row.messages_unacknowledged)], ["Unconfirmed", number(row.messages_unconfirmed)],
          ["Publish", perSecond("publish")(row)], ["Deliver", perSecond("deliver_get")(row)], ["Ack", perSecond("ack")(row)]]),
        h("div", { class: "halves" },
          card("Channel", facts([["Connection", row.connection_details ? h("a", { href: to.connection(row.connection_details.name) }, row.connection_details.name) : null],
            ["User", row.user], ["Virtual host", row.vhost], ["Mode", row.confirm ? "confirms" : row.transactional ? "transactions" : "neither confirms nor transactions"],
            ["Prefetch of each consumer", row.prefetch_count === 0 ? "no limit" : number(row.prefetch_count)], ["Prefetch of all", row.global_prefetch_count === 0 ? "no limit" : number(row.global_prefetch_count)],
            ["Waiting for a commit", `${number(row.messages_uncommitted)} messages, ${number(row.acks_uncommitted)} acks`]])),
          card("Since it was opened", facts(names.map(([key, text]) => [text, `${number(stats[key] ?? 0)} · ${rate(stats[`${key}_details`]?.rate ?? 0)}`])))),
        card("Consumers", table({ caption: "Consumers", rows: row.consumer_details ?? [], key: (row) => row.consumer_tag, empty: "It consumes nothing.",
          columns: [
            { title: "Tag", head: true, cell: (row) => row.consumer_tag },
            { title: "Queue", cell: (row) => row.queue ? h("a", { href: to.queue(row.queue.vhost, row.queue.name) }, row.queue.name) : "–" },
            { title: "Acknowledges", cell: (row) => row.ack_required ? "yes" : "no" },
            { title: "Prefetch", num: true, cell: (row) => row.prefetch_count === 0 ? "no limit" : number(row.prefetch_count) },
          ] })),
      ];
    },
  };
}
