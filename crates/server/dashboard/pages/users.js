// Users, and what each may do where.

import { get, part, put, remove } from "../api.js";
import { ask } from "../dialog.js";
import { h } from "../dom.js";
import { search } from "../form.js";
import { card, facts, table, tag, to } from "../table.js";

const TAGS = "administrator, monitoring, policymaker, management; several are parted by commas. None: AMQP only.";

export default function users(ctx) {
  const add = () => ask({
    title: "Add a user", submit: "Add",
    fields: [
      { name: "name", label: "Name", required: true, autofocus: true },
      { name: "password", label: "Password", kind: "password", required: true, autocomplete: "new-password" },
      { name: "tags", label: "Tags", hint: TAGS },
      { name: "rights", label: "All rights in every virtual host that there is", kind: "check" },
    ],
    async send({ name, password, tags = "", rights }) {
      await put(`/api/users/${part(name)}`, { password, tags });
      if (rights) await Promise.all(ctx.vhosts().map((vhost) => put(`/api/permissions/${part(vhost)}/${part(name)}`, { configure: ".*", write: ".*", read: ".*" })));
      location.hash = to.user(name);
    },
  });
  return {
    title: "Users",
    actions: () => h("button", { type: "button", class: "primary", "data-new": "", onclick: add }, "Add a user"),
    gets: () => ["/api/users", "/api/permissions"],
    view() {
      const wanted = ctx.query.get("q")?.toLowerCase() ?? "";
      const all = ctx.need("/api/users");
      const permissions = Map.groupBy(ctx.body("/api/permissions") ?? [], ({ user }) => user);
      return [
        h("div", { class: "toolbar" }, search(ctx, "Search users")),
        table({
          caption: "Users", rows: all.filter(({ name }) => name.toLowerCase().includes(wanted)), key: ({ name }) => name, empty: "No user has this in their name.",
          columns: [
            { title: "Name", head: true, cell: (row) => h("a", { href: to.user(row.name) }, row.name) },
            { title: "Tags", cell: (row) => tags(row) },
            { title: "May enter", cell: (row) => (permissions.get(row.name) ?? []).map(({ vhost }) => [tag(vhost), " "]) },
            { title: "Password", wide: true, cell: (row) => row.password_hash ? "yes" : "none" },
          ],
        }),
      ];
    },
  };
}

function tags(row) {
  const list = Array.isArray(row.tags) ? row.tags : String(row.tags ?? "").split(",").filter(Boolean);
  return list.length === 0 ? h("span", { class: "muted" }, "none") : list.map((name) => [tag(name, name === "administrator" ? "warn" : ""), " "]);
}

const REGEX = "A regular expression that may match a part of the name: .* is everything, ^$ nothing.";

export function user(ctx) {
  const [name] = ctx.params;
  const path = `/api/users/${part(name)}`;
  const row = () => ctx.body(path);
  const change = () => ask({
    title: `Change ${name}`, submit: "Change",
    fields: [
      { name: "password", label: "New password", kind: "password", autocomplete: "new-password", hint: "Empty: it stays as it is." },
      { name: "tags", label: "Tags", value: (Array.isArray(row()?.tags) ? row().tags.join(",") : row()?.tags) ?? "", keepEmpty: true, hint: TAGS },
    ],
    async send({ password, tags }) {
      const kept = await get(path);
      await put(path, password === undefined ? { password_hash: kept.password_hash, hashing_algorithm: kept.hashing_algorithm, tags } : { password, tags });
      ctx.reload();
    },
  });
  const destroy = () => ask({
    title: `Delete the user ${name}?`, danger: true, submit: "Delete", text: "Their connections are closed, and their permissions go with them.",
    async send() {
      await remove(path);
      location.hash = "#/users";
    },
  });
  const allow = (found = {}) => ask({
    title: "Permissions", submit: "Set", text: REGEX,
    fields: [
      { name: "vhost", label: "Virtual host", kind: "select", options: ctx.vhosts(), value: found.vhost ?? ctx.vhost ?? ctx.vhosts()[0] },
      { name: "configure", label: "Configure: declare and delete", value: found.configure ?? ".*", keepEmpty: true },
      { name: "write", label: "Write: publish, bind a queue", value: found.write ?? ".*", keepEmpty: true },
      { name: "read", label: "Read: consume, purge, bind to an exchange", value: found.read ?? ".*", keepEmpty: true },
    ],
    async send({ vhost, ...rights }) {
      await put(`/api/permissions/${part(vhost)}/${part(name)}`, rights);
      ctx.reload();
    },
  });
  const allowTopic = (found = {}) => ask({
    title: "Topic permissions", submit: "Set", text: `Which routing keys of a topic exchange. ${REGEX} {username} and {vhost} stand for themselves.`,
    fields: [
      { name: "vhost", label: "Virtual host", kind: "select", options: ctx.vhosts(), value: found.vhost ?? ctx.vhost ?? ctx.vhosts()[0] },
      { name: "exchange", label: "Exchange", required: true, value: found.exchange ?? "amq.topic" },
      { name: "write", label: "Write", value: found.write ?? ".*", keepEmpty: true },
      { name: "read", label: "Read", value: found.read ?? ".*", keepEmpty: true },
    ],
    async send({ vhost, ...rights }) {
      await put(`/api/topic-permissions/${part(vhost)}/${part(name)}`, rights);
      ctx.reload();
    },
  });
  return {
    title: name,
    actions: () => [h("button", { type: "button", class: "primary", "data-new": "", onclick: () => allow() }, "Set permissions"), h("button", { type: "button", onclick: () => allowTopic() }, "Set topic permissions"),
      h("button", { type: "button", onclick: change }, "Change"), h("button", { type: "button", class: "danger", onclick: destroy }, "Delete")],
    gets: () => [path, `${path}/permissions`, `${path}/topic-permissions`],
    view() {
      const found = ctx.need(path);
      const text = (name) => (row) => h("code", null, row[name] === "" ? "(nothing)" : row[name]);
      const row = (change, clear) => (one) => h("span", { class: "row-buttons" }, h("button", { type: "button", class: "small", onclick: () => change(one) }, "Change"),
        h("button", { type: "button", class: "small quiet", onclick: () => ctx.act(() => remove(clear(one)), "Cleared.") }, "Clear"));
      return [
        card("User", facts([["Tags", tags(found)], ["Password", found.password_hash ? `yes (${(found.hashing_algorithm ?? "").replace("rabbit_password_hashing_", "") || "hashed"})` : "none: they can't log in"]])),
        card("Permissions", h("p", { class: "muted" }, REGEX), table({
          caption: "Permissions", rows: ctx.body(`${path}/permissions`) ?? [], key: ({ vhost }) => vhost, empty: "They may enter no virtual host.",
          columns: [{ title: "Virtual host", head: true, cell: ({ vhost }) => vhost }, { title: "Configure", cell: text("configure") }, { title: "Write", cell: text("write") }, { title: "Read", cell: text("read") },
            { title: "", cell: row(allow, (one) => `/api/permissions/${part(one.vhost)}/${part(name)}`) }],
        })),
        card("Topic permissions", table({
          caption: "Topic permissions", rows: ctx.body(`${path}/topic-permissions`) ?? [], key: ({ vhost, exchange }) => JSON.stringify([vhost, exchange]), empty: "None: permissions alone decide.",
          columns: [{ title: "Virtual host", head: true, cell: ({ vhost }) => vhost }, { title: "Exchange", cell: ({ exchange }) => exchange }, { title: "Write", cell: text("write") }, { title: "Read", cell: text("read") },
            { title: "", cell: row(allowTopic, (one) => `/api/topic-permissions/${part(one.vhost)}/${part(name)}/${part(one.exchange)}`) }],
        })),
      ];
    },
  };
}
