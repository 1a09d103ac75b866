// What is published to an exchange right now, as it comes.

import { open, part } from "../api.js";
import { h } from "../dom.js";
import { clock, number } from "../format.js";
import { message } from "../messages.js";

/** Milliseconds between two looks of the page at what has come. */
const DRAWN = 250;
/** Messages that are kept on the page. */
const KEPT = 200;

export default function tail(ctx) {
  const exchanges = () => ctx.vhosts().length === 0 ? null : `/api/exchanges/${part(chosen())}?columns=name,type`;
  const chosen = () => ctx.query.get("vhost") ?? ctx.vhost ?? ctx.vhosts()[0];
  const seen = { messages: [], count: 0, left_out: 0, ending: null, error: null };
  let serial = 0;
  let asked = ctx.query.get("go") === "1";

  const stop = () => {
    seen.ending?.abort();
    seen.ending = null;
  };
  const start = async () => {
    stop();
    const ending = new AbortController();
    Object.assign(seen, { ending, error: null });
    ctx.draw();
    const pattern = ctx.query.get("key") ?? "#";
    try {
      const path = `/api/exchanges/${part(chosen())}/${part(ctx.query.get("exchange") ?? "amq.topic")}/tail?key=${part(pattern)}`;
      for await (const event of await open(path, ending.signal)) {
        if (event.left_out ?? event.dropped) seen.left_out += event.left_out ?? event.dropped;
        if (event.routing_key === undefined) continue;
        seen.count += 1;
        seen.messages.unshift({ ...event, at: Date.now(), serial: ++serial });
        seen.messages.length = Math.min(seen.messages.length, KEPT);
        soon();
      }
    } catch (error) {
      if (error.name !== "AbortError") seen.error = error.reason ?? error.message;
    }
    if (seen.ending === ending) seen.ending = null;
    ctx.draw();
  };
  let due = false;
  const soon = () => {
    if (due) return;
    due = true;
    setTimeout(() => { due = false; ctx.draw(); }, DRAWN);
  };
  const submit = (event) => {
    event.preventDefault();
    const values = Object.fromEntries(new FormData(event.target));
    ctx.set({ vhost: values.vhost, exchange: values.exchange, key: values.key === "#" ? null : values.key });
    start();
  };
  return {
    title: "Live tail",
    gets: () => [exchanges()].filter(Boolean),
    view() {
      const names = (ctx.need(exchanges())).map(({ name }) => name).filter((name) => name !== "");
      if (asked) {
        asked = false;
        start();
      }
      return [
        h("p", { class: "muted lead" }, "Copies of what is published to an exchange. They are for this page alone: queues and consumers see nothing of it. When there are too many, some are left out."),
        h("form", { class: "toolbar", onsubmit: submit },
          h("label", null, "Virtual host ", h("select", { name: "vhost", value: chosen(), onchange: (event) => ctx.set({ vhost: event.target.value }) }, ctx.vhosts().map((name) => h("option", { value: name }, name)))),
          h("label", null, "Exchange ", h("input", { name: "exchange", list: "tail-exchanges", required: true, value: ctx.query.get("exchange") ?? "amq.topic", spellcheck: "false" })),
          h("datalist", { id: "tail-exchanges" }, names.map((value) => h("option", { value }))),
          h("label", null, "Key ", h("input", { name: "key", type: "search", value: ctx.query.get("key") ?? "#", spellcheck: "false", title: "* is one word, # any number of them" })),
          h("button", { type: "submit", class: "primary", "data-new": "" }, seen.ending ? "Start again" : "Start"),
          seen.ending ? h("button", { type: "button", onclick: () => { stop(); ctx.draw(); } }, "Stop") : null,
          seen.messages.length > 0 ? h("button", { type: "button", class: "quiet", onclick: () => { Object.assign(seen, { messages: [], count: 0, left_out: 0 }); ctx.draw(); } }, "Clear") : null),
        seen.error ? h("p", { class: "error", role: "alert" }, seen.error) : null,
        h("p", { class: "muted" }, seen.ending ? h("span", { class: "pulse" }, "Listening. ") : null,
          `${number(seen.count)} seen${seen.left_out > 0 ? `, ${number(seen.left_out)} left out` : ""}${seen.count > KEPT ? `, the last ${KEPT} below` : ""}.`),
        h("div", { class: "messages", "aria-label": "Messages, the newest first" }, seen.messages.map((one) =>
          message(one, { key: `tail ${one.serial}`, more: { summary: h("span", { class: "muted" }, ` ${clock(one.at)}`) } }))),
      ];
    },
    end: stop,
  };
}
