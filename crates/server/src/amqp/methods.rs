//! The methods of an open channel, except basic.publish.

use super::connection::{ChannelState, Connection, OpenChannel};
use super::failure::Failure;
use super::output;
use super::parking::Gate;
use crate::auth::{Access, Permission};
use leveret_broker::{Consume, Error, ExchangeDeclare, QueueDeclare, QueueStatus, Result, Session, Settle, has_effect};
use leveret_wire::method::{Method, access, basic, channel, confirm, exchange, queue, tx};
use leveret_wire::table::{Table, Value};

/// Everything that a method of a channel needs, borrowed from its connection.
struct Context<'c> {
    number: u16,
    channel: &'c mut OpenChannel,
    session: &'c mut Session,
    access: &'c Access,
    out: &'c mut Vec<u8>,
    gate: &'c mut Gate,
    frame_max: u32,
}

impl Connection {
    /// Acts on a method; its channel is open and expects one.
    pub(super) fn method(&mut self, number: u16, method: Method<'_>) -> std::result::Result<(), Failure> {
        let Connection { channels, session, access, out, gate, frame_max, dirty, .. } = self;
        let Some(ChannelState::Open(channel)) = channels.get_mut(&number) else {
            return Err(Failure::connection(504, "expected 'channel.open'", method.id()));
        };
        channel.mark(number, dirty);
        let id = method.id();
        let mut context = Context { number, channel, session, access, out, gate, frame_max: *frame_max };
        context.dispatch(method).map_err(|error| Failure::new(error, id))
    }
}

impl Context<'_> {
    fn dispatch(&mut self, method: Method<'_>) -> Result<()> {
        match method {
            Method::BasicAck(ack) => self.channel.broker.settle(ack.delivery_tag, ack.multiple, Settle::Ack),
            Method::BasicNack(nack) => {
                let how = if nack.requeue { Settle::Requeue } else { Settle::Reject };
                self.channel.broker.settle(nack.delivery_tag, nack.multiple, how)
            }
            Method::BasicReject(it) => {
                let how = if it.requeue { Settle::Fail } else { Settle::Reject };
                self.channel.broker.settle(it.delivery_tag, false, how)
            }
            Method::BasicGet(get) => self.get(get),
            Method::BasicConsume(consume) => self.consume(consume),
            Method::BasicCancel(cancel) => {
                self.channel.broker.cancel(self.session, cancel.consumer_tag);
                let consumer_tag = cancel.consumer_tag;
                self.answer(cancel.no_wait, basic::CancelOk { consumer_tag })
            }
            // The answer to our own basic.cancel, which does not ask for one.
            Method::BasicCancelOk(_) => Ok(()),
            Method::BasicQos(qos) => self.qos(qos),
            Method::BasicRecover(recover) => {
                self.recover(recover.requeue)?;
                self.answer(false, basic::RecoverOk)
            }
            Method::BasicRecoverAsync(recover) => self.recover(recover.requeue),
            Method::QueueDeclare(declare) => self.declare_queue(declare),
            Method::QueueBind(bind) => self.bind_queue(bind),
            Method::QueueUnbind(unbind) => self.unbind_queue(unbind),
            Method::QueuePurge(purge) => self.purge_queue(purge),
            Method::QueueDelete(delete) => self.delete_queue(delete),
            Method::ExchangeDeclare(declare) => self.declare_exchange(declare),
            Method::ExchangeDelete(delete) => self.delete_exchange(delete),
            Method::ExchangeBind(bind) => self.bind_exchange(bind),
            Method::ExchangeUnbind(unbind) => self.unbind_exchange(unbind),
            Method::ConfirmSelect(select) => {
                self.channel.broker.select_confirm()?;
                self.answer(select.nowait, confirm::SelectOk)
            }
            Method::TxSelect(_) => {
                self.channel.broker.select_transaction()?;
                self.channel.transacts = true;
                self.answer(false, tx::SelectOk)
            }
            Method::TxCommit(_) => self.commit(),
            Method::TxRollback(_) => {
                self.channel.broker.rollback()?;
                self.answer(false, tx::RollbackOk)
            }
            Method::ChannelFlow(flow) if flow.active => self.answer(false, channel::FlowOk { active: true }),
            Method::ChannelFlow(_) => Err(Error::connection(540, "active=false")),
            Method::ChannelFlowOk(_) => Ok(()),
            // Of AMQP 0-8; tickets have had no meaning since.
            Method::AccessRequest(_) => self.answer(false, access::RequestOk { ticket: 1 }),
            other => Err(Error::connection(503, format!("unexpected method '{}'", other.name()))),
        }
    }

    fn answer<'a>(&mut self, no_wait: bool, method: impl Into<Method<'a>>) -> Result<()> {
        if !no_wait {
            leveret_wire::frame::write_method(self.out, self.number, &method.into());
        }
        Ok(())
    }

    fn check(&self, permission: Permission, kind: &str, name: &str) -> Result<()> {
        self.access.check(permission, kind, name)
    }

    /// Binding a topic exchange, or taking a binding away, also needs the right to its routing key.
    fn check_source(&self, exchange: &str, key: &str) -> Result<()> {
        self.check(Permission::Read, "exchange", exchange)?;
        match self.access.has_topics(exchange) && self.session.vhost().is_topic_exchange(exchange) {
            true => self.access.check_topic(Permission::Read, exchange, key),
            false => Ok(()),
        }
    }

    /// The queue that a name stands for, checked for a permission.
    fn queue(&self, permission: Permission, name: &str) -> Result<String> {
        let name = self.channel.broker.resolve_queue(name)?;
        self.check(permission, "queue", name)?;
        Ok(name.to_string())
    }

    fn get(&mut self, get: basic::Get<'_>) -> Result<()> {
        let queue = self.queue(Permission::Read, get.queue)?;
        match self.channel.broker.get(self.session, &queue, get.no_ack)? {
            Some((delivery, tag, left)) => {
                output::get_ok(self.out, self.number, tag, &delivery, left, self.frame_max);
                Ok(())
            }
            None => self.answer(false, basic::GetEmpty),
        }
    }

    fn consume(&mut self, consume: basic::Consume<'_>) -> Result<()> {
        let name = self.channel.broker.resolve_queue(consume.queue)?.to_string();
        if name != leveret_broker::REPLY_TO {
            self.check(Permission::Read, "queue", &name)?;
        }
        let asked = Consume {
            queue: &name,
            tag: consume.consumer_tag,
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            arguments: consume.arguments,
        };
        let tag = self.channel.broker.consume(self.session, asked)?;
        self.answer(consume.no_wait, basic::ConsumeOk { consumer_tag: &tag })
    }

    fn qos(&mut self, qos: basic::Qos) -> Result<()> {
        if qos.prefetch_size != 0 {
            return Err(Error::connection(540, format!("prefetch_size!=0 ({})", qos.prefetch_size)));
        }
        self.channel.broker.qos(self.session, qos.prefetch_count, qos.global);
        self.answer(false, basic::QosOk)
    }

    fn recover(&mut self, requeue: bool) -> Result<()> {
        if !requeue {
            return Err(Error::connection(540, "requeue=false"));
        }
        self.channel.broker.recover(self.session);
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        let (out, number, frame_max) = (&mut *self.out, self.number, self.frame_max);
        let is_done = self.channel.broker.commit(self.session, |message| {
            let names = (message.exchange(), message.routing_key());
            output::no_route(out, number, names, (message.properties, message.body), frame_max);
        })?;
        if !is_done {
            self.channel.commit_due = true;
            self.gate.commit_begun();
            return Ok(());
        }
        self.answer(false, tx::CommitOk)
    }

    fn declare_queue(&mut self, declare: queue::Declare<'_>) -> Result<()> {
        let name = strip(declare.queue);
        let status = if declare.passive {
            self.channel.broker.check_queue(self.session, &name)?
        } else {
            match name.is_empty() {
                // The one that it will get is as good as this one for a pattern.
                true => self.check(Permission::Configure, "queue", &self.session.generated_name())?,
                false => self.check(Permission::Configure, "queue", &name)?,
            }
            if let Some(Value::LongString(_)) = declare.arguments.get("x-dead-letter-exchange") {
                self.check_dead_letter(&name, declare.arguments)?;
            }
            report_arguments(&name, declare.arguments);
            let asked = QueueDeclare {
                name: &name,
                durable: declare.durable,
                exclusive: declare.exclusive,
                auto_delete: declare.auto_delete,
                arguments: declare.arguments,
            };
            self.channel.broker.declare_queue(self.session, asked)?
        };
        let QueueStatus { name, ready, consumers, .. } = status;
        let message_count = u32::try_from(ready).unwrap_or(u32::MAX);
        let consumer_count = u32::try_from(consumers).unwrap_or(u32::MAX);
        self.answer(declare.no_wait, queue::DeclareOk { queue: &name, message_count, consumer_count })
    }

    /// A dead-letter exchange moves messages out of the queue and into the exchange: both have to be allowed.
    fn check_dead_letter(&self, queue: &str, arguments: Table<'_>) -> Result<()> {
        let exchange = arguments.get("x-dead-letter-exchange");
        let exchange = exchange.as_ref().and_then(Value::as_str).unwrap_or_default();
        self.check(Permission::Read, "queue", queue)?;
        self.check(Permission::Write, "exchange", exchange)
    }

    fn bind_queue(&mut self, bind: queue::Bind<'_>) -> Result<()> {
        let queue = self.queue(Permission::Write, bind.queue)?;
        let key = shortcut(bind.queue, bind.routing_key, &queue);
        self.check_source(bind.exchange, key)?;
        let vhost = self.session.vhost().clone();
        vhost.bind_queue(&queue, bind.exchange, key, bind.arguments, self.session.id())?;
        self.answer(bind.no_wait, queue::BindOk)
    }

    fn unbind_queue(&mut self, unbind: queue::Unbind<'_>) -> Result<()> {
        let queue = self.queue(Permission::Write, unbind.queue)?;
        let key = shortcut(unbind.queue, unbind.routing_key, &queue);
        self.check_source(unbind.exchange, key)?;
        // What was published before takes the route that was there.
        self.session.flush();
        let vhost = self.session.vhost().clone();
        vhost.unbind_queue(&queue, unbind.exchange, key, unbind.arguments, self.session.id())?;
        self.answer(false, queue::UnbindOk)
    }

    fn purge_queue(&mut self, purge: queue::Purge<'_>) -> Result<()> {
        let queue = self.queue(Permission::Read, purge.queue)?;
        let purged = self.channel.broker.purge_queue(self.session, &queue)?;
        let message_count = u32::try_from(purged).unwrap_or(u32::MAX);
        self.answer(purge.no_wait, queue::PurgeOk { message_count })
    }

    fn delete_queue(&mut self, delete: queue::Delete<'_>) -> Result<()> {
        let queue = self.queue(Permission::Configure, delete.queue)?;
        let deleted = self.channel.broker.delete_queue(self.session, &queue, delete.if_unused, delete.if_empty)?;
        let message_count = u32::try_from(deleted).unwrap_or(u32::MAX);
        self.answer(delete.no_wait, queue::DeleteOk { message_count })
    }

    fn declare_exchange(&mut self, declare: exchange::Declare<'_>) -> Result<()> {
        let name = strip(declare.exchange);
        if declare.passive {
            self.session.vhost().check_exchange(&name)?;
            return self.answer(declare.no_wait, exchange::DeclareOk);
        }
        self.check(Permission::Configure, "exchange", &name)?;
        if let Some(alternate) = declare.arguments.get("alternate-exchange").as_ref().and_then(Value::as_str) {
            self.check(Permission::Read, "exchange", &name)?;
            self.check(Permission::Write, "exchange", alternate)?;
        }
        self.session.flush();
        self.session.vhost().declare_exchange(ExchangeDeclare {
            name: &name,
            kind: declare.r#type,
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: declare.arguments,
        })?;
        self.answer(declare.no_wait, exchange::DeclareOk)
    }

    fn delete_exchange(&mut self, delete: exchange::Delete<'_>) -> Result<()> {
        self.check(Permission::Configure, "exchange", delete.exchange)?;
        self.session.flush();
        self.session.vhost().delete_exchange(delete.exchange, delete.if_unused)?;
        self.answer(delete.no_wait, exchange::DeleteOk)
    }

    fn bind_exchange(&mut self, bind: exchange::Bind<'_>) -> Result<()> {
        self.check(Permission::Write, "exchange", bind.destination)?;
        self.check_source(bind.source, bind.routing_key)?;
        let vhost = self.session.vhost();
        vhost.bind_exchange(bind.destination, bind.source, bind.routing_key, bind.arguments)?;
        self.answer(bind.no_wait, exchange::BindOk)
    }

    fn unbind_exchange(&mut self, unbind: exchange::Unbind<'_>) -> Result<()> {
        self.check(Permission::Write, "exchange", unbind.destination)?;
        self.check_source(unbind.source, unbind.routing_key)?;
        self.session.flush();
        let vhost = self.session.vhost();
        vhost.unbind_exchange(unbind.destination, unbind.source, unbind.routing_key, unbind.arguments)?;
        self.answer(unbind.no_wait, exchange::UnbindOk)
    }
}

/// An empty queue name with an empty key stands for the queue's name in both places (specification, queue.bind).
fn shortcut<'a>(queue: &str, key: &'a str, resolved: &'a str) -> &'a str {
    if queue.is_empty() && key.is_empty() { resolved } else { key }
}

/// Names are declared without line ends, as in RabbitMQ.
fn strip(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '\r' | '\n')).collect()
}

/// Arguments of one declaration that are named in the log.
const ARGUMENTS_SHOWN: usize = 10;

/// Says which arguments of a declaration do nothing, so that nobody relies on them.
fn report_arguments(queue: &str, arguments: Table<'_>) {
    if arguments.get("x-queue-type").is_some_and(|kind| kind.as_str() == Some("quorum")) {
        tracing::info!(queue, "a quorum queue has one node here, and one copy of each message");
    }
    let mut names: Vec<&str> = arguments.iter().map(|(key, _)| key).filter(|key| !has_effect(key)).collect();
    if names.is_empty() {
        return;
    }
    // One line of bounded length, however many there are.
    let more = names.len().saturating_sub(ARGUMENTS_SHOWN);
    names.truncate(ARGUMENTS_SHOWN);
    tracing::warn!(queue, arguments = ?names, more, "these arguments are kept and have no effect in this version");
}
