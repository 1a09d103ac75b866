'use strict';
// Situations that end a channel or a connection; expected.txt says how.

const { Skip } = require('./report');

/** An error that calls on one fresh channel provoke. */
const simple = (action) => async (c) => action((await c.open()).ch, c.n, c);

const tag = (deliveryTag) => ({ fields: { deliveryTag } });
const ignore = () => {};

exports.failing = {
  'err-no-queue': simple((ch, n) => ch.checkQueue(n)),
  'err-no-queue-bind': simple((ch, n) => ch.bindQueue(n, 'amq.direct', 'k')),
  'err-no-queue-consume': simple((ch, n) => ch.consume(n, ignore)),
  'err-no-queue-get': simple((ch, n) => ch.get(n)),
  'err-no-previous-queue': simple((ch) => ch.consume('', ignore)),
  'err-purge-missing': simple((ch, n) => ch.purgeQueue(n)),
  'err-no-exchange': simple((ch, n) => ch.checkExchange(n)),
  'err-publish-no-exchange': simple((ch, n, c) => c.publish(n, 'k')),
  'err-invalid-arg': simple((ch, n) => ch.assertQueue(n, { exclusive: true, arguments: { 'x-expires': -1 } })),
  'err-unknown-tag': simple((ch) => ch.ack(tag(7))),
  'err-unknown-tag-nack': simple((ch) => ch.nack(tag(7))),
  'err-unknown-tag-reject': simple((ch) => ch.reject(tag(7))),
  'err-reserved-queue': simple((ch, n) => ch.assertQueue(`amq.${n}`)),
  'err-reserved-exchange': simple((ch, n) => ch.assertExchange(`amq.${n}`, 'direct')),
  'err-predeclared-delete': simple((ch) => ch.deleteExchange('amq.direct')),
  'err-default-exchange-declare': simple((ch) => ch.assertExchange('', 'direct')),
  'err-default-exchange-delete': simple((ch) => ch.deleteExchange('')),
  'err-unknown-exchange-type': simple((ch, n) => ch.assertExchange(n, 'nosuch')),
  'err-immediate': simple(() => {
    throw new Skip('amqplib never sets immediate');
  }),
  'err-recover-norequeue': simple((ch, n, c) => c.call('BasicRecover', { requeue: false })),
  'err-prefetch-size': simple((ch, n, c) => c.call('BasicQos', { prefetchSize: 1, prefetchCount: 0, global: false })),
  'err-flow-inactive': simple((ch, n, c) => c.call('ChannelFlow', { active: false })),
  'err-user-id': simple((ch, n, c) => c.publish('amq.direct', n, '1', { userId: 'mallory' })),
  'err-invalid-expiration': simple((ch, n, c) => c.publish('amq.direct', n, '1', { expiration: 'soon' })),
  'err-reply-to-no-consumer': simple((ch, n, c) => c.publish('', n, '1', { replyTo: 'amq.rabbitmq.reply-to' })),
  'err-commit-without-tx': simple((ch, n, c) => c.call('TxCommit')),
  'err-bad-login': (c) => c.connect({ password: 'wrong' }),
  'err-vhost-missing': (c) => c.connect({ vhost: 'nowhere' }),
  'err-no-exchange-bind': async (c) => {
    await c.open();
    await c.ch.bindQueue(await c.queue('.queue'), c.n, 'k');
  },
  'err-locked': async (c) => {
    await (await c.open()).queue();
    await (await c.channelOf(await c.connect())).assertQueue(c.n, { exclusive: true, durable: false });
  },
  'err-locked-consume': async (c) => {
    await (await c.open()).queue();
    await (await c.channelOf(await c.connect())).consume(c.n, ignore);
  },
  'err-inequivalent-arg': async (c) => {
    await (await c.open()).queue();
    await c.queue('', { arguments: { 'x-message-ttl': 1000 } });
  },
  'err-inequivalent-flag': async (c) => {
    await (await c.open()).ch.deleteQueue(c.n);
    await c.queue('', { exclusive: false, autoDelete: true });
    await c.queue('', { exclusive: false, autoDelete: true, durable: true });
  },
  'err-inequivalent-exchange': async (c) => {
    await (await c.open()).exchange('direct');
    await c.ch.assertExchange(c.n, 'fanout', { durable: false });
  },
  'err-double-ack': async (c) => {
    const queue = await (await c.open()).queue();
    c.publish('', queue);
    const message = await c.ch.get(queue);
    c.ch.ack(message);
    c.ch.ack(message);
  },
  'err-default-exchange-bind': async (c) => {
    const queue = await (await c.open()).queue();
    await c.ch.bindQueue(queue, '', 'k');
  },
  'err-internal-exchange': async (c) => {
    const exchange = await (await c.open()).exchange('fanout', '', { internal: true });
    c.publish(exchange, '');
  },
  'err-exclusive-consumer': async (c) => {
    const queue = await (await c.open()).queue();
    await (await c.channel()).consume(queue, ignore, { exclusive: true });
    await c.ch.consume(queue, ignore);
  },
  'err-reuse-consumer-tag': async (c) => {
    const queue = await (await c.open()).queue();
    await c.ch.consume(queue, ignore, { consumerTag: c.n });
    await c.ch.consume(queue, ignore, { consumerTag: c.n });
  },
  'err-in-use': async (c) => {
    const queue = await (await c.open()).queue();
    await c.ch.consume(queue, ignore);
    await c.ch.deleteQueue(queue, { ifUnused: true });
  },
  'err-not-empty': async (c) => {
    const queue = await (await c.open()).queue();
    c.publish('', queue);
    await c.ch.deleteQueue(queue, { ifEmpty: true });
  },
  'err-exchange-in-use': async (c) => {
    const exchange = await (await c.open()).exchange('fanout');
    await c.ch.bindQueue(await c.queue(), exchange, '');
    await c.ch.deleteExchange(exchange, { ifUnused: true });
  },
  'err-tx-then-confirm': async (c) => {
    await (await c.open()).call('TxSelect');
    await c.call('ConfirmSelect', { nowait: false });
  },
  'err-confirm-then-tx': async (c) => {
    await (await c.open()).call('ConfirmSelect', { nowait: false });
    await c.call('TxSelect');
  },
};
