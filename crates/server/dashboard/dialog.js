// Dialogs, and what is said in passing.

import { ApiError } from "./api.js";
import { h, show } from "./dom.js";
import { fields } from "./form.js";
import { keysOff, turnKeys } from "./keys.js";

/** Milliseconds that what went well is shown. What failed stays until it is closed. */
const SHOWN = 5000;

/** Says something at the edge of the page; `kind` "bad" is an error. */
export function toast(text, kind = "good") {
  let place = document.querySelector(".toasts");
  if (!place) {
    place = h("div", { class: "toasts", role: "status", "aria-live": "polite" });
    document.body.append(place);
  }
  const close = () => note.remove();
  const note = h("div", { class: `toast ${kind}` }, h("span", null, text),
    h("button", { type: "button", class: "icon", "aria-label": "Close this message", onclick: close }, "×"));
  place.append(note);
  if (kind !== "bad") setTimeout(close, SHOWN);
}

/** A dialog with this title; it goes when it is closed. Returns what closes it. */
export function dialog(title, ...content) {
  const id = `dialog-${Date.now()}`;
  const element = h("dialog", { "aria-labelledby": id, onclose: () => element.remove() },
    h("div", { class: "dialog-head" }, h("h2", { id }, title),
      h("button", { type: "button", class: "icon", "aria-label": "Close", onclick: () => element.close() }, "×")),
    content);
  document.body.append(element);
  element.showModal();
  element.querySelector("[autofocus], .dialog-body input, .dialog-body select, .dialog-body textarea, .dialog-body button")?.focus();
  return () => element.close();
}

/**
 * A form in a dialog. `send` gets its values and does the work; what the API refuses is shown beside it, and the form
 * stays as it was.
 * @param {{title: string, text?: unknown, fields?: object[], submit: string, danger?: boolean,
 *   send: (values: object) => Promise<unknown>, again?: boolean}} spec `again`: stays open afterwards
 */
export function ask({ title, text, fields: wanted = [], submit, danger, send, again }) {
  const form = fields(wanted);
  const error = h("p", { class: "error", role: "alert" });
  const button = h("button", { type: "submit", class: danger ? "danger" : "primary" }, submit);
  const work = async (event) => {
    event.preventDefault();
    show(error);
    button.disabled = true;
    try {
      await send(form.values());
      if (!again) close();
    } catch (failed) {
      if (!(failed instanceof ApiError) && failed.name !== "FieldError") throw failed;
      show(error, failed.message);
    } finally {
      button.disabled = false;
    }
  };
  const close = dialog(title, h("form", { class: "dialog-body", onsubmit: work, novalidate: wanted.length === 0 },
    text ? h("div", { class: "dialog-text" }, text) : null, form.element, error,
    h("div", { class: "buttons" },
      h("button", { type: "button", class: "quiet", onclick: () => close() }, again ? "Close" : "Cancel"), button)));
}

/** The shortcuts, and the switch that turns them off. */
export function help(shortcuts) {
  dialog("Keyboard shortcuts", h("div", { class: "dialog-body" },
    h("dl", { class: "keys" }, shortcuts.map(([keys, text]) => h("div", null,
      h("dt", null, keys.map((key, at) => [at > 0 ? " " : null, h("kbd", null, key)])), h("dd", null, text)))),
    h("label", { class: "check" },
      h("input", { type: "checkbox", checked: !keysOff(), onchange: (event) => turnKeys(!event.target.checked) }),
      "Single keys do this")));
}
