// Messages: how one is shown, and how one is published.

import { part, post } from "./api.js";
import { ask, toast } from "./dialog.js";
import { h } from "./dom.js";
import { bytes, exact, time } from "./format.js";
import { exchangeName, facts, tag } from "./table.js";

/** Properties in the order in which they are worth reading. */
const PROPERTIES = [["message_id", "Message id"], ["type", "Type"], ["content_type", "Content type"], ["content_encoding", "Encoding"],
  ["correlation_id", "Correlation id"], ["reply_to", "Reply to"], ["expiration", "Expiration"], ["priority", "Priority"],
  ["app_id", "Application"], ["user_id", "User"]];

/** A message as `browse`, `get` and the tail tell of it. */
export function message(found, { key, more } = {}) {
  const properties = found.properties ?? {};
  const { headers = {} } = properties;
  const size = found.payload_bytes ?? found.payload?.length ?? 0;
  return h("details", { class: "message", key },
    h("summary", null,
      found.position !== undefined ? h("span", { class: "position" }, `#${exact(found.position)}`) : null,
      h("code", { class: "key" }, found.routing_key === "" ? "(no key)" : found.routing_key),
      h("span", { class: "muted" }, ` from ${exchangeName(found.exchange ?? "")}`),
      " ", found.state && found.state !== "ready" ? tag(found.state, "warn") : null,
      found.redelivered ? tag("redelivered", "warn") : null,
      more?.summary ?? null,
      h("span", { class: "grow" }),
      h("span", { class: "muted" }, bytes(size)),
      h("span", { class: "preview" }, preview(found))),
    h("div", { class: "message-body" },
      facts([
        ...PROPERTIES.filter(([name]) => properties[name] !== undefined).map(([name, title]) => [title, String(properties[name])]),
        properties.timestamp !== undefined ? ["Timestamp", time(properties.timestamp * 1000)] : null,
        properties.delivery_mode !== undefined ? ["Persistent", properties.delivery_mode === 2 ? "yes" : "no"] : null,
        found.arrived_at ? ["Arrived", time(found.arrived_at)] : null,
        found.returned > 0 ? ["Came back", `${exact(found.returned)} times`] : null,
      ]),
      Object.keys(headers).length > 0 ? [h("h4", null, "Headers"), facts(Object.entries(headers).map(([name, value]) =>
        [name, typeof value === "object" ? h("pre", null, JSON.stringify(value, null, 2)) : String(value)]))] : null,
      h("h4", null, "Body"), h("pre", { tabindex: "0" }, payload(found)),
      more?.buttons ?? null));
}

function preview({ payload_encoding: encoding, payload: text = "" }) {
  return encoding === "base64" ? "binary" : text.slice(0, 200);
}

/** JSON with its indents; what is no text stays in base64. */
function payload({ payload_encoding: encoding, payload: text = "", payload_bytes: size, properties }) {
  const cut = encoding !== "base64" && size !== undefined && text.length > 0 && new TextEncoder().encode(text).length < size;
  const rest = cut ? `\n… ${bytes(size)} in all` : "";
  if (encoding !== "base64" && !cut && (properties?.content_type?.includes("json") || /^\s*[[{]/.test(text))) {
    try {
      return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      // It only looked like JSON.
    }
  }
  return (text === "" ? "(empty)" : text) + rest;
}

/** A form that publishes to an exchange; a queue's name as key and no exchange is that queue. */
export function publish(ctx, { vhost, exchange, key = "", fixed }) {
  ask({
    title: fixed ? `Publish to ${key}` : `Publish to ${exchangeName(exchange)}`,
    submit: "Publish",
    again: true,
    fields: [
      fixed ? null : { name: "key", label: "Routing key", value: key, keepEmpty: true },
      { name: "payload", label: "Body", kind: "area", autofocus: true, rows: 6 },
      { name: "encoding", label: "The body is", kind: "select", options: [["string", "text"], ["base64", "base64"]] },
      { name: "persistent", label: "Persistent", kind: "check", value: true },
      { name: "content_type", label: "Content type", suggest: ["application/json", "text/plain"] },
      { name: "message_id", label: "Message id" },
      { name: "headers", label: "Headers", kind: "map" },
    ].filter(Boolean),
    async send(values) {
      const properties = { delivery_mode: values.persistent ? 2 : 1, headers: values.headers };
      for (const name of ["content_type", "message_id"]) if (values[name] !== undefined) properties[name] = values[name];
      const { routed } = await post(`/api/exchanges/${part(vhost)}/${part(exchange === "" ? "amq.default" : exchange)}/publish`,
        { properties, routing_key: fixed ? key : values.key ?? "", payload: values.payload, payload_encoding: values.encoding });
      toast(routed ? "Published." : "No queue took it: no binding matches this key.", routed ? "good" : "bad");
      ctx.reload();
    },
  });
}
