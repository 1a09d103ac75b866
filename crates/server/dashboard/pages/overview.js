// The broker as a whole: what flows, what waits, how long a confirm takes, how much room there is.

import { chart, range, rangeSwitch, spark } from "../chart.js";
import { h } from "../dom.js";
import { bytes, exact, number, percent, rate, span } from "../format.js";
import { card, facts, table, tag } from "../table.js";
import { alarmList } from "./alarms.js";

const RATES = [["publish", "Publish", "blue"], ["deliver", "Deliver", "green"], ["ack", "Ack", "amber"]];
const series = (list) => list.map(([name, label, color]) => ({ name, label, color }));

export default function overview(ctx) {
  const charts = {
    rates: chart({ title: "Messages per second", series: series(RATES), format: rate }),
    waiting: chart({ title: "Messages in queues", series: series([["ready", "Ready", "violet"], ["unacked", "Unacked", "pink"]]), format: number }),
    confirm: chart({ title: "Confirm latency", series: series([["confirm_p50", "Median", "teal"], ["confirm_p99", "99 %", "blue"]]), format: span }),
    memory: chart({ title: "Memory", series: series([["memory", "Used", "violet"]]), format: bytes }),
    disk: chart({ title: "Disk", series: series([["disk", "Used by the broker", "amber"]]), format: bytes }),
  };
  const history = () => `/api/history?range=${range(ctx)}`;
  let shown = null;
  return {
    title: "Overview",
    actions: () => rangeSwitch(ctx),
    gets: () => ["/api/overview", "/api/nodes", history()],
    view() {
      const now = ctx.need("/api/overview");
      const past = ctx.body(history());
      const [node] = ctx.body("/api/nodes") ?? [];
      if (past && past !== shown) {
        shown = past;
        for (const one of Object.values(charts)) one.set(past);
      }
      return [
        alarmList(ctx.body("/api/alarms"), true),
        tiles(now, past?.values ?? {}),
        h("div", { class: "charts five" }, Object.values(charts).map(({ element }) => element)),
        h("div", { class: "halves" }, nodeCard(now, node), totals(now), listeners(now)),
      ];
    },
    end: () => Object.values(charts).forEach((one) => one.end()),
  };
}

function tiles(now, past) {
  const { queue_totals: queues = {}, message_stats: stats = {}, object_totals: objects = {} } = now;
  const perSecond = (name) => stats[`${name}_details`]?.rate ?? 0;
  return h("div", { class: "tiles" }, [
    ["Publish", rate(perSecond("publish")), "publish", "blue"],
    ["Deliver", rate(perSecond("deliver_get")), "deliver", "green"],
    ["Ack", rate(perSecond("ack")), "ack", "amber"],
    ["Ready", number(queues.messages_ready ?? 0), "ready", "violet", "#/queues?sort=messages_ready&desc=1"],
    ["Unacked", number(queues.messages_unacknowledged ?? 0), "unacked", "pink", "#/queues?sort=messages_unacknowledged&desc=1"],
    ["Queues", number(objects.queues), null, null, "#/queues"],
    ["Connections", number(objects.connections), null, null, "#/connections"],
    ["Channels", number(objects.channels), null, null, "#/channels"],
    ["Consumers", number(objects.consumers), null, null, null],
    ["Exchanges", number(objects.exchanges), null, null, "#/exchanges"],
  ].map(([name, value, line, color, href]) => h(href ? "a" : "div", { class: "tile", href, key: name },
    h("span", { class: "tile-name" }, name), h("span", { class: "tile-value" }, value), line ? spark(past[line], color) : null)));
}

function nodeCard(now, node) {
  if (!node) return card("Node", h("p", { class: "muted" }, "The figures of the node are for monitoring and administrators."));
  return card("Node",
    facts([
      ["Name", node.name],
      ["Version", now.product_version ?? now.rabbitmq_version],
      ["Up", span(Math.round((node.uptime ?? 0) / 1000))],
      ["Confirms wait for", node.sync ? `sync ${node.sync}` : null],
      ["Write amplification", Number.isFinite(node.write_amplification) ? node.write_amplification.toFixed(2) : null],
      ["Last start took", Number.isFinite(node.recovery_seconds) ? span(node.recovery_seconds) : null],
    ].filter(([, value]) => value !== null)),
    gauge("Memory", node.mem_used, node.mem_limit, node.mem_alarm),
    Number.isFinite(node.disk_free) ? h("p", { class: "gauge-line" }, h("span", null, "Free disk"), h("b", null, bytes(node.disk_free)),
      h("span", { class: "muted" }, ` alarm below ${bytes(node.disk_free_limit)}`), node.disk_free_alarm ? tag("alarm", "bad") : null) : null,
    gauge("File descriptors", node.fd_used, node.fd_total, false, exact));
}

function gauge(name, used, most, alarm, format = bytes) {
  if (!Number.isFinite(used) || !Number.isFinite(most) || most === 0) return null;
  return h("div", { class: "gauge" }, h("p", { class: "gauge-line" }, h("span", null, name), h("b", null, format(used)),
    h("span", { class: "muted" }, ` of ${format(most)}, ${percent(used / most)}`), alarm ? tag("alarm", "bad") : null),
  h("meter", { min: 0, max: most, high: most * 0.8, value: Math.min(used, most), "aria-label": `${name}: ${format(used)} of ${format(most)}` }));
}

function totals(now) {
  const stats = now.message_stats ?? {};
  const names = [["publish", "Published"], ["confirm", "Confirmed"], ["deliver_get", "Delivered"], ["redeliver", "Redelivered"], ["ack", "Acknowledged"],
    ["return_unroutable", "Returned, no queue"], ["drop_unroutable", "Dropped, no queue"]];
  return card("Since the start", facts(names.map(([name, text]) => [text, h("span", { title: exact(stats[name] ?? 0) }, exact(stats[name] ?? 0))])));
}

function listeners(now) {
  return card("Listens on", table({
    caption: "Listeners", rows: now.listeners ?? [], key: (row) => `${row.protocol} ${row.ip_address} ${row.port}`,
    columns: [{ title: "Protocol", head: true, cell: (row) => row.protocol }, { title: "Address", cell: (row) => row.ip_address }, { title: "Port", num: true, cell: (row) => String(row.port) }],
  }));
}
