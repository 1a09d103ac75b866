// Tables, facts and what is around them.

import { part } from "./api.js";
import { h } from "./dom.js";
import { count, number, plain } from "./format.js";

/** Rows that are drawn; lists that may be longer come in pages. */
const MOST = 500;

/**
 * A table. A column has `title`, `cell(row)`, and maybe `sort` (the API's name to sort by), `num`, `wide` (left out
 * where there is little room), `head` (the row's name).
 * @param {{caption: string, columns: object[], rows: object[], key: (row: object) => string, ctx?: object, empty?: unknown}} spec
 */
export function table({ caption, columns, rows, key, ctx, empty = "Nothing here yet." }) {
  if (rows.length === 0) return h("p", { class: "empty", key: `empty ${caption}` }, empty);
  const sorted = ctx?.query.get("sort");
  const reverse = ctx?.query.get("desc") === "1";
  const heads = columns.map((column) => h("th", { scope: "col", class: classes(column), "aria-sort": order(column, sorted, reverse) },
    column.sort && ctx
      ? h("button", { type: "button", class: "sort", onclick: () => ctx.set(nextOrder(column, sorted, reverse)) }, column.title,
        h("span", { class: "arrow", "aria-hidden": "true" }, sorted === column.sort ? (reverse ? " ↓" : " ↑") : ""))
      : column.title));
  return h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0", key: `table ${caption}` },
    h("table", null, h("caption", { class: "unseen" }, caption), h("thead", null, h("tr", null, heads)),
      h("tbody", null, rows.slice(0, MOST).map((row) => h("tr", { key: key(row) }, columns.map((column) =>
        column.head ? h("th", { scope: "row", class: classes(column) }, column.cell(row))
          : h("td", { class: classes(column) }, column.cell(row))))))),
    rows.length > MOST ? h("p", { class: "muted" }, `${number(rows.length - MOST)} more are not shown.`) : null);
}

function classes(column) {
  return [column.num ? "num" : null, column.wide ? "wide" : null, column.class].filter(Boolean).join(" ") || null;
}

function order(column, sorted, reverse) {
  if (!column.sort) return null;
  return sorted === column.sort ? (reverse ? "descending" : "ascending") : "none";
}

/** Numbers begin with the largest, names with the first. */
function nextOrder(column, sorted, reverse) {
  const first = column.num ? "1" : null;
  const desc = sorted === column.sort ? (reverse ? null : "1") : first;
  return { sort: column.sort, desc, page: null };
}

/** A list's parameters as the API wants them: `page`, `page_size`, `name`, `sort`, `sort_reverse`. */
export function paging(ctx, more = {}) {
  const query = new URLSearchParams({ page: ctx.query.get("page") ?? "1", page_size: ctx.query.get("size") ?? "100", ...more });
  const [name, sort] = [ctx.query.get("q"), ctx.query.get("sort")];
  if (name) query.set("name", name);
  if (sort) query.set("sort", sort);
  if (sort && ctx.query.get("desc") === "1") query.set("sort_reverse", "true");
  return query;
}

/** Where in the list this page is, and how to get to the others. */
export function pager(ctx, body, one, many) {
  const { page, page_count: pages, filtered_count: found, total_count: total } = body;
  const go = (to) => ctx.set({ page: to === 1 ? null : String(to) });
  return h("div", { class: "pager" },
    h("span", { class: "muted" }, found === total ? count(total, one, many) : `${number(found)} of ${count(total, one, many)}`),
    h("label", null, "Per page ", h("select", { value: ctx.query.get("size") ?? "100", onchange: (event) => ctx.set({ size: event.target.value, page: null }) },
      ["25", "100", "500"].map((size) => h("option", { value: size }, size)))),
    pages > 1 ? [
      h("button", { type: "button", disabled: page <= 1, onclick: () => go(page - 1) }, "Previous"),
      h("span", null, `${number(page)} / ${number(pages)}`),
      h("button", { type: "button", disabled: page >= pages, onclick: () => go(page + 1) }, "Next"),
    ] : null);
}

/** Names and values, one below the other. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, value]) =>
    h("div", { key: name }, h("dt", null, name), h("dd", null, value === null || value === undefined || value === "" ? "–" : value))));
}

/** A part of a page. */
export function card(title, ...content) {
  return h("section", { class: "card", key: `card ${title}` }, title ? h("h2", null, title) : null, content);
}

/** A few figures in a row: name, value, and maybe what is said below. */
export function figures(list) {
  return h("div", { class: "figures" }, list.filter(Boolean).map(([name, value, below, href]) =>
    h(href ? "a" : "div", { class: "figure", key: name, href }, h("span", { class: "figure-name" }, name), h("span", { class: "figure-value" }, value),
      below ? h("span", { class: "figure-below" }, below) : null)));
}

/** A name that may be broken where its parts meet, and not in the midst of one. */
export function broken(name) {
  return name.split(/(?<=[.:/_-])/).map((piece, at) => [at > 0 ? h("wbr") : null, piece]);
}

/** A word with a colour behind it. */
export function tag(text, kind = "", title = null) {
  return h("span", { class: `tag ${kind}`, title: title ?? (String(text).length > 24 ? text : null) }, text);
}

/** Arguments as small words. */
export function argumentTags(table) {
  return Object.entries(table ?? {}).map(([name, value]) => [tag(`${name}: ${plain(value)}`), " "]);
}

/** What an exchange is called: the default one has no name. */
export function exchangeName(name) {
  return name === "" ? "(default)" : name;
}

export const to = {
  queue: (vhost, name) => `#/queue/${part(vhost)}/${part(name)}`,
  exchange: (vhost, name) => `#/exchange/${part(vhost)}/${part(name === "" ? "amq.default" : name)}`,
  connection: (name) => `#/connection/${part(name)}`,
  channel: (name) => `#/channel/${part(name)}`,
  user: (name) => `#/user/${part(name)}`,
};

/** Sorted as `ctx` says, for lists that come as a whole. */
export function sorted(ctx, rows) {
  const name = ctx.query.get("sort");
  if (!name) return rows;
  const value = (row) => name.split(".").reduce((at, step) => at?.[step], row) ?? "";
  const direction = ctx.query.get("desc") === "1" ? -1 : 1;
  return rows.toSorted((a, b) => {
    const [left, right] = [value(a), value(b)];
    const less = typeof left === "number" && typeof right === "number" ? left - right : String(left).localeCompare(String(right), "en", { numeric: true });
    return less * direction;
  });
}
