// Virtual hosts: brokers within the broker, that share nothing but the machine.

import { part, put, remove } from "../api.js";
import { ask } from "../dialog.js";
import { h } from "../dom.js";
import { number, rate } from "../format.js";
import { table, tag } from "../table.js";

export default function vhosts(ctx) {
  const edit = (found) => ask({
    title: found ? `Change ${found.name}` : "Add a virtual host", submit: found ? "Change" : "Add",
    fields: [
      found ? null : { name: "name", label: "Name", required: true, autofocus: true },
      { name: "description", label: "Description", value: found?.description ?? "", keepEmpty: true },
      { name: "tags", label: "Tags", value: found?.tags?.join(",") ?? "", keepEmpty: true, hint: "Words of your own, parted by commas." },
    ].filter(Boolean),
    async send({ name = found?.name, description, tags }) {
      await put(`/api/vhosts/${part(name)}`, { description, tags });
      await ctx.vhostsChanged();
      ctx.reload();
    },
  });
  const destroy = ({ name }) => ask({
    title: `Delete the virtual host ${name}?`, danger: true, submit: "Delete everything in it",
    text: "Its queues with their messages, exchanges, bindings, policies and permissions go with it, and its connections are closed. It cannot be undone.",
    fields: [{ name: "again", label: `Its name, to be sure: ${name}`, required: true }],
    async send({ again }) {
      if (again !== name) throw Object.assign(new Error("This is not its name."), { name: "FieldError" });
      await remove(`/api/vhosts/${part(name)}`);
      await ctx.vhostsChanged();
      ctx.reload();
    },
  });
  return {
    title: "Virtual hosts",
    actions: () => ctx.may("administrator") ? h("button", { type: "button", class: "primary", "data-new": "", onclick: () => edit() }, "Add a virtual host") : null,
    gets: () => ["/api/vhosts"],
    view: () => table({
      caption: "Virtual hosts", rows: ctx.need("/api/vhosts"), key: ({ name }) => name,
      columns: [
        { title: "Name", head: true, cell: (row) => [row.name, row.description ? h("small", { class: "muted block" }, row.description) : null] },
        { title: "Tags", wide: true, cell: ({ tags = [] }) => tags.map((name) => [tag(name), " "]) },
        { title: "Ready", num: true, cell: (row) => number(row.messages_ready ?? 0) },
        { title: "Unacked", num: true, cell: (row) => number(row.messages_unacknowledged ?? 0) },
        { title: "Publish", num: true, cell: (row) => rate(row.message_stats?.publish_details?.rate ?? 0) },
        { title: "Deliver", num: true, cell: (row) => rate(row.message_stats?.deliver_get_details?.rate ?? 0) },
        { title: "", cell: (row) => ctx.may("administrator") ? h("span", { class: "row-buttons" }, h("button", { type: "button", class: "small", onclick: () => edit(row) }, "Change"),
          h("button", { type: "button", class: "small quiet", onclick: () => destroy(row) }, "Delete")) : null },
      ],
    }),
  };
}
