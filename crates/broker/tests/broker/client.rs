//! One connection with one channel, for tests that are programs rather than scripts. Bodies are numbers.

use leveret_broker::message::encode_route;
use leveret_broker::{
    Broker, Channel, Consume, Delivery, Event, Publish, Published, QueueDeclare, Result, Session, Settle,
};
use leveret_wire::properties::Properties;
use leveret_wire::table::Table;
use std::sync::Arc;

pub struct Client {
    pub session: Session,
    pub channel: Channel,
    /// Consumers that were told of a grant and have not pulled it.
    pub ready: Vec<u32>,
    /// Consumers whose queue was deleted.
    pub cancelled: Vec<u32>,
    events: Vec<Event>,
    out: Vec<Delivery>,
}

/// A message as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    pub tag: u64,
    pub body: u64,
    pub redelivered: bool,
}

impl Client {
    pub fn new(broker: &Broker) -> Client {
        let session = broker.open_session(broker.vhost("/").expect("the default virtual host"));
        let (ready, cancelled, events, out) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Client { session, channel: Channel::new(1), ready, cancelled, events, out }
    }

    pub fn declare(&mut self, name: &str) {
        let (durable, exclusive, auto_delete, arguments) = (false, false, false, Table::EMPTY);
        let declare = QueueDeclare { name, durable, exclusive, auto_delete, arguments };
        self.channel.declare_queue(&mut self.session, declare).expect("the queue can be declared");
    }

    /// Publishes to a queue and flushes. False if it is not there.
    pub fn publish(&mut self, queue: &str, bodies: impl Iterator<Item = u64>) -> bool {
        let route = encode_route("", queue);
        let mut routed = true;
        for body in bodies {
            let (properties, body) = (Properties::default(), &body.to_be_bytes());
            let publish = Publish { route: &route, mandatory: false, properties, encoded: &[0, 0], body };
            let published = self.channel.publish(&mut self.session, &publish).expect("the exchange is there");
            routed &= published == Published::Routed;
        }
        self.session.flush();
        routed
    }

    /// Starts a consumer and gives its tag; its number is how many the channel had before.
    pub fn consume(&mut self, queue: &str, prefetch: u16, no_ack: bool) -> Arc<str> {
        self.try_consume(queue, prefetch, no_ack).expect("the queue is there")
    }

    /// As [`Client::consume`], of a queue that may be missing.
    pub fn try_consume(&mut self, queue: &str, prefetch: u16, no_ack: bool) -> Result<Arc<str>> {
        self.channel.qos(&self.session, prefetch, false);
        let consume = Consume { queue, tag: "", no_ack, exclusive: false, arguments: Table::EMPTY };
        self.channel.consume(&mut self.session, consume)
    }

    /// Reads the mailbox.
    pub fn listen(&mut self) {
        self.session.mailbox().take(&mut self.events);
        self.note_events();
    }

    /// Reads the mailbox; with nothing in it, `context` is woken at the next event.
    pub fn poll(&mut self, context: &mut std::task::Context<'_>) -> bool {
        let any = self.session.mailbox().poll(context, &mut self.events);
        self.note_events();
        any
    }

    fn note_events(&mut self) {
        for event in self.events.drain(..) {
            match event {
                Event::Ready { consumer, .. } => self.ready.push(consumer),
                Event::Cancelled { consumer, .. } => self.cancelled.push(consumer),
                _ => {}
            }
        }
    }

    /// Pulls once for each consumer that was told, at most about `max_bytes`.
    pub fn pull(&mut self, max_bytes: usize) -> Vec<Received> {
        self.listen();
        let mut received = Vec::new();
        for consumer in std::mem::take(&mut self.ready) {
            self.pull_one(consumer, max_bytes, &mut received);
        }
        received
    }

    pub fn pull_one(&mut self, consumer: u32, max_bytes: usize, received: &mut Vec<Received>) {
        let Some(pulled) = self.channel.pull(&self.session, consumer, max_bytes, &mut self.out) else { return };
        let mut tag = pulled.first_tag;
        for delivery in self.out.drain(..) {
            let mut at = delivery.offset;
            for _ in 0..delivery.count {
                let (message, next) = delivery.block.at(at);
                let body = u64::from_be_bytes(message.body.try_into().expect("a body of 8 bytes"));
                received.push(Received { tag, body, redelivered: delivery.redelivered });
                (at, tag) = (next, tag + 1);
            }
        }
        if pulled.more {
            self.ready.push(consumer);
        }
    }

    /// Settles one delivery or all up to it.
    pub fn settle(&mut self, tag: u64, multiple: bool, how: Settle) {
        self.channel.settle(tag, multiple, how).expect("the tag is outstanding");
        self.channel.apply_settled();
    }

    pub fn close(self) {
        let Client { session, channel, .. } = self;
        session.close(std::iter::once(channel));
    }
}
