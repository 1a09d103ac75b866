// Who is connected.

import { part, remove } from "../api.js";
import { ask } from "../dialog.js";
import { h } from "../dom.js";
import { bytes, number, plain, span, time } from "../format.js";
import { search } from "../form.js";
import { card, facts, figures, pager, paging, table, tag, to } from "../table.js";
import { channelColumns } from "./channels.js";

export default function connections(ctx) {
  const path = () => `${ctx.vhost === null ? "/api/connections" : `/api/vhosts/${part(ctx.vhost)}/connections`}?${paging(ctx)}`;
  return {
    title: "Connections",
    gets: () => [path()],
    view() {
      const body = ctx.need(path());
      return [
        h("div", { class: "toolbar" }, search(ctx, "Search connections"), pager(ctx, body, "connection")),
        table({
          ctx, caption: "Connections", rows: body.items, key: ({ name }) => name,
          empty: ctx.query.get("q") ? "No connection has this in its name." : "Nobody is connected.",
          columns: [
            { title: "Name", sort: "name", head: true, cell: (row) => [h("a", { href: to.connection(row.name) }, row.user_provided_name ?? row.client_properties?.connection_name ?? row.name),
              row.client_properties?.connection_name ? h("small", { class: "muted block" }, row.name) : null] },
            { title: "User", sort: "user", cell: (row) => row.user },
            { title: "Virtual host", sort: "vhost", wide: true, cell: (row) => row.vhost },
            { title: "State", sort: "state", cell: (row) => state(row.state) },
            { title: "Client", wide: true, cell: (row) => client(row) },
            { title: "Channels", sort: "channels", num: true, cell: (row) => number(row.channels) },
            { title: "In", sort: "recv_oct_details.rate", num: true, cell: (row) => `${bytes(row.recv_oct_details?.rate ?? 0)}/s` },
            { title: "Out", sort: "send_oct_details.rate", num: true, cell: (row) => `${bytes(row.send_oct_details?.rate ?? 0)}/s` },
            { title: "Since", sort: "connected_at", wide: true, cell: (row) => time(row.connected_at) },
          ],
        }),
      ];
    },
  };
}

export function state(name) {
  const kinds = { __proto__: null, running: "good", idle: "", flow: "warn", blocked: "bad", blocking: "warn", paused: "warn", damaged: "bad", down: "bad", crashed: "bad" };
  return name ? tag(name, kinds[name] ?? "") : "–";
}

function client({ client_properties: properties = {} }) {
  return [properties.product, properties.version].filter((text) => typeof text === "string").join(" ") || "–";
}

export function connection(ctx) {
  const [name] = ctx.params;
  const path = `/api/connections/${part(name)}`;
  const close = () => ask({
    title: "Close this connection?", danger: true, submit: "Close the connection",
    text: ["The client is told ", h("code", null, "CONNECTION_FORCED"), " and the reason. What it has not acknowledged goes back to the queues. Most clients connect again."],
    fields: [{ name: "reason", label: "Reason", value: "Closed via management plugin" }],
    async send({ reason }) {
      await remove(path, { "X-Reason": reason ?? "Closed via management plugin" });
      location.hash = "#/connections";
    },
  });
  return {
    title: name,
    actions: () => h("button", { type: "button", class: "danger", onclick: close }, "Close the connection"),
    gets: () => [path, `${path}/channels`],
    view() {
      const row = ctx.need(path);
      const properties = row.client_properties ?? {};
      return [
        figures([["State", state(row.state)], ["Channels", number(row.channels)],
          ["In", `${bytes(row.recv_oct_details?.rate ?? 0)}/s`, bytes(row.recv_oct)], ["Out", `${bytes(row.send_oct_details?.rate ?? 0)}/s`, bytes(row.send_oct)]]),
        h("div", { class: "halves" },
          card("Connection", facts([["User", row.user], ["Virtual host", row.vhost], ["From", `${row.peer_host}:${row.peer_port}`], ["To", `${row.host}:${row.port}`],
            ["Protocol", row.protocol], ["Mechanism", row.auth_mechanism], ["Heartbeat", span(row.timeout)], ["Largest frame", bytes(row.frame_max)],
            ["Most channels", number(row.channel_max)], ["Since", time(row.connected_at)], ["Frames", `${number(row.recv_cnt)} in, ${number(row.send_cnt)} out`]])),
          card("What the client says of itself", facts(Object.entries(properties).map(([key, value]) => [key, plain(value)])))),
        card("Channels", table({ caption: "Channels", rows: ctx.body(`${path}/channels`) ?? [], key: (row) => row.name, columns: channelColumns(), empty: "It has no channel." })),
      ];
    },
  };
}

