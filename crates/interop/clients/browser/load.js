'use strict';
// What the pages have to show: queues, exchanges, messages, users and policies, many of which have a name that a
// careless page would run as a script.

const amqp = require('amqplib');

const HOSTILE = '<script>alert(1)</script>';

/** The management API as guest. */
class Api {
  constructor(origin) {
    this.origin = origin;
  }

  async send(method, path, body) {
    const headers = { authorization: `Basic ${btoa('guest:guest')}`, 'content-type': 'application/json' };
    const response = await fetch(this.origin + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text === '' ? null : JSON.parse(text);
  }
}

const hostile = encodeURIComponent(HOSTILE);

async function declare(api) {
  await api.send('PUT', `/api/users/${hostile}`, { password: 'secret', tags: 'monitoring' });
  await api.send('PUT', `/api/permissions/%2F/${hostile}`, { configure: HOSTILE, write: '.*', read: '.*' });
  await api.send('PUT', `/api/topic-permissions/%2F/${hostile}`, { exchange: 'amq.topic', write: HOSTILE, read: '.*' });
  await api.send('PUT', `/api/policies/%2F/${hostile}`, { pattern: '<script>', definition: { 'max-length': 100000 }, 'apply-to': 'queues', priority: 1 });
  await api.send('PUT', `/api/operator-policies/%2F/${hostile}`, { pattern: '<script>', definition: { expires: 86400000 }, 'apply-to': 'queues', priority: 1 });
  await api.send('PUT', `/api/vhosts/${hostile}`, { description: HOSTILE, tags: HOSTILE });
  await api.send('PUT', `/api/permissions/${hostile}/guest`, { configure: '.*', write: '.*', read: '.*' });
}

/** A connection that publishes and consumes until it is closed. */
async function traffic(url) {
  const connection = await amqp.connect(url, { clientProperties: { connection_name: HOSTILE, product: HOSTILE } });
  connection.on('error', () => {});
  const channel = await connection.createConfirmChannel();
  channel.on('error', (error) => console.log(`note: ${error.message}`));
  for (const name of ['orders', HOSTILE]) await channel.assertExchange(name, 'topic', { durable: true });
  await channel.bindExchange(HOSTILE, 'orders', HOSTILE);
  const dead = `${HOSTILE}.dead`;
  await channel.assertQueue(dead, { durable: true });
  await channel.assertQueue(HOSTILE, { durable: true, arguments: { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead, 'x-unknown': HOSTILE, constructor: HOSTILE, 'x-message-ttl': 3600000 } });
  await channel.assertQueue('orders.mail', { durable: true });
  await channel.bindQueue(HOSTILE, 'orders', HOSTILE);
  await channel.bindQueue(HOSTILE, HOSTILE, '#');
  await channel.bindQueue('orders.mail', 'orders', '#');
  // What the crate `leveret` declares for a topic and a subscription, with a name that it would not allow.
  await channel.assertExchange('payments', 'fanout', { durable: true });
  await channel.assertQueue('payments.ledger.dead', { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  await channel.assertQueue('payments.ledger', { durable: true, arguments: { 'x-queue-type': 'quorum', 'x-dead-letter-exchange': '',
    'x-dead-letter-routing-key': 'payments.ledger.dead', 'x-delivery-limit': 9, 'x-delayed-retry-type': 'failed', 'x-delayed-retry-min': 1000, 'x-delayed-retry-max': 600000 } });
  await channel.bindQueue('payments.ledger', 'payments', '');
  await channel.prefetch(20);
  await channel.consume('orders.mail', (message) => message && channel.ack(message), { consumerTag: HOSTILE });
  await channel.consume('payments.ledger', (message) => message && channel.ack(message));
  let sent = 0;
  const timer = setInterval(() => {
    for (let i = 0; i < 5; i++) {
      const body = Buffer.from(JSON.stringify({ id: sent, customer: HOSTILE }));
      channel.publish('orders', sent % 2 === 0 ? HOSTILE : 'order.created', body,
        { persistent: true, messageId: `m${sent}`, contentType: 'application/json', headers: { [HOSTILE]: HOSTILE, constructor: 'x', region: 'eu' } });
      channel.publish('payments', '', body, { persistent: true, messageId: `p${sent}` });
      sent += 1;
    }
  }, 100);
  // Two of them die, for the page of dead letters.
  await channel.waitForConfirms();
  const reader = await connection.createChannel();
  for (let died = 0; died < 2;) {
    const message = await reader.get(HOSTILE);
    if (message) {
      reader.nack(message, false, false);
      died += 1;
    }
  }
  return { connection, channel, stop: async () => { clearInterval(timer); await connection.close(); } };
}

module.exports = { Api, HOSTILE, declare, traffic };
