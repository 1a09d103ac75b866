'use strict';
// The output protocol of all clients, their expectations, and time limits.

const fs = require('node:fs');

const CLIENT = 'amqplib';
const SITUATION_SECONDS = 15;

/** Thrown where the client can't express a situation; the text says why. */
class Skip extends Error {}

function readExpectations(path) {
  const broker = process.env.INTEROP_BROKER;
  const rows = new Map();
  for (const line of fs.readFileSync(path, 'utf8').split('\n')) {
    const parts = line.split('|').map((part) => part.trim());
    if (line.startsWith('#') || parts.length < 6) continue;
    const [situation, of, scope, code, failed] = parts;
    if (of === broker || (of === '*' && !rows.has(situation))) {
      rows.set(situation, { scope, code, failed, text: parts.slice(5).join(' | ') });
    }
  }
  return rows;
}

class Report {
  constructor(expectations) {
    this.expectations = readExpectations(expectations);
    this.failures = 0;
  }

  line(kind, situation, text = '') {
    if (kind === 'FAIL') this.failures++;
    const flat = String(text).split(/\s+/).join(' ').trim();
    const separator = kind === 'observe' ? ' ' : ': ';
    console.log(`${kind} ${CLIENT} ${situation}${flat && separator}${flat}`);
  }

  /** Runs one situation; a lost answer costs that situation, not the script. */
  async run(situation, check, seconds = SITUATION_SECONDS) {
    let timer;
    const expired = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${seconds} s`)), seconds * 1000);
    });
    try {
      await Promise.race([check(), expired]);
      this.line('ok', situation);
    } catch (error) {
      if (error instanceof Skip) this.line('skip', situation, error.message);
      else this.line('FAIL', situation, where(error));
    } finally {
      clearTimeout(timer);
    }
  }

  /** Compares what ended a channel or connection with the row of expected.txt. */
  checkError(situation, { scope, error }) {
    const text = /with message "(.*)"/s.exec(error.message)?.[1] ?? error.message;
    const code = String(error.code ?? /: (\d+) \(/.exec(error.message)?.[1]);
    const failed = error.classId === undefined ? '-' : `${error.classId}/${error.methodId}`;
    this.line('observe', situation, `${scope} ${code} ${failed} ${text}`);
    const want = this.expectations.get(situation);
    const wanted = want.text.replaceAll('{n}', objectName(situation));
    if (scope !== want.scope || code !== want.code || !text.includes(wanted)) {
      throw new Error(`expected ${want.scope} ${want.code} "${wanted}", got ${scope} ${code} "${text}"`);
    }
    if (failed !== '-' && failed !== want.failed) throw new Error(`expected method ${want.failed}, got ${failed}`);
  }
}

function where(error) {
  const line = /(\w+\.js:\d+):\d+/.exec((error.stack ?? '').split('\n').find((l) => l.includes('clients/node')) ?? '');
  return `${error.message}${line ? ` (${line[1]})` : ''}`;
}

function objectName(situation) {
  return `interop.${CLIENT}.${situation}`;
}

function equal(got, want) {
  const [left, right] = [show(got), show(want)];
  if (left !== right) throw new Error(`expected ${right}, got ${left}`);
}

/** JSON with buffers, big integers and absent values made visible. */
function show(value) {
  return JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? `${v}n` : v === undefined ? 'undefined' : v));
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Polls: some effects, such as a requeue after a close, are not tied to a reply. */
async function eventually(condition, milliseconds = 5000) {
  for (const deadline = Date.now() + milliseconds; ; await sleep(20)) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error('condition not met in time');
  }
}

module.exports = { CLIENT, Report, Skip, equal, eventually, objectName, show, sleep };
