// What each queue and each topic costs: bytes and the share of the processor.

import { h } from "../dom.js";
import { bytes, number, percent } from "../format.js";
import { broken, card, exchangeName, sorted, table, to } from "../table.js";

export default function costs(ctx) {
  return {
    title: "Costs",
    gets: () => ["/api/costs"],
    view() {
      const { queues = [], topics = [] } = ctx.need("/api/costs");
      const mine = (rows) => ctx.vhost === null ? rows : rows.filter(({ vhost }) => vhost === ctx.vhost);
      return [
        h("p", { class: "muted lead" }, "Bytes in and out since the start, bytes that wait, and the share of the time that the broker spends on queues, measured by samples. Those that cost most are listed."),
        card("Queues", costTable(ctx, "Queues", mine(queues), (row) => h("a", { href: to.queue(row.vhost, row.name) }, broken(row.name)))),
        card("Topics and other exchanges", costTable(ctx, "Topics", mine(topics), (row) => h("a", { href: to.exchange(row.vhost, row.name) }, broken(exchangeName(row.name))))),
      ];
    },
  };
}

function costTable(ctx, caption, rows, link) {
  return table({
    ctx, caption, rows: sorted(ctx, rows), key: (row) => JSON.stringify([row.vhost, row.name]), empty: "Nothing has cost anything yet.",
    columns: [
      { title: "Name", sort: "name", head: true, cell: link },
      { title: "Virtual host", wide: true, cell: (row) => row.vhost },
      { title: "Processor", sort: "cpu_share", num: true, cell: (row) => bar(row.cpu_share) },
      { title: "Bytes in", sort: "bytes_in", num: true, cell: (row) => bytes(row.bytes_in) },
      { title: "Bytes out", sort: "bytes_out", num: true, cell: (row) => bytes(row.bytes_out) },
      { title: "Waiting", sort: "bytes_stored", num: true, cell: (row) => bytes(row.bytes_stored) },
      { title: "Messages in", sort: "messages_in", num: true, wide: true, cell: (row) => number(row.messages_in) },
    ],
  });
}

function bar(share) {
  if (!Number.isFinite(share)) return "–";
  return h("span", { class: "share" }, h("meter", { min: 0, max: 1, value: share, "aria-hidden": "true" }), percent(share));
}
