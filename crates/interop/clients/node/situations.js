'use strict';
// Situations that the broker must carry out.

const crypto = require('node:crypto');
const { equal, eventually, show, sleep } = require('./report');

const QUIET = 200; // Milliseconds without a delivery after which we believe that none comes.

/** Waits for `count` messages, then a little longer: one too many must be seen as well. */
async function collect(into, count) {
  await eventually(() => into.length >= count);
  await sleep(QUIET);
  equal(into.length, count);
}

async function gone(c, check) {
  const channel = await c.connections[0].createChannel();
  channel.on('error', () => {});
  try {
    await check(channel);
    return false;
  } catch (error) {
    equal(error.code, 404);
    return true;
  }
}

const bodyOf = (message) => message.content.toString();
const sha256 = (buffer) => crypto.createHash('sha256').update(buffer).digest('hex');
const numbers = (count) => [...Array(count).keys()].map(String);

const basics = {
  async tune(c) {
    const { channelMax, frameMax } = c.connections[0].connection;
    c.observe(`negotiated channel_max=${channelMax} frame_max=${frameMax}`);
    equal(channelMax, 2047);
  },

  async capabilities(c) {
    const { capabilities } = c.connections[0].connection.serverProperties;
    const wanted = ['publisher_confirms', 'exchange_exchange_bindings', 'basic.nack', 'consumer_cancel_notify'];
    wanted.push('connection.blocked', 'consumer_priorities', 'authentication_failure_close', 'per_consumer_qos');
    wanted.push('direct_reply_to');
    c.observe(Object.keys(capabilities).sort().map((name) => `${name}=${capabilities[name]}`).join(' '));
    equal(wanted.filter((name) => capabilities[name] !== true), []);
  },

  async declare(c) {
    await c.ch.deleteQueue(c.n);
    await c.exchange('direct', '', { durable: true });
    await c.ch.assertExchange(c.n, 'direct', { durable: true });
    await c.ch.checkExchange(c.n);
    equal(await c.ch.assertQueue(c.n), { queue: c.n, messageCount: 0, consumerCount: 0 });
    equal(await c.ch.assertQueue(c.n), { queue: c.n, messageCount: 0, consumerCount: 0 });
    equal(await c.ch.deleteQueue(c.n), { messageCount: 0 });
    await c.ch.deleteExchange(c.n);
  },

  async bind(c) {
    const exchange = await c.exchange('direct');
    const queue = await c.queue();
    await c.ch.bindQueue(queue, exchange, 'here');
    c.publish(exchange, 'here', '1');
    c.publish(exchange, 'elsewhere', '2');
    equal(await c.bodies(queue), ['1']);
    await c.ch.unbindQueue(queue, exchange, 'here');
    c.publish(exchange, 'here', '3');
    equal(await c.bodies(queue), []);
    await c.ch.deleteExchange(exchange);
  },

  async 'publish-confirm'(c) {
    const queue = await c.queue();
    const confirming = await c.channel(true);
    for (const body of numbers(50)) confirming.publish('', queue, Buffer.from(body));
    await confirming.waitForConfirms();
    equal(await c.bodies(queue), numbers(50));
  },

  async consume(c) {
    const queue = await c.queue();
    const messages = [];
    const options = {
      contentType: 'text/plain', contentEncoding: 'utf-8', headers: { a: 1 }, deliveryMode: 1, priority: 5,
      correlationId: 'c', replyTo: 'r', expiration: '60000', messageId: 'm', timestamp: 1700000000, type: 't',
      userId: 'guest', appId: 'app',
    };
    for (const body of numbers(10)) c.publish('', queue, body, options);
    await c.ch.consume(queue, (message) => messages.push(message), { consumerTag: 'mine', noAck: true });
    await collect(messages, 10);
    equal(messages.map(bodyOf), numbers(10));
    equal(messages.map((message) => message.fields.deliveryTag), numbers(10).map((number) => Number(number) + 1));
    const { exchange, routingKey, redelivered, consumerTag } = messages[0].fields;
    equal([exchange, routingKey, redelivered, consumerTag], ['', queue, false, 'mine']);
    const { clusterId, ...properties } = messages[0].properties;
    equal(properties, options);
    await c.ch.cancel('mine');
  },

  async ack(c) {
    const queue = await c.queue();
    for (const body of ['1', '2', '3', '4']) c.publish('', queue, body);
    const messages = [];
    for (const _ of numbers(4)) messages.push(await c.ch.get(queue));
    c.ch.ack(messages[0]);
    c.ch.ack(messages[2], true);
    await c.ch.recover();
    equal(await c.bodies(queue), ['4']);
  },

  async 'nack-requeue'(c) {
    const queue = await c.queue();
    for (const body of ['1', '2', '3']) c.publish('', queue, body);
    c.ch.nack(await c.ch.get(queue), false, true);
    const again = await c.ch.get(queue);
    equal([bodyOf(again), again.fields.redelivered], ['1', true]);
    c.ch.nack(again, false, false);
    await c.ch.get(queue);
    await c.ch.get(queue);
    c.ch.nackAll(true);
    equal(await c.bodies(queue), ['2', '3']);
  },

  async reject(c) {
    const queue = await c.queue();
    c.publish('', queue, '1');
    c.ch.reject(await c.ch.get(queue), true);
    const again = await c.ch.get(queue);
    equal([bodyOf(again), again.fields.redelivered], ['1', true]);
    c.ch.reject(again, false);
    equal(await c.bodies(queue), []);
  },

  async 'return-mandatory'(c) {
    const returns = [];
    c.ch.on('return', (message) => returns.push(message));
    c.publish('amq.direct', c.n, 'lost', { mandatory: true });
    await eventually(() => returns.length > 0);
    const { replyCode, replyText, exchange, routingKey } = returns[0].fields;
    c.observe(`${replyCode} ${replyText} ${exchange} ${routingKey} ${bodyOf(returns[0])}`);
    equal([replyCode, replyText, exchange, routingKey, bodyOf(returns[0])], [312, 'NO_ROUTE', 'amq.direct', c.n, 'lost']);
  },

  async 'return-before-ack'(c) {
    const confirming = await c.channel(true);
    const order = [];
    confirming.on('return', () => order.push('return'));
    confirming.publish('amq.direct', c.n, Buffer.from('lost'), { mandatory: true }, () => order.push('ack'));
    await eventually(() => order.length === 2);
    equal(order, ['return', 'ack']);
  },

  async 'body-10mib'(c) {
    const queue = await c.queue();
    const body = Buffer.alloc(10 << 20, '0123456789abcdef');
    c.publish('', queue, body);
    c.publish('', queue, '');
    await c.barrier();
    equal(sha256((await c.ch.get(queue, { noAck: true })).content), sha256(body));
    equal((await c.ch.get(queue, { noAck: true })).content.length, 0);
  },

  async 'channels-2000'(c) {
    const queue = await c.queue();
    let last;
    for (let number = 1; number < 2000; number++) last = await c.connections[0].createChannel();
    last.publish('', queue, Buffer.from('from the last'));
    await last.qos(0);
    equal(await c.bodies(queue), ['from the last']);
  },

  async 'get-empty'(c) {
    const queue = await c.queue();
    equal(await c.ch.get(queue), false);
    for (const body of ['1', '2', '3']) c.publish('', queue, body);
    equal((await c.ch.get(queue)).fields.messageCount, 2);
  },

  async purge(c) {
    const queue = await c.queue();
    for (const body of ['1', '2', '3']) c.publish('', queue, body);
    await c.ch.get(queue); // Unacknowledged messages are not purged, nor counted.
    equal(await c.ch.purgeQueue(queue), { messageCount: 2 });
  },

  async 'cancel-unknown'(c) {
    equal(await c.ch.cancel('never-existed'), { consumerTag: 'never-existed' });
  },

  async 'delete-missing'(c) {
    equal(await c.ch.deleteQueue(c.n), { messageCount: 0 });
    await c.ch.deleteExchange(c.n);
  },

  async 'server-named'(c) {
    const { queue } = await c.ch.assertQueue('', { exclusive: true, durable: false });
    const { consumerTag } = await c.ch.consume(queue, () => {});
    c.observe(`${queue.slice(0, 8)}* ${consumerTag.slice(0, 9)}*`);
    equal([queue.slice(0, 8), consumerTag.slice(0, 9)], ['amq.gen-', 'amq.ctag-']);
  },

  async 'passive-declare'(c) {
    const queue = await c.queue('', { arguments: { 'x-max-length': 10 } });
    c.publish('', queue, '1');
    await c.ch.consume(queue, () => {});
    const wanted = show({ queue, messageCount: 0, consumerCount: 1 });
    await eventually(async () => show(await c.ch.checkQueue(queue)) === wanted);
    const exchange = await c.exchange('topic');
    await c.ch.checkExchange(exchange);
    await c.ch.deleteExchange(exchange);
  },

  async 'unicode-names'(c) {
    const exchange = await c.exchange('direct', '.échange-交換');
    const queue = await c.queue('.file-キュー-🐇');
    await c.ch.bindQueue(queue, exchange, 'clé-鍵');
    c.publish(exchange, 'clé-鍵', 'Grüße');
    const message = await c.ch.get(queue, { noAck: true });
    equal([message.fields.exchange, message.fields.routingKey, bodyOf(message)], [exchange, 'clé-鍵', 'Grüße']);
    await c.ch.deleteExchange(exchange);
  },

  async 'table-roundtrip'(c) {
    const queue = await c.queue();
    const typed = (type, value) => ({ '!': type, value });
    const table = {
      true: true, byte: -3, short: 300, int: 70000, long: 2 ** 40, double: 2.25, string: 'é', none: null,
      list: [1, 'two', [3]], table: { inner: { deep: 1 } }, empty: {}, uint8: typed('uint8', 200),
      uint16: typed('uint16', 40000), uint32: typed('uint32', 3000000000), float: typed('float', 2.5),
      time: typed('timestamp', 1700000000), decimal: typed('decimal', { places: 2, digits: 1234 }),
      bytes: Buffer.from([0, 255]),
    };
    c.publish('', queue, '', { headers: table });
    const { headers } = (await c.ch.get(queue, { noAck: true })).properties;
    c.observe(show(headers));
    const plain = { ...table, uint8: 200, uint16: 40000, uint32: 3000000000, float: 2.5 };
    plain.time = { '!': 'timestamp', value: 1700000000 };
    plain.decimal = { '!': 'decimal', value: { places: 2, digits: 1234 } };
    equal(headers, plain);
  },
};

const routing = {
  async 'last-declared-per-channel'(c) {
    const exchange = await c.exchange('direct');
    const other = await c.channel();
    await c.queue('.a');
    await other.assertQueue(`${c.n}.b`, { exclusive: true, durable: false });
    await c.ch.bindQueue('', exchange, ''); // With an empty key too, the queue's name is the key.
    c.publish(exchange, `${c.n}.a`, 'for a');
    await eventually(async () => (await c.ch.checkQueue(`${c.n}.a`)).messageCount === 1);
    equal((await c.ch.checkQueue(`${c.n}.b`)).messageCount, 0);
    await c.ch.deleteExchange(exchange);
  },

  async 'exclusive-gone'(c) {
    const owner = await c.connect();
    await (await c.channelOf(owner)).assertQueue(c.n, { exclusive: true, durable: false });
    await owner.close();
    equal(await gone(c, (channel) => channel.checkQueue(c.n)), true);
  },

  async 'auto-delete-queue'(c) {
    const queue = await c.queue('', { exclusive: false, autoDelete: true });
    c.publish('', queue, '1');
    equal(await c.bodies(queue), ['1']);
    equal(await gone(c, (channel) => channel.checkQueue(queue)), false);
    await c.ch.consume(queue, () => {}, { consumerTag: 'last' });
    await c.ch.cancel('last');
    await eventually(() => gone(c, (channel) => channel.checkQueue(queue)));
  },

  async 'auto-delete-exchange'(c) {
    const exchange = await c.exchange('fanout', '', { autoDelete: true });
    const queue = await c.queue();
    await c.ch.bindQueue(queue, exchange, '');
    equal(await gone(c, (channel) => channel.checkExchange(exchange)), false);
    await c.ch.unbindQueue(queue, exchange, '');
    await eventually(() => gone(c, (channel) => channel.checkExchange(exchange)));
  },

  async 'alternate-exchange'(c) {
    const alternate = await c.exchange('fanout', '.alternate');
    const exchange = await c.exchange('direct', '', { alternateExchange: alternate });
    const [queue, rest] = [await c.queue(), await c.queue('.rest')];
    const returns = [];
    c.ch.on('return', (message) => returns.push(message));
    await c.ch.bindQueue(queue, exchange, 'k');
    await c.ch.bindQueue(rest, alternate, '');
    c.publish(exchange, 'k', 'routed');
    c.publish(exchange, 'other', 'unrouted', { mandatory: true });
    await c.barrier();
    equal([await c.bodies(queue), await c.bodies(rest), returns.length], [['routed'], ['unrouted'], 0]);
    await c.ch.deleteExchange(exchange);
    await c.ch.deleteExchange(alternate);
  },

  async 'exchange-to-exchange'(c) {
    const [source, target] = [await c.exchange('topic', '.source'), await c.exchange('fanout', '.target')];
    const queue = await c.queue();
    await c.ch.bindQueue(queue, target, '');
    await c.ch.bindExchange(target, source, 'a.#');
    c.publish(source, 'a.b', '1');
    c.publish(source, 'b.a', '2');
    await c.ch.unbindExchange(target, source, 'a.#');
    c.publish(source, 'a.b', '3');
    equal(await c.bodies(queue), ['1']);
    await c.ch.deleteExchange(source);
    await c.ch.deleteExchange(target);
  },

  async 'headers-exchange'(c) {
    const exchange = await c.exchange('headers');
    const got = {};
    for (const match of ['all', 'any', 'all-with-x', 'any-with-x']) {
      const wanted = match.endsWith('with-x') ? { 'x-a': 1 } : { a: 1, b: 'x' };
      await c.ch.bindQueue(await c.queue(`.${match}`), exchange, '', { 'x-match': match, ...wanted });
    }
    const published = [{ a: 1, b: 'x' }, { a: 1 }, { b: 'x', c: true }, { 'x-a': 1 }, {}];
    published.forEach((headers, number) => c.publish(exchange, '', String(number), { headers }));
    for (const match of ['all', 'any', 'all-with-x', 'any-with-x']) got[match] = await c.bodies(`${c.n}.${match}`);
    c.observe(show(got));
    equal(got, { all: ['0'], any: ['0', '1', '2'], 'all-with-x': ['3'], 'any-with-x': ['3'] });
    await c.ch.deleteExchange(exchange);
  },

  async 'topic-patterns'(c) {
    const exchange = await c.exchange('topic');
    const patterns = ['#', '*', 'a.*', 'a.#', '*.b', '#.b', 'a.*.c', 'a.#.c', '#.#', '*.#.*', '', 'a..b'];
    const keys = ['', 'a', 'a.b', 'a.b.c', 'a.c', 'b', 'a.x.y.c', 'a..b', 'A.b'];
    const matched = keys.map(() => []);
    for (const [number, pattern] of patterns.entries()) {
      await c.ch.bindQueue(await c.queue(`.${number}`), exchange, pattern);
    }
    keys.forEach((key, number) => c.publish(exchange, key, String(number)));
    for (const [number, pattern] of patterns.entries()) {
      for (const body of await c.bodies(`${c.n}.${number}`)) matched[body].push(pattern);
    }
    keys.forEach((key, number) => c.observe(`"${key}" matches ${show(matched[number])}`));
    equal(matched[3], ['#', 'a.#', 'a.*.c', 'a.#.c', '#.#', '*.#.*']);
    equal(matched[2], ['#', 'a.*', 'a.#', '*.b', '#.b', '#.#', '*.#.*']);
    equal(matched[0], ['#', '#.#', '']);
    await c.ch.deleteExchange(exchange);
  },

  async 'cc-bcc'(c) {
    const [to, cc, bcc] = [await c.queue('.to'), await c.queue('.cc'), await c.queue('.bcc')];
    c.publish('', to, '1', { CC: [cc], BCC: [bcc], headers: { kept: 1 } });
    for (const queue of [to, cc, bcc]) {
      const { headers } = (await c.ch.get(queue, { noAck: true })).properties;
      equal([headers.CC, headers.BCC, headers.kept], [[cc], undefined, 1]);
    }
  },
};

const delivery = {
  async 'direct-reply-to'(c) {
    const queue = await c.queue();
    const [answers, server] = [[], await c.channel()];
    await c.ch.consume('amq.rabbitmq.reply-to', (message) => answers.push(message), { noAck: true });
    c.publish('', queue, 'ping', { replyTo: 'amq.rabbitmq.reply-to', correlationId: '7' });
    await c.barrier();
    const { replyTo } = (await server.get(queue, { noAck: true })).properties;
    equal(replyTo.startsWith('amq.rabbitmq.reply-to.'), true);
    server.publish('', replyTo, Buffer.from('pong'), { correlationId: '7' });
    await collect(answers, 1);
    equal([bodyOf(answers[0]), answers[0].properties.correlationId], ['pong', '7']);
  },

  async 'consumer-priority'(c) {
    const queue = await c.queue();
    const [low, high] = [[], []];
    await c.ch.consume(queue, (message) => low.push(message), { noAck: true });
    await c.ch.consume(queue, (message) => high.push(message), { noAck: true, priority: 10 });
    for (const body of numbers(10)) c.publish('', queue, body);
    await collect(high, 10);
    equal(low.length, 0);
  },

  async 'prefetch-consumer'(c) {
    const queue = await c.queue();
    const messages = [];
    for (const body of numbers(5)) c.publish('', queue, body);
    await c.ch.prefetch(2);
    await c.ch.consume(queue, (message) => messages.push(message));
    await collect(messages, 2);
    c.ch.ack(messages[1], true);
    await collect(messages, 4);
  },

  async 'prefetch-global'(c) {
    const queue = await c.queue();
    const messages = [];
    for (const body of numbers(10)) c.publish('', queue, body);
    await c.ch.prefetch(3, true);
    await c.ch.consume(queue, (message) => messages.push(message));
    await c.ch.consume(queue, (message) => messages.push(message));
    await collect(messages, 3);
  },

  async 'prefetch-change'(c) {
    const queue = await c.queue();
    const messages = [];
    for (const body of numbers(10)) c.publish('', queue, body);
    await c.ch.prefetch(1);
    await c.ch.consume(queue, (message) => messages.push(message));
    await collect(messages, 1);
    await c.ch.prefetch(5);
    await sleep(QUIET);
    c.observe(`${messages.length} outstanding after qos(1), consume, qos(5)`);
    equal(messages.length, 1); // basic.qos(global=false) is for consumers to come.
  },

  async 'cancel-notify'(c) {
    const queue = await c.queue();
    const messages = [];
    await c.ch.consume(queue, (message) => messages.push(message));
    await (await c.channel()).deleteQueue(queue);
    await eventually(() => messages.length > 0);
    equal(messages, [null]); // amqplib's way to say that the broker cancelled the consumer.
  },

  async 'requeue-order'(c) {
    const queue = await c.queue();
    for (const body of ['1', '2', '3', '4', '5', '6']) c.publish('', queue, body);
    const held = [];
    for (const _ of numbers(5)) held.push(await c.ch.get(queue));
    for (const index of [2, 0, 4, 3, 1]) c.ch.nack(held[index], false, true);
    for (const number of [1, 2, 3, 4, 5, 6]) {
      const message = await c.ch.get(queue);
      equal([bodyOf(message), message.fields.redelivered], [String(number), number < 6]);
    }
  },

  async 'recover-requeue'(c) {
    const queue = await c.queue();
    for (const body of ['1', '2']) c.publish('', queue, body);
    for (const _ of ['1', '2']) await c.ch.get(queue);
    await c.ch.recover();
    for (const body of ['1', '2']) {
      const message = await c.ch.get(queue);
      equal([bodyOf(message), message.fields.redelivered], [body, true]);
    }
  },

  async 'redelivered-after-close'(c) {
    await c.ch.deleteQueue(c.n);
    const queue = await c.queue('', { exclusive: false, durable: true });
    const holder = await c.connect();
    c.publish('', queue, '1');
    await c.barrier();
    equal((await (await c.channelOf(holder)).get(queue)).fields.redelivered, false);
    await holder.close();
    equal((await eventually(() => c.ch.get(queue, { noAck: true }))).fields.redelivered, true);
    await c.ch.deleteQueue(queue);
  },

  async 'tx-commit'(c) {
    const queue = await c.queue();
    const observer = await c.channel();
    c.publish('', queue, '0');
    await c.barrier();
    await c.call('TxSelect');
    const held = await c.ch.get(queue);
    c.publish('', queue, '1');
    c.publish('', queue, '2');
    c.ch.ack(held);
    equal((await observer.checkQueue(queue)).messageCount, 0);
    await c.call('TxCommit');
    await eventually(async () => (await observer.checkQueue(queue)).messageCount === 2);
    await c.ch.recover();
    equal(await c.bodies(queue), ['1', '2']);
  },

  async 'tx-rollback'(c) {
    const queue = await c.queue();
    c.publish('', queue, '0');
    await c.barrier();
    await c.call('TxSelect');
    c.ch.ack(await c.ch.get(queue));
    c.publish('', queue, '1');
    await c.call('TxRollback');
    equal((await c.ch.checkQueue(queue)).messageCount, 0);
    await c.ch.recover(); // The ack was rolled back as well: the message is still ours to requeue.
    equal(await c.bodies(queue), ['0']);
  },
};

exports.situations = { ...basics, ...routing, ...delivery };
