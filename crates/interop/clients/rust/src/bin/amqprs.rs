//! Judges a broker with amqprs.

use std::future::Future;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use amqprs::callbacks::{ChannelCallback, ConnectionCallback};
use amqprs::channel::{
    BasicAckArguments, BasicCancelArguments, BasicConsumeArguments, BasicGetArguments, BasicNackArguments,
    BasicPublishArguments, BasicQosArguments, BasicRejectArguments, ConfirmSelectArguments, ExchangeBindArguments,
    ExchangeDeclareArguments, ExchangeDeleteArguments, ExchangeUnbindArguments, QueueBindArguments,
    QueueDeclareArguments, QueueDeleteArguments, QueuePurgeArguments, QueueUnbindArguments,
};
use amqprs::connection::OpenConnectionArguments;
use amqprs::{
    Ack, BasicProperties, Cancel, Close, CloseChannel, DecimalValue, FieldArray, FieldTable, FieldValue, Nack, Return,
};
use async_trait::async_trait;
use leveret_interop_clients::api::{
    Channel, Client, Closed, Connection, Event, Failure, Flags, Login, Message, Outcome, Properties, Table, Value,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

#[tokio::main]
async fn main() -> ExitCode {
    leveret_interop_clients::judge::<Amqprs>().await
}

struct Amqprs;

struct AmqprsConnection {
    connection: amqprs::connection::Connection,
    ended: watch::Sender<Option<Closed>>,
}

struct AmqprsChannel {
    channel: amqprs::channel::Channel,
    ended: [watch::Receiver<Option<Closed>>; 2],
    seen: Seen,
}

/// What the callbacks saw. amqprs tells why a channel or connection was closed to its callbacks only.
#[derive(Clone)]
struct Seen {
    ended: watch::Sender<Option<Closed>>,
    events: Arc<Mutex<(u64, Vec<Event>)>>,
}

#[async_trait]
impl ConnectionCallback for Seen {
    async fn close(&mut self, _: &amqprs::connection::Connection, close: Close) -> Result<(), amqprs::error::Error> {
        let failed = Some((close.class_id(), close.method_id()));
        let (code, text) = (close.reply_code(), close.reply_text().clone());
        self.ended.send_replace(Some(Closed { scope: "connection", code, failed, text }));
        Ok(())
    }

    async fn blocked(&mut self, _: &amqprs::connection::Connection, _: String) {}

    async fn unblocked(&mut self, _: &amqprs::connection::Connection) {}

    async fn secret_updated(&mut self, _: &amqprs::connection::Connection) {}
}

#[async_trait]
impl ChannelCallback for Seen {
    async fn close(&mut self, _: &amqprs::channel::Channel, close: CloseChannel) -> Result<(), amqprs::error::Error> {
        let failed = Some((close.class_id(), close.method_id()));
        let (code, text) = (close.reply_code(), close.reply_text().clone());
        self.ended.send_replace(Some(Closed { scope: "channel", code, failed, text }));
        Ok(())
    }

    async fn cancel(&mut self, _: &amqprs::channel::Channel, cancel: Cancel) -> Result<(), amqprs::error::Error> {
        self.push(Event::Cancelled(cancel.consumer_tag().clone()));
        Ok(())
    }

    async fn flow(&mut self, _: &amqprs::channel::Channel, active: bool) -> Result<bool, amqprs::error::Error> {
        Ok(active)
    }

    async fn publish_ack(&mut self, _: &amqprs::channel::Channel, ack: Ack) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let count = if ack.mutiple() { ack.delivery_tag() - events.0 } else { 1 };
        events.0 = events.0.max(ack.delivery_tag());
        events.1.extend((0..count).map(|_| Event::Ack));
    }

    async fn publish_nack(&mut self, _: &amqprs::channel::Channel, _: Nack) {}

    async fn publish_return(
        &mut self,
        _: &amqprs::channel::Channel,
        returned: Return,
        _: BasicProperties,
        content: Vec<u8>,
    ) {
        let body = String::from_utf8_lossy(&content);
        let (code, text) = (returned.reply_code(), returned.reply_text());
        let (exchange, key) = (returned.exchange(), returned.routing_key());
        self.push(Event::Return(format!("{code} {text} {exchange} {key} {body}")));
    }
}

impl Seen {
    fn new() -> Seen {
        Seen { ended: watch::Sender::new(None), events: Arc::default() }
    }

    fn push(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).1.push(event);
    }
}

impl Client for Amqprs {
    const NAME: &'static str = "amqprs";
    const ASKS_WHY_LOGIN_FAILED: bool = false;
    type Connection = AmqprsConnection;

    async fn connect(login: &Login) -> Outcome<AmqprsConnection> {
        let mut arguments = OpenConnectionArguments::new(&login.host, login.port, "guest", &login.password);
        arguments.virtual_host(&login.vhost);
        if let Some(seconds) = login.heartbeat {
            arguments.heartbeat(seconds);
        }
        let opened = amqprs::connection::Connection::open(&arguments).await;
        let connection = opened.map_err(|error| refused(&error))?;
        let seen = Seen::new();
        connection.register_callback(seen.clone()).await.map_err(|error| error.to_string())?;
        Ok(AmqprsConnection { connection, ended: seen.ended })
    }
}

/// A refused connection is only the debug text of its close frame, `… reply_code: 530, reply_text: ShortStr(37, "…"),
/// class_id: 10, method_id: 40 …`; a refused login is a closed socket, since amqprs doesn't ask for more.
fn refused(error: &amqprs::error::Error) -> Failure {
    if matches!(error, amqprs::error::Error::NetworkError(_)) {
        return Failure::SocketClosed;
    }
    let text = error.to_string();
    let parse = || {
        let (code, rest) = text.split_once("reply_code: ")?.1.split_once(',')?;
        let (reason, rest) = rest.split_once('"')?.1.split_once('"')?;
        let (class, rest) = rest.split_once("class_id: ")?.1.split_once(", method_id: ")?;
        let method = rest.split_once(' ').map_or(rest, |(method, _)| method);
        let failed = Some((class.parse().ok()?, method.parse().ok()?));
        Some(Closed { scope: "connection", code: code.parse().ok()?, failed, text: reason.into() })
    };
    parse().map_or_else(|| Failure::Other(text.clone()), Failure::Closed)
}

impl Connection for AmqprsConnection {
    type Channel = AmqprsChannel;

    async fn channel(&self) -> Outcome<AmqprsChannel> {
        let channel = self.connection.open_channel(None).await.map_err(|error| error.to_string())?;
        let seen = Seen::new();
        channel.register_callback(seen.clone()).await.map_err(|error| error.to_string())?;
        let ended = [seen.ended.subscribe(), self.ended.subscribe()];
        Ok(AmqprsChannel { channel, ended, seen })
    }

    fn tuned(&self) -> (u16, u32) {
        (self.connection.channel_max(), self.connection.frame_max())
    }

    fn capabilities(&self) -> Option<Table> {
        let found = self.connection.server_properties().capabilities();
        let named = [
            ("publisher_confirms", found.publisher_confirms()),
            ("exchange_exchange_bindings", found.exchange_exchange_bindings()),
            ("basic.nack", found.basic_nack()),
            ("consumer_cancel_notify", found.consumer_cancel_notify()),
            ("connection.blocked", found.connection_blocked()),
            ("consumer_priorities", found.consumer_priorities()),
            ("authentication_failure_close", found.authentication_failure_close()),
            ("per_consumer_qos", found.per_consumer_qos()),
            ("direct_reply_to", found.direct_reply_to()),
        ];
        Some(named.into_iter().map(|(name, value)| (name.to_string(), Value::Bool(value))).collect())
    }

    async fn close(self) -> Outcome<()> {
        self.connection.close().await.map_err(|error| Failure::Other(error.to_string()))
    }
}

impl AmqprsChannel {
    /// The call's own answer, or what the broker closed meanwhile: amqprs may leave a call on a closed channel
    /// unanswered, or answer it before its callback has run.
    async fn watch<T>(&self, call: impl Future<Output = Result<T, amqprs::error::Error>>) -> Outcome<T> {
        tokio::select! {
            closed = self.closed() => Err(Failure::Closed(closed)),
            answer = call => match answer {
                Ok(value) => Ok(value),
                Err(error) => match tokio::time::timeout(Duration::from_secs(1), self.closed()).await {
                    Ok(closed) => Err(Failure::Closed(closed)),
                    Err(_) => Err(Failure::Other(error.to_string())),
                },
            },
        }
    }

    async fn closed(&self) -> Closed {
        let [mut channel, mut connection] = self.ended.clone();
        loop {
            if let Some(closed) = connection.borrow_and_update().clone().or(channel.borrow_and_update().clone()) {
                return closed;
            }
            tokio::select! { _ = channel.changed() => {}, _ = connection.changed() => {} }
        }
    }

    async fn send(&self, body: &[u8], properties: BasicProperties, to: BasicPublishArguments) -> Outcome<()> {
        self.watch(self.channel.basic_publish(properties, body.to_vec(), to)).await
    }
}

impl Channel for AmqprsChannel {
    async fn exchange_declare(&self, name: &str, kind: &str, flags: Flags, arguments: &Table) -> Outcome<()> {
        let mut declare = ExchangeDeclareArguments::new(name, kind);
        declare.passive(flags.passive).durable(flags.durable).auto_delete(flags.auto_delete).internal(flags.internal);
        declare.arguments(table_out(arguments));
        self.watch(self.channel.exchange_declare(declare)).await
    }

    async fn exchange_delete(&self, name: &str, if_unused: bool) -> Outcome<()> {
        let mut delete = ExchangeDeleteArguments::new(name);
        delete.if_unused(if_unused);
        self.watch(self.channel.exchange_delete(delete)).await
    }

    async fn exchange_bind(&self, destination: &str, source: &str, key: &str) -> Outcome<()> {
        self.watch(self.channel.exchange_bind(ExchangeBindArguments::new(destination, source, key))).await
    }

    async fn exchange_unbind(&self, destination: &str, source: &str, key: &str) -> Outcome<()> {
        self.watch(self.channel.exchange_unbind(ExchangeUnbindArguments::new(destination, source, key))).await
    }

    async fn queue_declare(&self, name: &str, flags: Flags, arguments: &Table) -> Outcome<(String, u32, u32)> {
        let mut declare = QueueDeclareArguments::new(name);
        declare.passive(flags.passive).durable(flags.durable).exclusive(flags.exclusive).auto_delete(flags.auto_delete);
        declare.arguments(table_out(arguments));
        self.watch(self.channel.queue_declare(declare)).await?.ok_or_else(|| "no answer".into())
    }

    async fn queue_bind(&self, queue: &str, exchange: &str, key: &str, arguments: &Table) -> Outcome<()> {
        let mut bind = QueueBindArguments::new(queue, exchange, key);
        bind.arguments(table_out(arguments));
        self.watch(self.channel.queue_bind(bind)).await
    }

    async fn queue_unbind(&self, queue: &str, exchange: &str, key: &str) -> Outcome<()> {
        self.watch(self.channel.queue_unbind(QueueUnbindArguments::new(queue, exchange, key))).await
    }

    async fn queue_purge(&self, queue: &str) -> Outcome<u32> {
        let purged = self.watch(self.channel.queue_purge(QueuePurgeArguments::new(queue))).await?;
        purged.ok_or_else(|| "no answer".into())
    }

    async fn queue_delete(&self, queue: &str, if_unused: bool, if_empty: bool) -> Outcome<u32> {
        let mut delete = QueueDeleteArguments::new(queue);
        delete.if_unused(if_unused).if_empty(if_empty);
        self.watch(self.channel.queue_delete(delete)).await?.ok_or_else(|| "no answer".into())
    }

    async fn publish(&self, to: (&str, &str), body: &[u8], properties: &Properties, mandatory: bool) -> Outcome<()> {
        let to = BasicPublishArguments::new(to.0, to.1).mandatory(mandatory).finish();
        self.send(body, properties_out(properties), to).await
    }

    async fn publish_immediate(&self, exchange: &str, key: &str) -> Outcome<()> {
        let to = BasicPublishArguments::new(exchange, key).immediate(true).finish();
        self.send(b"1", BasicProperties::default(), to).await
    }

    async fn get(&self, queue: &str, no_ack: bool) -> Outcome<Option<Message>> {
        let get = BasicGetArguments::new(queue).no_ack(no_ack).finish();
        let got = self.watch(self.channel.basic_get(get)).await?;
        Ok(got.map(|(ok, properties, body)| Message {
            body,
            exchange: ok.exchange().clone(),
            routing_key: ok.routing_key().clone(),
            redelivered: ok.redelivered(),
            tag: ok.delivery_tag(),
            properties: properties_in(&properties),
            remaining: Some(ok.message_count()),
        }))
    }

    async fn consume(
        &self,
        queue: &str,
        tag: &str,
        no_ack: bool,
        exclusive: bool,
        arguments: &Table,
    ) -> Outcome<(String, UnboundedReceiver<Message>)> {
        let mut consume = BasicConsumeArguments::new(queue, tag);
        consume.manual_ack(!no_ack).exclusive(exclusive).arguments(table_out(arguments));
        let (tag, mut deliveries) = self.watch(self.channel.basic_consume_rx(consume)).await?;
        let (sender, receiver) = unbounded_channel();
        tokio::spawn(async move {
            while let Some(delivery) = deliveries.recv().await {
                let (Some(deliver), Some(properties)) = (delivery.deliver, delivery.basic_properties) else { return };
                let message = Message {
                    body: delivery.content.unwrap_or_default(),
                    exchange: deliver.exchange().clone(),
                    routing_key: deliver.routing_key().clone(),
                    redelivered: deliver.redelivered(),
                    tag: deliver.delivery_tag(),
                    properties: properties_in(&properties),
                    remaining: None,
                };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Ok((tag, receiver))
    }

    async fn cancel(&self, tag: &str) -> Outcome<()> {
        self.watch(self.channel.basic_cancel(BasicCancelArguments::new(tag))).await.map(drop)
    }

    async fn ack(&self, tag: u64, multiple: bool) -> Outcome<()> {
        self.watch(self.channel.basic_ack(BasicAckArguments::new(tag, multiple))).await
    }

    async fn nack(&self, tag: u64, multiple: bool, requeue: bool) -> Outcome<()> {
        self.watch(self.channel.basic_nack(BasicNackArguments::new(tag, multiple, requeue))).await
    }

    async fn reject(&self, tag: u64, requeue: bool) -> Outcome<()> {
        self.watch(self.channel.basic_reject(BasicRejectArguments::new(tag, requeue))).await
    }

    async fn recover(&self, requeue: bool) -> Outcome<()> {
        self.watch(self.channel.basic_recover(requeue)).await
    }

    async fn qos(&self, size: u32, count: u16, global: bool) -> Outcome<()> {
        self.watch(self.channel.basic_qos(BasicQosArguments::new(size, count, global))).await
    }

    async fn flow(&self, active: bool) -> Outcome<()> {
        self.watch(self.channel.flow(active)).await.map(drop)
    }

    async fn confirm_select(&self) -> Outcome<()> {
        self.watch(self.channel.confirm_select(ConfirmSelectArguments::new(false))).await
    }

    async fn tx_select(&self) -> Outcome<()> {
        self.watch(self.channel.tx_select()).await
    }

    async fn tx_commit(&self) -> Outcome<()> {
        self.watch(self.channel.tx_commit()).await
    }

    async fn tx_rollback(&self) -> Outcome<()> {
        self.watch(self.channel.tx_rollback()).await
    }

    async fn events(&self) -> Vec<Event> {
        self.seen.events.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

fn properties_out(from: &Properties) -> BasicProperties {
    let mut to = BasicProperties::default();
    macro_rules! copy {
        ($($field:expr => $with:ident),* $(,)?) => {
            $(if let Some(value) = $field { to.$with(value); })*
        };
    }
    copy! {
        from.content_type.as_deref() => with_content_type,
        from.content_encoding.as_deref() => with_content_encoding,
        from.headers.as_ref().map(table_out) => with_headers,
        from.delivery_mode => with_delivery_mode,
        from.priority => with_priority,
        from.correlation_id.as_deref() => with_correlation_id,
        from.reply_to.as_deref() => with_reply_to,
        from.expiration.as_deref() => with_expiration,
        from.message_id.as_deref() => with_message_id,
        from.timestamp => with_timestamp,
        from.kind.as_deref() => with_message_type,
        from.user_id.as_deref() => with_user_id,
        from.app_id.as_deref() => with_app_id,
    }
    to
}

fn properties_in(from: &BasicProperties) -> Properties {
    Properties {
        content_type: from.content_type().cloned(),
        content_encoding: from.content_encoding().cloned(),
        headers: from.headers().map(table_in),
        delivery_mode: from.delivery_mode(),
        priority: from.priority(),
        correlation_id: from.correlation_id().cloned(),
        reply_to: from.reply_to().cloned(),
        expiration: from.expiration().cloned(),
        message_id: from.message_id().cloned(),
        timestamp: from.timestamp(),
        kind: from.message_type().cloned(),
        user_id: from.user_id().cloned(),
        app_id: from.app_id().cloned(),
    }
}

fn table_out(from: &Table) -> FieldTable {
    let mut to = FieldTable::new();
    for (key, value) in from {
        if let Ok(key) = key.as_str().try_into() {
            to.insert(key, value_out(value));
        }
    }
    to
}

/// Every length here is far below the 4 GiB at which amqprs would refuse it.
fn value_out(from: &Value) -> FieldValue {
    match from {
        Value::Bool(value) => FieldValue::t(*value),
        Value::Byte(value) => FieldValue::b(*value),
        Value::Short(value) => FieldValue::s(*value),
        Value::Int(value) => FieldValue::I(*value),
        Value::Long(value) => FieldValue::l(*value),
        Value::Float(value) => FieldValue::f(*value),
        Value::Double(value) => FieldValue::d(*value),
        Value::Decimal(scale, value) => FieldValue::D(DecimalValue::new(*scale, i32::try_from(*value).unwrap_or(-1))),
        Value::Text(value) => value.clone().into(),
        Value::Bytes(value) => value.clone().try_into().map_or(FieldValue::V, FieldValue::x),
        Value::List(values) => {
            let values: Vec<FieldValue> = values.iter().map(value_out).collect();
            FieldArray::try_from(values).map_or(FieldValue::V, FieldValue::A)
        }
        Value::Table(value) => FieldValue::F(table_out(value)),
        Value::Time(value) => FieldValue::T(*value),
        Value::Nothing => FieldValue::V,
    }
}

fn table_in(from: &FieldTable) -> Table {
    from.as_ref().iter().map(|(key, value)| (key.to_string(), value_in(value))).collect()
}

fn value_in(from: &FieldValue) -> Value {
    match from {
        FieldValue::t(value) => Value::Bool(*value),
        FieldValue::b(value) => Value::Byte(*value),
        FieldValue::s(value) => Value::Short(*value),
        FieldValue::I(value) => Value::Int(*value),
        FieldValue::l(value) => Value::Long(*value),
        FieldValue::f(value) => Value::Float(*value),
        FieldValue::d(value) => Value::Double(*value),
        FieldValue::S(value) => Value::Text(value.to_string()),
        FieldValue::x(value) => Value::Bytes(value.clone().into()),
        FieldValue::A(values) => Value::List(Vec::from(values.clone()).iter().map(value_in).collect()),
        FieldValue::F(value) => Value::Table(table_in(value)),
        FieldValue::T(value) => Value::Time(*value),
        FieldValue::V => Value::Nothing,
        // The parts of a decimal are private; the one that is sent is recognised as a whole.
        FieldValue::D(value) if *value == DecimalValue::new(2, 1234) => Value::Decimal(2, 1234),
        other => Value::Text(format!("a value that was never sent: {other:?}")),
    }
}
