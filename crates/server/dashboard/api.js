// The management API: requests as the person who is logged in, and answers that keep coming.

const SESSION = "leveret.session";
/** The reason of a 401 that says that name and password are not right; others are for lack of a tag. */
const UNKNOWN = "Login failed";
/** Without the browser's own credentials, so that it does not ask for them itself. */
const FETCH = { cache: "no-store", credentials: "omit" };
/** Seconds between two looks. */
const EVERY = 2;

/** An answer other than success; `reason` is the API's words. */
export class ApiError extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
    this.reason = reason;
  }
}

/** The header of whoever is logged in, kept as long as the tab is open. */
let authorization = sessionStorage.getItem(SESSION);
/** What to do once nobody is. */
let onLogout = () => {};

export function loggedIn() {
  return authorization !== null;
}

export function whenLoggedOut(act) {
  onLogout = act;
}

/** Tries a name and a password, keeps them if they are right, and returns who that is. */
export async function login(name, password) {
  const bytes = new TextEncoder().encode(`${name}:${password}`);
  authorization = `Basic ${btoa(String.fromCharCode(...bytes))}`;
  try {
    const who = await get("/api/whoami", { quiet: true });
    sessionStorage.setItem(SESSION, authorization);
    return who;
  } catch (error) {
    authorization = null;
    throw error;
  }
}

export function logout() {
  authorization = null;
  sessionStorage.removeItem(SESSION);
  onLogout();
}

/** A part of a path. */
export const part = encodeURIComponent;

export function get(path, { signal, quiet } = {}) {
  return request("GET", path, undefined, signal, quiet);
}

export function put(path, body = {}) {
  return request("PUT", path, body);
}

export function post(path, body = {}) {
  return request("POST", path, body);
}

export function remove(path, headers) {
  return request("DELETE", path, undefined, undefined, false, headers);
}

async function request(method, path, body, signal, quiet, more) {
  const headers = { authorization, ...more };
  if (body !== undefined) headers["content-type"] = "application/json";
  const text = body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, { ...FETCH, method, headers, body: text, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "the broker does not answer");
  }
  const answer = await response.text();
  let value = answer;
  try {
    value = answer === "" ? null : JSON.parse(answer);
  } catch {
    // An answer that is no JSON is its own reason.
  }
  if (response.ok) return value;
  if (response.status === 401 && !quiet && value?.reason === UNKNOWN) logout();
  throw new ApiError(response.status, reason(response, value));
}

function reason(response, value) {
  const said = value?.reason ?? value?.error ?? value;
  if (typeof said === "string" && said !== "") return said;
  return `${response.status} ${response.statusText}`.trim();
}

/**
 * Answers to these GETs, again and again: the broker sends those that changed, and is asked for all of them every two
 * seconds where it cannot. Returns a function that ends it.
 * @param {string[]} paths
 * @param {(path: string, status: number, body: any) => void} answered once per answer
 * @param {(state: "live" | "polling" | "lost") => void} state how it goes
 */
export function watch(paths, answered, state) {
  const ending = new AbortController();
  follow(paths, answered, state, ending.signal).catch((error) => {
    if (error.name !== "AbortError") throw error;
  });
  return () => ending.abort();
}

/** The broker has no streams at all: another version, or something between that does not know them. */
let unknown = false;

async function follow(paths, answered, state, signal) {
  for (;;) {
    if (unknown) return poll(paths, answered, state, signal);
    const streamed = await stream(paths, answered, state, signal);
    if (signal.aborted) return;
    if (streamed === "refused") return poll(paths, answered, state, signal);
    state("lost");
    await pause(EVERY, signal);
  }
}

/** "refused" if the broker has no stream for us, "ended" if it had one. */
async function stream(paths, answered, state, signal) {
  const query = new URLSearchParams([["every", EVERY], ...paths.map((path) => ["get", path])]);
  let response;
  try {
    const headers = { authorization, accept: "text/event-stream" };
    response = await fetch(`/api/stream?${query}`, { ...FETCH, headers, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return "ended";
  }
  if (response.status === 401) logout();
  unknown = [404, 405, 406, 501].includes(response.status);
  if (!response.ok || !response.headers.get("content-type")?.startsWith("text/event-stream")) return "refused";
  state("live");
  try {
    for await (const event of events(response.body)) {
      answered(event.get, event.status, event.body);
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  return "ended";
}

async function poll(paths, answered, state, signal) {
  for (;;) {
    state(await look(paths, answered, signal) ? "polling" : "lost");
    await pause(EVERY, signal);
  }
}

/** Answers to these GETs once; false if the broker could not be reached. */
export async function look(paths, answered, signal) {
  const reached = await Promise.all(paths.map(async (path) => {
    try {
      answered(path, 200, await get(path, { signal }));
      return true;
    } catch (error) {
      if (error.name === "AbortError") throw error;
      if (error.status !== 0) answered(path, error.status, { reason: error.reason });
      return error.status !== 0;
    }
  }));
  return reached.every(Boolean);
}

/** The server-sent events of a body, each parsed from its data. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
      if (data.length > 0) yield JSON.parse(data.join("\n"));
    }
  }
}

/** A stream of events of its own, for as long as `signal` lets it. */
export async function open(path, signal) {
  const response = await fetch(path, { ...FETCH, headers: { authorization, accept: "text/event-stream" }, signal });
  if (response.status === 401) logout();
  if (!response.ok) {
    const value = await response.json().catch(() => null);
    throw new ApiError(response.status, reason(response, value));
  }
  return events(response.body);
}

function pause(seconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
