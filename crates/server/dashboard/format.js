// Numbers, sizes and times as people read them.

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** `12,345`, and from a million on `1.2M`; nothing known is a dash. */
export function number(value) {
  if (!Number.isFinite(value)) return "–";
  return Math.abs(value) < 1_000_000 ? whole.format(Math.round(value)) : short.format(value);
}

/** All its digits. */
export function exact(value) {
  return Number.isFinite(value) ? whole.format(value) : "–";
}

/** Per second: `0/s`, `0.4/s`, `12.3k/s`. */
export function rate(value) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0/s";
  if (value < 10) return `${value < 0.05 ? "<0.1" : +value.toFixed(1)}/s`;
  return `${value < 10_000 ? whole.format(Math.round(value)) : short.format(value).replace("K", "k")}/s`;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** `512 B`, `1.5 KiB`. */
export function bytes(value) {
  if (!Number.isFinite(value)) return "–";
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** A time span of so many seconds: `230 µs`, `1.2 ms`, `4 s`, `3 min 20 s`, `2 d 4 h`. */
export function span(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds === 0) return "0 s";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${seconds < 0.1 ? +(seconds * 1e3).toFixed(1) : Math.round(seconds * 1e3)} ms`;
  if (seconds < 60) return `${+seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const parts = [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = parts.findIndex(([, size]) => seconds >= size);
  const texts = [];
  for (const [name, size] of parts.slice(first, first + 2)) {
    const count = Math.floor(seconds / size);
    seconds -= count * size;
    if (count > 0) texts.push(`${count} ${name}`);
  }
  return texts.join(" ");
}

/** Milliseconds since 1970 as local date and time. */
export function time(milliseconds) {
  if (!Number.isFinite(milliseconds)) return "–";
  const at = new Date(milliseconds);
  const two = (part) => String(part).padStart(2, "0");
  const date = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${date} ${clock(milliseconds)}`;
}

/** Milliseconds since 1970 as local time of day. */
export function clock(milliseconds) {
  const at = new Date(milliseconds);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

/** How long ago. */
export function ago(milliseconds) {
  return Number.isFinite(milliseconds) ? span(Math.max(0, Math.round((Date.now() - milliseconds) / 1000))) : "–";
}

/** A share between 0 and 1. */
export function percent(share) {
  if (!Number.isFinite(share)) return "–";
  return `${share > 0 && share < 0.1 ? (share * 100).toFixed(1) : Math.round(share * 100)} %`;
}

/** `1 queue`, `2 queues`. */
export function count(amount, one, many = `${one}s`) {
  return `${number(amount)} ${amount === 1 ? one : many}`;
}

/** Any value of a table as text; what is text already stays as it is. */
export function plain(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
