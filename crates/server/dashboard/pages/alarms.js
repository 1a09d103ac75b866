// What needs somebody now, and the checks that monitoring asks.

import { h } from "../dom.js";
import { bytes, time } from "../format.js";
import { card, tag } from "../table.js";

const CHECKS = [
  ["alarms", "No alarm anywhere"],
  ["local-alarms", "No alarm on this node"],
  ["virtual-hosts", "All virtual hosts work"],
  ["node-is-quorum-critical", "Nobody depends on this node alone"],
  ["protocol-listener/amqp", "AMQP is listened for"],
];

/** An alarm, by its name: what it is, and what to do. */
const KNOWN = {
  __proto__: null,
  memory: ["Memory is short", "Publishers are stopped until it is not. Consume or purge what waits, or start the broker with a higher memory limit."],
  disk: ["Disk is short", "Publishers are stopped until there is room again. Free space on the disk of the data directory, or consume what waits."],
  log: ["The log cannot be written", "Nothing is confirmed any more. See what is wrong with the disk, then start the broker again: what was confirmed is there."],
  damage: ["A queue is damaged", "Its file doesn't hold what was written. The queue is closed, the others are served; `leveret check` says what is lost."],
};

/** Alarms as boxes; nothing if there is none and `silent`. */
export function alarmList(found, silent) {
  const alarms = Array.isArray(found) ? found.filter((alarm) => alarm.active !== false) : [];
  if (alarms.length === 0) return silent ? null : h("p", { class: "all-well" }, "All is well: there is no alarm.");
  return h("ul", { class: "alarms", key: "alarms" }, alarms.map((alarm) => {
    const name = alarm.name ?? alarm.kind ?? alarm.resource;
    const [title, todo] = KNOWN[name] ?? [name, alarm.what ?? ""];
    return h("li", { class: "alarm", key: JSON.stringify([name, alarm.queue, alarm.vhost]) }, h("strong", null, title),
      alarm.reason ?? alarm.message ? h("p", null, alarm.reason ?? alarm.message) : null, h("p", { class: "muted" }, todo),
      alarm.since ? h("p", { class: "muted" }, `Since ${time(alarm.since)}`) : null);
  }));
}

export default function alarms(ctx) {
  const checks = () => CHECKS.map(([name]) => `/api/health/checks/${name}`);
  return {
    title: "Alarms",
    gets: () => ["/api/nodes", ...checks()],
    view() {
      const [node] = ctx.body("/api/nodes") ?? [];
      return [
        alarmList(ctx.need("/api/alarms")),
        node ? card("When publishers are stopped", h("ul", { class: "plain" },
          h("li", null, `Memory reaches ${bytes(node.mem_limit)}; now it is ${bytes(node.mem_used)}.`),
          h("li", null, `Free disk falls below ${bytes(node.disk_free_limit)}; now it is ${bytes(node.disk_free)}.`))) : null,
        card("Health checks", h("p", { class: "muted" }, "What probes and load balancers ask: 200 is well, 503 is not."),
          h("ul", { class: "checks" }, CHECKS.map(([name, text]) => check(ctx, name, text)))),
      ];
    },
  };
}

function check(ctx, name, text) {
  const path = `/api/health/checks/${name}`;
  let state = tag("…");
  try {
    ctx.need(path);
    state = tag("well", "good");
  } catch (error) {
    if (error.status !== undefined) state = tag(error.status === 503 ? "not well" : `${error.status}`, "bad", error.reason);
  }
  return h("li", { key: name }, state, h("span", null, text), h("code", { class: "muted" }, path));
}
