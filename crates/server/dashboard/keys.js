// Shortcuts: single keys, and `g` followed by a page's key. None while something is typed or a dialog is open.

/** Milliseconds in which the second key of two has to come. */
const TOGETHER = 1200;
const OFF = "leveret.keys-off";

export function keysOff() {
  return localStorage.getItem(OFF) === "1";
}

/** People who talk to their computer hit single keys by chance, so they can do without. */
export function turnKeys(off) {
  localStorage.setItem(OFF, off ? "1" : "0");
}

export function listenForKeys({ menu, theme, help, pause }) {
  let went = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || keysOff() || typing(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const key = event.key;
    const second = Date.now() - went < TOGETHER;
    went = 0;
    if (second) {
      const entry = menu.find((entry) => entry[3] === key);
      if (!entry) return;
      event.preventDefault();
      location.hash = `#/${entry[0]}`;
      return;
    }
    const acts = {
      g: () => { went = Date.now(); },
      "/": () => document.querySelector("main input[type=search]")?.focus(),
      n: () => document.querySelector("main [data-new]")?.click(),
      j: () => step(1),
      k: () => step(-1),
      b: theme,
      "?": help,
      p: pause,
    };
    if (!Object.hasOwn(acts, key)) return;
    event.preventDefault();
    acts[key]();
  });
}

function typing(target) {
  return target instanceof HTMLElement && target.closest("input, select, textarea, [contenteditable]") !== null;
}

/** The next or the previous row's link. */
function step(by) {
  const links = [...document.querySelectorAll("main tbody th a")];
  const at = links.indexOf(document.activeElement);
  links[at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + by))]?.focus();
}
