// What a queue's arguments and a policy's keys do, in a sentence with their values.

import { bytes, exact, span } from "./format.js";

const milliseconds = (value) => span(Number(value) / 1000);

/** Name, kind of value, and what it does. Without `x-` the same names are keys of policies. */
const QUEUE = {
  // What is looked up comes from outside, and a name like `constructor` must find nothing.
  __proto__: null,
  "x-message-ttl": ["number", (value) => `A message that waits for longer than ${milliseconds(value)} expires.`],
  "x-expires": ["number", (value) => `The queue is deleted after ${milliseconds(value)} without consumers, basic.get and declarations.`],
  "x-max-length": ["number", (value) => `At most ${exact(Number(value))} messages may be ready; x-overflow says what happens to one more.`],
  "x-max-length-bytes": ["number", (value) => `At most ${bytes(Number(value))} of bodies may be ready; x-overflow says what happens to more.`],
  "x-overflow": ["text", (value) => ({
    __proto__: null,
    "drop-head": "When the queue is full, its oldest message is dropped or dead-lettered.",
    "reject-publish": "When the queue is full, new messages are refused: publishers with confirms get a nack.",
    "reject-publish-dlx": "When the queue is full, new messages are refused and dead-lettered.",
  })[value] ?? "What happens when the queue is full."],
  "x-dead-letter-exchange": ["text", (value) => value === "" ? "Messages that die here go to the queue that the dead-letter key names." : `Messages that die here go to the exchange ${value}.`],
  "x-dead-letter-routing-key": ["text", (value) => `They go there with the key ${value} instead of their own.`],
  "x-delivery-limit": ["number", (value) => Number(value) < 0 ? "A message may come back as often as it likes." : `A message that came back more than ${exact(Number(value))} times is dead.`],
  "x-delayed-retry-type": ["text", (value) => ({
    __proto__: null,
    all: "A message waits before its next attempt whenever it came back.",
    failed: "A message waits before its next attempt after a rejection or a lost channel, not after a nack.",
    returned: "A message waits before its next attempt after a nack or basic.recover, not after a rejection.",
    disabled: "Messages that come back do not wait.",
  })[value] ?? "After which returns messages wait."],
  "x-delayed-retry-min": ["number", (value) => `The second attempt is after ${milliseconds(value)}.`],
  "x-delayed-retry-max": ["number", (value) => `No attempt is later than ${milliseconds(value)} after the one before.`],
  "x-delayed-retry-multiplier": ["number", (value) => `Each wait is ${value} times the one before.`],
  "x-delayed-retry-jitter": ["number", (value) => `Waits are shortened at random by up to ${value} %.`],
  "x-single-active-consumer": ["truth", (value) => value === true ? "One consumer at a time gets messages; the others stand by." : "All consumers get messages."],
  "x-group-header": ["text", (value) => `Messages with the same value in the header ${value} are a group: one consumer at a time, in order.`],
  "x-group-prefetch": ["number", (value) => `A consumer has at most ${exact(Number(value))} messages of a group at a time.`],
  "x-queue-type": ["text", (value) => value === "quorum" ? "A delivery limit of 20 unless it has another, x-delivery-count, and a nack is no failure; there is one copy on this node." : "An ordinary queue."],
  "x-message-deduplication": ["truth", (value) => value === true ? "A message whose key was seen before is left out." : "No message is left out."],
  "x-cache-size": ["number", (value) => `The last ${exact(Number(value))} keys are remembered for deduplication.`],
  "x-cache-ttl": ["number", (value) => `Keys are remembered for ${milliseconds(value)}.`],
  "x-deduplication-header": ["text", (value) => `The header ${value} holds the key for deduplication.`],
  "x-cache-persistence": ["text", () => "The keys are as durable as the queue."],
};

const EXCHANGE = {
  __proto__: null,
  "alternate-exchange": ["text", (value) => `What no binding matches goes to the exchange ${value}.`],
  "x-delayed-type": ["text", (value) => `Messages wait as their header x-delay says, and are routed like ${value} then.`],
  "x-message-deduplication": QUEUE["x-message-deduplication"],
  "x-cache-size": QUEUE["x-cache-size"],
  "x-cache-ttl": QUEUE["x-cache-ttl"],
  "x-deduplication-header": QUEUE["x-deduplication-header"],
  "x-cache-persistence": ["text", () => "The keys are as durable as the exchange."],
};

const NONE = "Kept, and compared when the queue is declared again; it has no effect here.";

/** What an argument of a queue does. */
export function explainQueue(name, value) {
  return QUEUE[name]?.[1](value) ?? NONE;
}

/** What an argument of an exchange does. */
export function explainExchange(name, value) {
  return EXCHANGE[name]?.[1](value) ?? "Kept, and compared when the exchange is declared again; it has no effect here.";
}

/** What a key of a policy does. */
export function explainPolicy(name, value) {
  return (QUEUE[`x-${name}`] ?? EXCHANGE[name])?.[1](value) ?? "Kept; it has no effect here.";
}

const names = (table, strip = "") => Object.keys(table).map((name) => name.replace(strip, ""));
const types = (table, strip = "") => Object.fromEntries(Object.entries(table).map(([name, [type]]) => [name.replace(strip, ""), type]));

export const queueArguments = { suggest: names(QUEUE), types: types(QUEUE) };
export const exchangeArguments = { suggest: names(EXCHANGE), types: types(EXCHANGE) };

/** Those that can be changed while a queue lives. */
const LIVE = ["x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes", "x-overflow", "x-dead-letter-exchange",
  "x-dead-letter-routing-key", "x-delivery-limit", "x-delayed-retry-type", "x-delayed-retry-min", "x-delayed-retry-max",
  "x-delayed-retry-multiplier", "x-delayed-retry-jitter"];
const policyTable = { __proto__: null, ...Object.fromEntries(LIVE.map((name) => [name, QUEUE[name]])), "alternate-exchange": EXCHANGE["alternate-exchange"] };
export const policyKeys = { suggest: names(policyTable, /^x-/), types: types(policyTable, /^x-/) };
