// The frame around the pages: who is logged in, which page is on, and what keeps it up to date.

import * as api from "./api.js";
import { help, toast } from "./dialog.js";
import { h, patch, show } from "./dom.js";
import { count } from "./format.js";
import { listenForKeys } from "./keys.js";
import { loginForm } from "./form.js";
import alarms from "./pages/alarms.js";
import apps from "./pages/apps.js";
import channels, { channel } from "./pages/channels.js";
import connections, { connection } from "./pages/connections.js";
import costs from "./pages/costs.js";
import dead from "./pages/dead.js";
import definitions from "./pages/definitions.js";
import exchanges, { exchange } from "./pages/exchanges.js";
import overview from "./pages/overview.js";
import policies from "./pages/policies.js";
import queue from "./pages/queue.js";
import queues from "./pages/queues.js";
import tail from "./pages/tail.js";
import users, { user } from "./pages/users.js";
import vhosts from "./pages/vhosts.js";

/** What is in the menu: a name in the address, a title, the page, a key to go there, and the tags that see it. */
const MENU = [
  ["Watch", [
    ["overview", "Overview", overview, "o"],
    ["alarms", "Alarms", alarms, "a"],
    ["costs", "Costs", costs, "$"],
    ["apps", "Applications", apps, "p"],
  ]],
  ["Messages", [
    ["queues", "Queues", queues, "q"],
    ["exchanges", "Exchanges", exchanges, "e"],
    ["dead", "Dead letters", dead, "d"],
    ["tail", "Live tail", tail, "t"],
    ["connections", "Connections", connections, "c"],
    ["channels", "Channels", channels, "h"],
  ]],
  ["Administer", [
    ["users", "Users", users, "u", ["administrator"]],
    ["policies", "Policies", policies, "l", ["administrator", "policymaker"]],
    ["vhosts", "Virtual hosts", vhosts, "v"],
    ["definitions", "Definitions", definitions, "f", ["administrator"]],
  ]],
];

/** Pages of one thing, and the entry of the menu that they belong to. */
const DETAILS = { __proto__: null, queue: [queue, "queues"], exchange: [exchange, "exchanges"], connection: [connection, "connections"],
  channel: [channel, "channels"], user: [user, "users"] };

const VHOST = "leveret.vhost";
const body = document.body;
let who = null;
let vhosts_ = [];
/** The page that is on, its context and how its answers are had. */
let on = null;
let frame = null;
let paused = false;

class Pending extends Error {}

start();

async function start() {
  api.whenLoggedOut(() => { leave(); askWho(); });
  listenForKeys({ menu: MENU.flatMap(([, entries]) => entries), theme: turnTheme, help: () => help(shortcuts()), pause: togglePause });
  addEventListener("hashchange", () => {
    if (!who) return;
    arrive();
    // Where the focus was is gone, or is the menu: go on with the page.
    if (document.activeElement === body || frame.side.contains(document.activeElement)) frame.main.focus({ preventScroll: true });
  });
  document.addEventListener("visibilitychange", () => { if (on) document.hidden ? on.stop?.() : listen(); });
  if (!api.loggedIn()) return askWho();
  try {
    await enter(await api.get("/api/whoami"));
  } catch (error) {
    if (api.loggedIn()) askWho(error);
  }
}

function askWho(error) {
  who = null;
  document.title = "Log in · Leveret";
  show(body, loginForm(async (name, password) => enter(await api.login(name, password)), error));
  body.querySelector("input")?.focus();
}

async function enter(found) {
  who = found;
  who.tags = Array.isArray(who.tags) ? who.tags : String(who.tags ?? "").split(",").filter(Boolean);
  await readVhosts();
  build();
  arrive();
}

async function readVhosts() {
  vhosts_ = (await api.get("/api/vhosts?columns=name")).map(({ name }) => name).sort();
}

function may(entry) {
  const tags = entry[4];
  return !tags || tags.some((tag) => who.tags.includes(tag));
}

/** The frame, once per login. */
function build() {
  const main = h("main", { id: "main", tabindex: "-1" });
  const side = h("nav", { id: "menu", "aria-label": "Pages" });
  const live = h("span", { class: "live", role: "status" });
  const alarm = h("a", { class: "alarm-flag", href: "#/alarms", hidden: true });
  const chosen = sessionStorage.getItem(VHOST);
  const select = h("select", { "aria-label": "Virtual host", id: "vhost", onchange: chooseVhost });
  show(body,
    h("a", { class: "skip", href: "#main", onclick: (event) => { event.preventDefault(); main.focus(); } }, "Skip to content"),
    h("header", { class: "top" },
      h("button", { class: "icon menu-button", type: "button", "aria-label": "Menu", "aria-expanded": "false", "aria-controls": "menu", onclick: toggleMenu }, "☰"),
      h("a", { class: "brand", href: "#/overview" }, h("img", { src: "hare.svg", alt: "", width: 28, height: 28 }), h("span", null, "Leveret")),
      h("span", { class: "grow" }),
      alarm, live,
      select,
      h("button", { class: "icon", type: "button", "aria-label": "Light or dark", title: "Light or dark (b)", onclick: turnTheme }, "◐"),
      h("button", { class: "icon", type: "button", "aria-label": "Keyboard shortcuts", title: "Keyboard shortcuts (?)", onclick: () => help(shortcuts()) }, "?"),
      h("button", { class: "quiet", type: "button", title: `Logged in as ${who.name}`, onclick: api.logout }, h("span", { class: "who" }, who.name), " Log out")),
    h("div", { class: "columns" }, side, main));
  frame = { main, side, live, alarm, select };
  fillVhosts(chosen);
}

function fillVhosts(chosen) {
  const known = vhosts_.includes(chosen);
  show(frame.select, h("option", { value: "" }, "All virtual hosts"),
    vhosts_.map((name) => h("option", { value: `=${name}` }, name)));
  frame.select.value = known ? `=${chosen}` : "";
  if (!known) sessionStorage.removeItem(VHOST);
}

function chooseVhost() {
  const value = frame.select.value;
  if (value === "") sessionStorage.removeItem(VHOST);
  else sessionStorage.setItem(VHOST, value.slice(1));
  arrive();
}

function toggleMenu() {
  const open = frame.side.classList.toggle("open");
  body.querySelector(".menu-button").setAttribute("aria-expanded", String(open));
}

function drawMenu(active) {
  show(frame.side, MENU.map(([title, entries]) => {
    const seen = entries.filter(may);
    return seen.length === 0 ? null : h("section", null, h("h2", null, title), h("ul", null, seen.map(([name, text]) =>
      h("li", null, h("a", { href: `#/${name}`, "aria-current": name === active ? "page" : null }, text)))));
  }));
  frame.side.classList.remove("open");
  body.querySelector(".menu-button").setAttribute("aria-expanded", "false");
}

/** The page of the address. */
function arrive() {
  leave();
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...params] = path.split("/").map(decode);
  const entry = MENU.flatMap(([, entries]) => entries).find((entry) => entry[0] === (name || "overview"));
  const [make, active] = entry ? [entry[2], entry[0]] : DETAILS[name] ?? [missing, ""];
  drawMenu(active);
  const ctx = context(params, new URLSearchParams(search ?? ""));
  on = { ctx, answers: new Map(), page: make(ctx), key: location.hash, root: h("div") };
  show(frame.main, on.root);
  draw();
  listen();
  scrollTo(0, 0);
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function missing() {
  return { title: "No such page", gets: () => [], view: () => h("p", { class: "empty" }, "There is no page at this address.") };
}

function leave() {
  on?.stop?.();
  on?.page.end?.();
  on = null;
}

/** What a page has to work with. */
function context(params, query) {
  const ctx = {
    params,
    query,
    who,
    /** The virtual host that lists are of, `null` for all. */
    vhost: sessionStorage.getItem(VHOST),
    vhosts: () => vhosts_,
    may: (tag) => who.tags.includes(tag) || who.tags.includes("administrator"),
    /** A list's path, of the chosen virtual host. */
    list: (what) => ctx.vhost === null ? `/api/${what}` : `/api/${what}/${api.part(ctx.vhost)}`,
    /** The answer to a GET of `gets()`; the page waits until it is there. */
    need(path) {
      const answer = on.answers.get(path);
      if (!answer) throw new Pending();
      if (answer.status !== 200) throw new api.ApiError(answer.status, answer.body?.reason ?? `status ${answer.status}`);
      return answer.body;
    },
    /** The same, `undefined` as long as it isn't there or was refused. */
    body: (path) => { const answer = on?.answers.get(path); return answer?.status === 200 ? answer.body : undefined; },
    draw,
    /** Asks for what `gets()` says now. */
    reload: () => { if (on?.ctx === ctx) listen(); },
    /** Changes parameters of the page's address without leaving it; `null` removes one. */
    set(changes) {
      for (const [name, value] of Object.entries(changes)) {
        if (value === null || value === "") query.delete(name);
        else query.set(name, value);
      }
      const [path] = location.hash.split("?");
      history.replaceState(null, "", `${path || "#/overview"}${query.size > 0 ? `?${query}` : ""}`);
      draw();
      ctx.reload();
    },
    /** Does something, says that it was done or why it wasn't, and looks again. */
    async act(work, done) {
      try {
        const result = await work();
        if (done) toast(typeof done === "function" ? done(result) : done);
        ctx.reload();
        return result;
      } catch (error) {
        if (!(error instanceof api.ApiError)) throw error;
        toast(error.reason, "bad");
        return undefined;
      }
    },
    async vhostsChanged() {
      await readVhosts();
      fillVhosts(sessionStorage.getItem(VHOST));
    },
  };
  return ctx;
}

function listen() {
  const mine = on;
  mine.stop?.();
  if (document.hidden) return;
  const paths = [...new Set([...mine.page.gets(), "/api/alarms"])];
  const answered = (path, status, answer) => {
    mine.answers.set(path, { status, body: answer });
    if (on === mine) drawSoon();
  };
  if (paused) {
    state("paused");
    // What is asked for by hand comes all the same.
    api.look(paths, answered);
    return;
  }
  mine.stop = api.watch(paths, answered, (now) => { if (on === mine) state(now); });
}

function togglePause() {
  paused = !paused;
  listen();
}

const STATES = { live: "Live", polling: "Live, every 2 s", lost: "No connection", paused: "Paused" };

function state(now) {
  if (frame.live.dataset.state === now) return;
  frame.live.dataset.state = now;
  show(frame.live, h("span", { class: "dot", "aria-hidden": "true" }), h("span", { class: "live-text" }, STATES[now]));
  frame.live.title = now === "paused" ? "Updates are paused (p)" : "p pauses updates";
}

let due = false;

/** Once for all the answers that come together. */
function drawSoon() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; draw(); });
}

function draw() {
  if (!on) return;
  const { page, ctx } = on;
  let content;
  try {
    content = page.view(ctx);
    on.drawn = true;
  } catch (error) {
    // While other figures of the same page are on their way, those that are there stay.
    if (error instanceof Pending && on.drawn) return;
    if (error instanceof Pending) content = h("div", { class: "waiting", "aria-busy": "true" }, h("span"), h("span"), h("span"));
    else if (error instanceof api.ApiError) content = failure(error);
    else throw error;
  }
  const { title, actions, above } = typeof page.title === "string" ? page : { ...page, title: page.title() };
  document.title = `${title} · Leveret`;
  on.root = patch(on.root, h("div", { class: "page", key: on.key },
    above?.(),
    h("div", { class: "heading" }, h("h1", null, title), h("div", { class: "actions" }, actions?.())),
    content));
  drawAlarms();
}

function failure(error) {
  const texts = { 404: "It is not there, or not any more.", 401: "You may not see this.", 403: "You may not see this." };
  return h("div", { class: "empty" }, h("p", null, texts[error.status] ?? "The broker did not answer as expected."),
    h("p", { class: "muted" }, error.reason));
}

function drawAlarms() {
  const found = on.ctx.body("/api/alarms");
  const active = Array.isArray(found) ? found.filter((alarm) => alarm.active !== false) : [];
  frame.alarm.hidden = active.length === 0;
  show(frame.alarm, count(active.length, "alarm"));
}

function turnTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("leveret.theme", root.dataset.theme);
  document.dispatchEvent(new Event("theme"));
}

function shortcuts() {
  return [
    ...MENU.flatMap(([, entries]) => entries.filter(may).map(([, title, , key]) => [["g", key], title])),
    [["/"], "Search on this page"], [["j"], "Next row"], [["k"], "Previous row"], [["n"], "Add or publish on this page"],
    [["p"], "Pause updates, go on"], [["b"], "Light or dark"], [["?"], "This list"], [["Esc"], "Close"],
  ];
}

