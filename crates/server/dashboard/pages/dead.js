// Dead letters: where they died, why, and back again.

import { part, post } from "../api.js";
import { ask, toast } from "../dialog.js";
import { h } from "../dom.js";
import { number, span } from "../format.js";
import { broken, card, table, tag, to } from "../table.js";
import { browse, moved } from "./queue.js";

/** Reasons, as brokers and the SDK write them. */
const REASONS = { __proto__: null, rejected: "a consumer rejected it", expired: "its time was over", maxlen: "the queue was full", delivery_limit: "it came back too often",
  attempts: "its handler failed too often", undecodable: "its handler could not read it" };

export default function dead(ctx) {
  const path = () => `/api/dead-letters${ctx.vhost === null ? "" : `?vhost=${part(ctx.vhost)}`}`;
  const browsers = new Map();
  const redrive = ({ vhost, queue, messages }) => ask({
    title: `Redrive ${queue}?`, submit: "Redrive",
    text: "Each letter goes back to the queue in which it first died, as it was published there. Do this when what killed them is mended.",
    fields: [{ name: "count", label: "How many", kind: "number", min: 1, value: Math.max(1, messages) }],
    async send(values) {
      toast(moved(await post(`/api/queues/${part(vhost)}/${part(queue)}/redrive`, values), "letter"));
      ctx.reload();
    },
  });
  return {
    title: "Dead letters",
    gets: () => [path()],
    view() {
      const rows = ctx.need(path());
      const key = ({ vhost, queue }) => JSON.stringify([vhost, queue]);
      const open = rows.find((row) => key(row) === ctx.query.get("open"));
      return [
        h("p", { class: "muted lead" }, "Queues to which others send their dead letters."),
        table({
          caption: "Queues of dead letters", rows, key, empty: "No queue sends its dead letters anywhere.",
          columns: [
            { title: "Queue", head: true, cell: (row) => h("a", { href: to.queue(row.vhost, row.queue) }, broken(row.queue)) },
            { title: "Virtual host", wide: true, cell: (row) => row.vhost },
            { title: "Letters", num: true, cell: (row) => number(row.messages) },
            { title: "Why, and where from", cell: (row) => origins(row) },
            { title: "Oldest", wide: true, num: true, cell: (row) => span(row.oldest_age) },
            { title: "", cell: (row) => row.messages === 0 ? null : h("span", { class: "row-buttons" },
              h("button", { type: "button", class: "small", onclick: () => ctx.set({ open: key(row) }) }, "Browse"),
              h("button", { type: "button", class: "small primary", onclick: () => redrive(row) }, "Redrive")) },
          ],
        }),
        open ? card(`In ${open.queue}`, letters(open)) : null,
      ];
    },
  };

  function letters(row) {
    const path = `/api/queues/${part(row.vhost)}/${part(row.queue)}`;
    if (!browsers.has(path)) browsers.set(path, browse(ctx, path));
    return browsers.get(path).view();
  }
}

function origins(row) {
  const list = row.reasons ?? [];
  if (list.length === 0) return h("span", { class: "muted" }, row.messages === 0 ? "empty" : "they say nothing of it");
  const some = row.sampled < row.messages ? h("small", { class: "muted block" }, `of the first ${number(row.sampled)}`) : null;
  return [list.map(({ reason, queue, count: amount }) => h("div", { class: "origin", key: JSON.stringify([reason, queue]) },
    tag(reason, "warn", REASONS[reason]), ` ${number(amount)} from `, h("a", { href: to.queue(row.vhost, queue) }, queue))), some];
}
