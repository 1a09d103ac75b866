// Policies: arguments by pattern, and what operators allow at most.

import { part, put, remove } from "../api.js";
import { explainPolicy, policyKeys } from "../arguments.js";
import { ask } from "../dialog.js";
import { h } from "../dom.js";
import { plain } from "../format.js";
import { card, table, tag } from "../table.js";

const KINDS = [
  ["policies", "Policies", "A queue has the one of the highest priority whose pattern is in its name. What a queue was declared with holds beside it; of two limits the lower."],
  ["operator-policies", "Operator policies", "They go on top of policies and arguments: of two limits the lower holds."],
];

export default function policies(ctx) {
  const edit = (kind, found) => ask({
    title: found ? `Change ${found.name}` : kind === "policies" ? "Add a policy" : "Add an operator policy", submit: found ? "Change" : "Add",
    fields: [
      { name: "vhost", label: "Virtual host", kind: "select", options: found ? [found.vhost] : ctx.vhosts(), value: found?.vhost ?? ctx.vhost ?? ctx.vhosts()[0] },
      found ? null : { name: "name", label: "Name", required: true, autofocus: true },
      { name: "pattern", label: "Pattern", required: true, value: found?.pattern ?? "", hint: "A regular expression that may match a part of the name: ^orders\\. is what begins so." },
      { name: "apply-to", label: "Applies to", kind: "select", value: found?.["apply-to"] ?? "queues", options: kind === "policies" ? ["queues", "exchanges", "all", "classic_queues", "quorum_queues"] : ["queues", "classic_queues", "quorum_queues"] },
      { name: "priority", label: "Priority", kind: "number", value: found?.priority ?? 0 },
      { name: "definition", label: "Definition", kind: "map", value: found?.definition, ...policyKeys },
    ].filter(Boolean),
    async send({ vhost, name = found?.name, priority = 0, ...policy }) {
      await put(`/api/${kind}/${part(vhost)}/${part(name)}`, { priority, ...policy });
      ctx.reload();
    },
  });
  const destroy = (kind, { vhost, name }) => ask({
    title: `Delete the policy ${name}?`, danger: true, submit: "Delete", text: "What it gave to queues and exchanges is theirs no more, at once.",
    async send() {
      await remove(`/api/${kind}/${part(vhost)}/${part(name)}`);
      ctx.reload();
    },
  });
  return {
    title: "Policies",
    actions: () => [h("button", { type: "button", class: "primary", "data-new": "", onclick: () => edit("policies") }, "Add a policy"),
      ctx.may("administrator") ? h("button", { type: "button", onclick: () => edit("operator-policies") }, "Add an operator policy") : null],
    gets: () => KINDS.map(([kind]) => ctx.list(kind)),
    view: () => KINDS.map(([kind, title, text]) => card(title, h("p", { class: "muted" }, text), table({
      caption: title, rows: kind === "policies" ? ctx.need(ctx.list(kind)) : ctx.body(ctx.list(kind)) ?? [], key: ({ vhost, name }) => JSON.stringify([vhost, name]), empty: "There is none.",
      columns: [
        { title: "Name", head: true, cell: ({ name }) => name },
        { title: "Virtual host", wide: true, cell: ({ vhost }) => vhost },
        { title: "Pattern", cell: ({ pattern }) => h("code", null, pattern) },
        { title: "Applies to", wide: true, cell: (row) => row["apply-to"] },
        { title: "Priority", num: true, cell: ({ priority }) => String(priority) },
        { title: "Definition", cell: ({ definition }) => Object.entries(definition).map(([key, value]) => [tag(`${key}: ${plain(value)}`, "", explainPolicy(key, value)), " "]) },
        { title: "", cell: (row) => h("span", { class: "row-buttons" }, h("button", { type: "button", class: "small", onclick: () => edit(kind, row) }, "Change"),
          h("button", { type: "button", class: "small quiet", onclick: () => destroy(kind, row) }, "Delete")) },
      ],
    }))),
  };
}
