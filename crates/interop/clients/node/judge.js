'use strict';
// Judges a broker with amqplib: node judge.js amqp://guest:guest@host:port path/to/expected.txt

const path = require('node:path');
const amqplib = require('amqplib');
const { CLIENT, Report, Skip, equal, objectName, sleep } = require('./report');
const { situations } = require('./situations');
const { failing } = require('./failing');
const { own } = require('./own');

// The package exports its functions only; its generated methods are a file beside them.
const defs = require(path.join(path.dirname(require.resolve('amqplib')), 'lib/defs.js'));

const [url, expectations] = process.argv.slice(2);

/** One situation's connections. Queues are exclusive where possible, so that they end with it. */
class Case {
  constructor(report, situation) {
    Object.assign(this, { report, situation, n: objectName(situation), connections: [] });
    // What the broker ended: it often comes as an event, not as the answer to a call.
    this.ended = new Promise((resolve) => (this.end = resolve));
  }

  async connect(options = {}) {
    const { hostname, port } = new URL(url);
    const address = { hostname, port: Number(port) || 5672, username: 'guest', password: 'guest', vhost: '/', ...options };
    let connection;
    try {
      connection = await amqplib.connect({ protocol: 'amqp', ...address }, { timeout: 10000 });
    } catch (error) {
      if (error.message.includes('got <ConnectionClose')) throw new Skip(`amqplib says only: ${error.message}`);
      this.end({ scope: 'connection', error });
      throw error;
    }
    connection.on('error', (error) => this.end({ scope: 'connection', error }));
    this.connections.push(connection);
    return connection;
  }

  async open() {
    this.ch = await this.channelOf(await this.connect());
    return this;
  }

  async channelOf(connection, confirms = false) {
    const channel = await (confirms ? connection.createConfirmChannel() : connection.createChannel());
    channel.on('error', (error) => this.end({ scope: 'channel', error }));
    return channel;
  }

  channel(confirms = false) {
    return this.channelOf(this.connections[0], confirms);
  }

  observe(text) {
    this.report.line('observe', this.situation, text);
  }

  async queue(suffix = '', options = {}) {
    const declared = { durable: false, exclusive: true, ...options };
    return (await this.ch.assertQueue(this.n + suffix, declared)).queue;
  }

  async exchange(type, suffix = '', options = {}) {
    await this.ch.deleteExchange(this.n + suffix);
    await this.ch.assertExchange(this.n + suffix, type, { durable: false, ...options });
    return this.n + suffix;
  }

  publish(exchange, key, body = '1', options = {}) {
    this.ch.publish(exchange, key, Buffer.from(body), options);
  }

  /** Takes all that is ready in the queue. */
  async bodies(queue) {
    const found = [];
    for (let message; (message = await this.ch.get(queue, { noAck: true })); ) found.push(message.content.toString());
    return found;
  }

  /** A synchronous method: what the broker had to say about earlier ones has arrived after it. */
  barrier() {
    return this.ch.qos(0);
  }

  /** A method that amqplib has generated but gives no function to. */
  call(name, fields = {}) {
    return this.ch.rpc(defs[name], fields, defs[`${name}Ok`]);
  }

  async close() {
    await Promise.race([Promise.allSettled(this.connections.map((connection) => connection.close())), sleep(1000)]);
  }
}

/** Runs a situation that the broker must end with an error, and checks that error. */
async function provoke(report, test, situation, check) {
  const attempt = (async () => {
    await check(test);
    await test.barrier();
    throw new Error('the broker accepted it');
  })();
  const accepted = attempt.catch(async (error) => {
    const ended = await Promise.race([test.ended, sleep(1000)]);
    if (!ended) throw error;
    return ended;
  });
  report.checkError(situation, await Promise.race([test.ended, accepted]));
}

/** An idle connection lives through many heartbeat intervals. */
async function idleMinute(report) {
  const seconds = Number(process.env.INTEROP_IDLE_SECONDS ?? 60);
  const name = 'heartbeat-idle-minute';
  await report.run(
    name,
    async () => {
      const test = new Case(report, name);
      const connection = await test.connect({ heartbeat: 5 });
      const channel = await test.channelOf(connection);
      await sleep(seconds * 1000);
      equal((await channel.assertQueue(test.n, { exclusive: true, durable: false })).queue, test.n);
      await connection.close();
    },
    seconds + 15,
  );
}

async function main() {
  const report = new Report(expectations);
  const idle = idleMinute(report);
  for (const [name, check] of Object.entries({ ...situations, ...own })) {
    const test = new Case(report, name);
    await report.run(name, async () => check(await test.open()));
    await test.close();
  }
  for (const [name, check] of Object.entries(failing)) {
    const test = new Case(report, name);
    await report.run(name, () => provoke(report, test, name, check));
    await test.close();
  }
  console.log(`waiting ${CLIENT}`);
  await idle;
  process.exit(report.failures ? 1 : 0);
}

main();
