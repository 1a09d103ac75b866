// Fields of forms: from a description to elements, and what was typed back to values.

import { h } from "./dom.js";

/** A field whose content cannot be what it should be. */
class FieldError extends Error {
  name = "FieldError";
}

let serial = 0;

/**
 * Elements for fields, and a function that reads them. A field has `name`, `label`, and maybe `kind` (text, number,
 * password, search, select, check, area, map, file, list), `value`, `hint`, `required`, `options`, `suggest`.
 * Empty numbers and texts that are not required are left out of the values.
 */
export function fields(wanted) {
  const made = wanted.map((field) => ({ field, ...control(field, `field-${++serial}`) }));
  return {
    element: h("div", { class: "fields" }, made.map(({ element }) => element)),
    values() {
      const values = {};
      for (const { field, read } of made) {
        const value = read();
        if (value !== undefined) values[field.name] = value;
      }
      return values;
    },
  };
}

function control(field, id) {
  const hint = field.hint ? h("small", { id: `${id}-hint` }, field.hint) : null;
  const common = { id, name: field.name, required: field.required, autofocus: field.autofocus, autocomplete: field.autocomplete ?? "off",
    "aria-describedby": hint ? `${id}-hint` : null };
  const labelled = (element, read) => ({
    element: h("div", { class: `field ${field.wide ? "whole" : ""}` }, h("label", { for: id }, field.label), element, hint), read });
  switch (field.kind ?? "text") {
    case "check": {
      const box = h("input", { ...common, type: "checkbox", checked: field.value });
      return { element: h("div", { class: "field check" }, box, h("label", { for: id }, field.label), hint), read: () => box.checked };
    }
    case "select": {
      const select = h("select", { ...common, value: field.value, onchange: field.onchange },
        field.options.map((option) => Array.isArray(option) ? h("option", { value: option[0] }, option[1]) : h("option", { value: option }, option)));
      if (field.value !== undefined) select.value = field.value;
      return labelled(select, () => select.value);
    }
    case "area": {
      const area = h("textarea", { ...common, rows: field.rows ?? 5, value: field.value ?? "", spellcheck: "false" });
      return labelled(area, () => area.value);
    }
    case "number": {
      const input = h("input", { ...common, type: "number", value: field.value ?? "", min: field.min, max: field.max, step: field.step ?? 1 });
      return labelled(input, () => input.value === "" ? undefined : Number(input.value));
    }
    case "file": {
      const input = h("input", { ...common, type: "file", accept: field.accept });
      return labelled(input, () => input.files[0]);
    }
    case "map":
      return pairs(field, id);
    default: {
      const list = field.suggest ? h("datalist", { id: `${id}-list` }, field.suggest.map((value) => h("option", { value }))) : null;
      const input = h("input", { ...common, type: field.kind ?? "text", value: field.value ?? "", list: list ? `${id}-list` : null, placeholder: field.placeholder, spellcheck: "false" });
      return labelled([input, list], () => input.value === "" && !field.required && !field.keepEmpty ? undefined : input.value);
    }
  }
}

const TYPES = { text: "text", number: "number", truth: "true/false", json: "list or table" };

/** Names with values of a type each: arguments, headers, definitions of policies. */
function pairs(field, id) {
  const rows = h("div", { class: "pairs" });
  const list = h("datalist", { id: `${id}-names` }, (field.suggest ?? []).map((value) => h("option", { value })));
  const add = (name = "", value = "") => {
    const type = name === "" ? "" : typeOf(value);
    const row = h("div", { class: "pair" },
      h("input", { "aria-label": `${field.label}: name`, value: name, list: `${id}-names`, placeholder: "name", spellcheck: "false",
        onchange: () => { const name = row.children[0].value; if (Object.hasOwn(field.types ?? {}, name)) row.children[2].value = field.types[name]; } }),
      h("input", { "aria-label": `${field.label}: value`, value: type === "json" ? JSON.stringify(value) : String(value), placeholder: "value", spellcheck: "false" }),
      h("select", { "aria-label": `${field.label}: type`, value: type || "text" }, Object.entries(TYPES).map(([value, text]) => h("option", { value }, text))),
      h("button", { type: "button", class: "icon", "aria-label": "Remove this line", onclick: () => row.remove() }, "×"));
    row.children[2].value = type || "text";
    rows.append(row);
    return row;
  };
  for (const [name, value] of Object.entries(field.value ?? {})) add(name, value);
  const element = h("fieldset", { class: "field whole" }, h("legend", null, field.label), list, rows,
    h("button", { type: "button", class: "quiet small", onclick: () => add().children[0].focus() }, "Add a line"),
    field.hint ? h("small", null, field.hint) : null);
  return { element, read: () => readPairs(rows, field.label) };
}

function typeOf(value) {
  if (typeof value === "number") return "number";
  if (typeof value === "boolean") return "truth";
  return typeof value === "object" ? "json" : "text";
}

function readPairs(rows, label) {
  const entries = [];
  for (const row of rows.children) {
    const [name, value, type] = [0, 1, 2].map((at) => row.children[at].value);
    if (name !== "") entries.push([name, convert(value, type, `${label}, ${name}`)]);
  }
  return Object.fromEntries(entries);
}

function convert(text, type, what) {
  if (type === "number") {
    if (text.trim() === "" || !Number.isFinite(Number(text))) throw new FieldError(`${what}: "${text}" is no number`);
    return Number(text);
  }
  if (type === "truth") {
    if (text !== "true" && text !== "false") throw new FieldError(`${what}: it is true or false`);
    return text === "true";
  }
  if (type === "json") {
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new FieldError(`${what}: ${error.message}`);
    }
  }
  return text;
}

/** The page of those who aren't logged in. */
export function loginForm(login, failed) {
  const form = fields([
    { name: "name", label: "User", required: true, autocomplete: "username" },
    { name: "password", label: "Password", kind: "password", keepEmpty: true, autocomplete: "current-password" },
  ]);
  const error = h("p", { class: "error", role: "alert" }, failed?.reason);
  const button = h("button", { type: "submit", class: "primary" }, "Log in");
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    error.replaceChildren();
    try {
      const { name, password } = form.values();
      await login(name, password);
    } catch (refused) {
      error.replaceChildren(refused.status === 401 ? wrong(refused.reason) : refused.message);
      button.disabled = false;
    }
  };
  return h("main", { class: "login" }, h("form", { class: "card", onsubmit: submit },
    h("img", { src: "hare.svg", alt: "", width: 56, height: 56 }), h("h1", null, "Leveret"), form.element, error, button));
}

function wrong(reason) {
  return /management/i.test(reason) ? "This user has no tag that lets it in here: management, monitoring, policymaker or administrator."
    : "Name or password is wrong, or this user may come from this machine only.";
}

/** A search field that waits until its writer pauses. */
export function search(ctx, label) {
  return h("input", { type: "search", key: "search", placeholder: label, "aria-label": label, value: ctx.query.get("q") ?? "", spellcheck: "false",
    oninput: later((event) => ctx.set({ q: event.target.value, page: null })) });
}

const timers = new WeakMap();

function later(act) {
  return (event) => {
    const { target } = event;
    clearTimeout(timers.get(target));
    timers.set(target, setTimeout(() => act({ target }), 200));
  };
}
