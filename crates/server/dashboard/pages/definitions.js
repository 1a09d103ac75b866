// Definitions: everything but the messages, as a file that RabbitMQ reads and writes, too.

import { get, part, post } from "../api.js";
import { h } from "../dom.js";
import { count } from "../format.js";
import { card } from "../table.js";

export default function definitions(ctx) {
  const path = () => ctx.vhost === null ? "/api/definitions" : `/api/definitions/${part(ctx.vhost)}`;
  const said = { text: null, bad: false, without: [] };
  const download = () => ctx.act(async () => {
    const found = await get(path());
    const url = URL.createObjectURL(new Blob([JSON.stringify(found, null, 2)], { type: "application/json" }));
    const name = `leveret-definitions${ctx.vhost === null ? "" : `-${ctx.vhost.replace(/[^\w.-]+/g, "_")}`}.json`;
    h("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }, "Exported.");
  const upload = async (event) => {
    event.preventDefault();
    const [file] = event.target.elements.file.files;
    if (!file) return;
    try {
      const result = await post(path(), await file.text());
      const without = result?.without_effect ?? result?.no_effect ?? [];
      Object.assign(said, { text: `${file.name} is imported.`, bad: false, without });
      await ctx.vhostsChanged();
    } catch (error) {
      if (error.reason === undefined) throw error;
      Object.assign(said, { text: error.reason, bad: true, without: [] });
    }
    ctx.draw();
  };
  return {
    title: "Definitions",
    gets: () => ["/api/overview"],
    view() {
      const { object_totals: objects = {} } = ctx.need("/api/overview");
      const whole = ctx.vhost === null ? "of the whole broker, with users and their passwords' hashes" : `of the virtual host ${ctx.vhost}`;
      return [
        h("div", { class: "halves" },
          card("Export", h("p", null, `Queues, exchanges, bindings and policies ${whole}. There are ${count(objects.queues ?? 0, "queue")} and ${count(objects.exchanges ?? 0, "exchange")}.`),
            h("button", { type: "button", class: "primary", "data-new": "", onclick: download }, "Export")),
          card("Import", h("p", null, "A file that Leveret or RabbitMQ has exported. What is in it is added; what is there already stays."),
            h("form", { onsubmit: upload, class: "stack" },
              h("label", { for: "definitions-file" }, "File"), h("input", { id: "definitions-file", name: "file", type: "file", accept: ".json,application/json", required: true }),
              h("button", { type: "submit" }, "Import")))),
        said.text ? h("p", { class: said.bad ? "error" : "notice good", role: "alert" }, said.text) : null,
        said.without.length > 0 ? card("Kept, but without effect here", h("ul", { class: "plain" }, said.without.map((what) => h("li", null, typeof what === "string" ? what : JSON.stringify(what))))) : null,
      ];
    },
  };
}
