'use strict';
// Leveret's own features, with the types that JavaScript's numbers are given by their size.

const { Skip, equal, eventually } = require('./report');

const bodyOf = (message) => message && message.content.toString();
const KEY = 'x-deduplication-header';

/** Publishes a message with these headers, and waits for its ack. */
async function confirmed(channel, queue, body, headers, options = {}) {
  channel.publish('', queue, Buffer.from(body), { headers, ...options });
  await channel.waitForConfirms();
}

/** A filter, headers and whether it matches. */
const truths = [
  ['attributes.a = "7"', 7, true],
  ['attributes.a < 8', 7, true],
  ['attributes.a > 7', 7, false],
  ['attributes.a = "-129"', -129, true],
  ['attributes.a = "40000"', 40000, true],
  ['attributes.a > 1099511627775', 2 ** 40, true],
  ['attributes.a = "-1099511627776"', -(2 ** 40), true],
  ['attributes:a', 2.5, true],
  ['attributes.a = "2.5"', 2.5, false],
  ['attributes.a > 2', 2.5, false],
  ['attributes.a = "eu"', 'eu', true],
  ['attributes.a = "true"', true, true],
  ['attributes.a = "false"', true, false],
  ['attributes:a', null, true],
  ['attributes.a = ""', null, false],
  ['attributes.a = "1700000000"', { '!': 'timestamp', value: 1700000000 }, true],
  ['attributes.a >= 1700000001', { '!': 'timestamp', value: 1700000000 }, false],
  ['attributes:a', [1], true],
  ['attributes.a = "1"', [1], false],
  ['attributes:a', { b: 1 }, true],
  ['hasPrefix(attributes.a, "")', { b: 1 }, false],
];

const own = {
  async 'group-key-types'(c) {
    const queue = await c.queue('', { arguments: { 'x-group-header': 'customer' } });
    const other = await c.channel();
    for (const same of [[7, '7'], [-129, '-129'], [40000, '40000'], [2 ** 40, String(2 ** 40)]]) {
      for (const customer of same) c.publish('', queue, '1', { headers: { customer } });
      await c.barrier();
      const held = await c.ch.get(queue);
      equal([bodyOf(held), await other.get(queue)], ['1', false]);
      c.ch.ack(held);
      await c.barrier();
      other.ack(await other.get(queue));
    }
    for (const customer of [2.5, true, null, [1], { b: 1 }]) {
      for (const body of ['1', '2']) c.publish('', queue, body, { headers: { customer } });
      await c.barrier();
      equal([bodyOf(await c.ch.get(queue)), bodyOf(await other.get(queue))], ['1', '2']);
    }
  },

  async 'group-delayed-retry'(c) {
    const queue = await c.queue('', { arguments: { 'x-group-header': 'customer', 'x-delayed-retry-min': 1500 } });
    for (const body of ['x1', 'x2', 'y1']) c.publish('', queue, body, { headers: { customer: body[0] } });
    await c.barrier();
    c.ch.nack(await c.ch.get(queue));
    equal([bodyOf(await c.ch.get(queue)), await c.ch.get(queue)], ['y1', false]);
    const again = await eventually(() => c.ch.get(queue));
    equal([bodyOf(again), again.fields.redelivered, bodyOf(await c.ch.get(queue))], ['x1', true, 'x2']);
  },

  async 'dedup-header'(c) {
    const queue = await c.queue('', { arguments: { 'x-message-deduplication': true, 'x-cache-size': 100 } });
    const channel = await c.channel(true);
    const values = [7, '7', -129, 40000, 2 ** 40, 2.5, true, [1], { a: 1 }, { '!': 'timestamp', value: 7 }];
    for (const value of [...values, ...values]) await confirmed(channel, queue, '1', { [KEY]: value });
    equal((await c.bodies(queue)).length, values.length);
    for (const body of ['new', 'again']) await confirmed(channel, queue, body, {}, { messageId: 'm' });
    equal(await c.bodies(queue), ['new']);
  },

  async 'dedup-producer'(c) {
    const queue = await c.queue();
    const channel = await c.channel(true);
    // A broker remembers producers, so this one is of this run.
    const producer = `${c.n}.${process.pid}.${Date.now()}`;
    for (const sequence of [0, 1, 1, 200, 199, 40000, 2 ** 40, 40001]) {
      const headers = { 'x-producer': producer, 'x-producer-epoch': 1, 'x-producer-sequence': sequence };
      await confirmed(channel, queue, String(sequence), headers);
    }
    equal(await c.bodies(queue), ['0', '1', '200', '40000', String(2 ** 40)]);
  },

  async 'filter-header-types'(c) {
    const queue = await c.queue();
    const wrong = [];
    for (const [filter, a, wanted] of truths) {
      await c.ch.bindQueue(queue, 'amq.direct', c.n, { 'x-filter': filter });
      c.publish('amq.direct', c.n, '1', { headers: { a } });
      await c.barrier();
      if ((await c.bodies(queue)).length !== Number(wanted)) wrong.push(`${filter} isn't ${wanted} of ${JSON.stringify(a)}`);
      await c.ch.unbindQueue(queue, 'amq.direct', c.n, { 'x-filter': filter });
    }
    equal(wrong, []);
  },

  async 'filter-consumer'(c) {
    const queue = await c.queue();
    const got = [];
    const take = (message) => got.push(bodyOf(message));
    await c.ch.consume(queue, take, { noAck: true, arguments: { 'x-filter': 'attributes.region = "eu"' } });
    for (const [body, region] of [['1', 'us'], ['2', 'eu'], ['3', 'eu']]) c.publish('', queue, body, { headers: { region } });
    await eventually(() => got.length >= 2);
    equal([got, await c.bodies(queue)], [['2', '3'], ['1']]);
  },
};

const guard = (check) => (c) => {
  if (process.env.INTEROP_BROKER === 'rabbitmq') {
    throw new Skip('RabbitMQ 3.10 has it only as a plugin or not at all');
  }
  return check(c);
};

exports.own = Object.fromEntries(Object.entries(own).map(([name, check]) => [name, guard(check)]));
