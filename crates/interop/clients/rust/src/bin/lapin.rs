//! Judges a broker with lapin.

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::{BasicReturnMessage, Delivery};
use lapin::options::*;
use lapin::protocol::{AMQPErrorKind, basic::AMQPProperties};
use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable, ShortString};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPUri, AMQPUserInfo};
use lapin::{Confirmation, ConnectionProperties, ErrorKind, ExchangeKind};
use leveret_interop_clients::api::{
    Channel, Client, Closed, Connection, Event, Failure, Flags, Login, Message, Outcome, Properties, Table, Value,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

#[tokio::main]
async fn main() -> ExitCode {
    leveret_interop_clients::judge::<Lapin>().await
}

struct Lapin;

struct LapinConnection {
    connection: lapin::Connection,
    ended: watch::Receiver<Option<lapin::Error>>,
}

struct LapinChannel {
    channel: lapin::Channel,
    /// What the broker closed on this connection.
    ended: watch::Receiver<Option<lapin::Error>>,
    confirming: Cell<bool>,
    /// lapin hands out acks and returns with each publish's own future, which is awaited in `events`.
    pending: RefCell<Vec<lapin::PublisherConfirm>>,
    events: Arc<Mutex<Vec<Event>>>,
}

/// lapin shows neither class nor method. While connecting, every error is the connection's.
fn failure(error: &lapin::Error, connecting: bool) -> Failure {
    let ErrorKind::ProtocolError(amqp) = error.kind() else { return Failure::Other(error.to_string()) };
    let soft = matches!(amqp.kind(), AMQPErrorKind::Soft(_)) && !connecting;
    let scope = if soft { "channel" } else { "connection" };
    Failure::Closed(Closed { scope, code: amqp.get_id(), failed: None, text: amqp.get_message().to_string() })
}

fn done<T>(result: lapin::Result<T>) -> Outcome<T> {
    result.map_err(|error| failure(&error, false))
}

impl Client for Lapin {
    const NAME: &'static str = "lapin";
    const ASKS_WHY_LOGIN_FAILED: bool = true;
    type Connection = LapinConnection;

    async fn connect(login: &Login) -> Outcome<LapinConnection> {
        let uri = AMQPUri {
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo { username: "guest".into(), password: login.password.clone() },
                host: login.host.clone(),
                port: login.port,
            },
            vhost: login.vhost.clone(),
            query: AMQPQueryString { heartbeat: login.heartbeat, ..AMQPQueryString::default() },
            ..AMQPUri::default()
        };
        let connected = lapin::Connection::connect_uri(uri, ConnectionProperties::default()).await;
        let connection = connected.map_err(|error| failure(&error, true))?;
        let (sender, ended) = watch::channel(None);
        let mut events = Box::pin(connection.events_listener());
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let lapin::Event::Error(error) = event {
                    sender.send_replace(Some(error));
                }
            }
        });
        Ok(LapinConnection { connection, ended })
    }
}

impl Connection for LapinConnection {
    type Channel = LapinChannel;

    async fn channel(&self) -> Outcome<LapinChannel> {
        let channel = done(self.connection.create_channel().await)?;
        let events = Arc::default();
        let ended = self.ended.clone();
        Ok(LapinChannel { channel, ended, confirming: Cell::new(false), pending: RefCell::default(), events })
    }

    fn tuned(&self) -> (u16, u32) {
        (self.connection.configuration().channel_max(), self.connection.configuration().frame_max())
    }

    fn capabilities(&self) -> Option<Table> {
        None
    }

    async fn close(self) -> Outcome<()> {
        done(self.connection.close(200, "".into()).await)
    }
}

impl LapinChannel {
    /// The call's outcome. A call on a channel that the broker has closed meanwhile is refused with "invalid channel
    /// state" only; why it was closed comes as an event of the connection.
    async fn done<T>(&self, result: lapin::Result<T>) -> Outcome<T> {
        if let Err(ErrorKind::InvalidChannelState(..)) = result.as_ref().map_err(lapin::Error::kind) {
            let mut ended = self.ended.clone();
            let wait = tokio::time::timeout(Duration::from_secs(1), ended.wait_for(Option::is_some)).await;
            if let Ok(Ok(error)) = wait
                && let Some(error) = error.as_ref()
            {
                return Err(failure(error, false));
            }
        }
        done(result)
    }

    async fn send(
        &self,
        to: (&str, &str),
        body: &[u8],
        properties: &Properties,
        options: BasicPublishOptions,
    ) -> Outcome<()> {
        let (exchange, key) = (to.0.into(), to.1.into());
        let sending = self.channel.basic_publish(exchange, key, options, body, properties_out(properties));
        if self.confirming.get() {
            let sent = self.done(sending.await).await?;
            self.pending.borrow_mut().push(sent);
            return Ok(());
        }
        self.done(sending.await).await.map(drop)
    }
}

impl Channel for LapinChannel {
    async fn exchange_declare(&self, name: &str, kind: &str, flags: Flags, arguments: &Table) -> Outcome<()> {
        let Flags { passive, durable, auto_delete, internal, .. } = flags;
        let options = ExchangeDeclareOptions { passive, durable, auto_delete, internal, nowait: false };
        let kind = ExchangeKind::Custom(kind.into());
        self.done(self.channel.exchange_declare(name.into(), kind, options, table_out(arguments)).await).await
    }

    async fn exchange_delete(&self, name: &str, if_unused: bool) -> Outcome<()> {
        let options = ExchangeDeleteOptions { if_unused, nowait: false };
        self.done(self.channel.exchange_delete(name.into(), options).await).await
    }

    async fn exchange_bind(&self, destination: &str, source: &str, key: &str) -> Outcome<()> {
        let (options, none) = (ExchangeBindOptions::default(), FieldTable::default());
        self.done(self.channel.exchange_bind(destination.into(), source.into(), key.into(), options, none).await).await
    }

    async fn exchange_unbind(&self, destination: &str, source: &str, key: &str) -> Outcome<()> {
        let (options, none) = (ExchangeUnbindOptions::default(), FieldTable::default());
        self.done(self.channel.exchange_unbind(destination.into(), source.into(), key.into(), options, none).await)
            .await
    }

    async fn queue_declare(&self, name: &str, flags: Flags, arguments: &Table) -> Outcome<(String, u32, u32)> {
        let Flags { passive, durable, exclusive, auto_delete, .. } = flags;
        let options = QueueDeclareOptions { passive, durable, exclusive, auto_delete, nowait: false };
        let queue = self.done(self.channel.queue_declare(name.into(), options, table_out(arguments)).await).await?;
        Ok((queue.name().to_string(), queue.message_count(), queue.consumer_count()))
    }

    async fn queue_bind(&self, queue: &str, exchange: &str, key: &str, arguments: &Table) -> Outcome<()> {
        let (options, arguments) = (QueueBindOptions::default(), table_out(arguments));
        self.done(self.channel.queue_bind(queue.into(), exchange.into(), key.into(), options, arguments).await).await
    }

    async fn queue_unbind(&self, queue: &str, exchange: &str, key: &str) -> Outcome<()> {
        self.done(self.channel.queue_unbind(queue.into(), exchange.into(), key.into(), FieldTable::default()).await)
            .await
    }

    async fn queue_purge(&self, queue: &str) -> Outcome<u32> {
        self.done(self.channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await).await
    }

    async fn queue_delete(&self, queue: &str, if_unused: bool, if_empty: bool) -> Outcome<u32> {
        let options = QueueDeleteOptions { if_unused, if_empty, nowait: false };
        self.done(self.channel.queue_delete(queue.into(), options).await).await
    }

    async fn publish(&self, to: (&str, &str), body: &[u8], properties: &Properties, mandatory: bool) -> Outcome<()> {
        self.send(to, body, properties, BasicPublishOptions { mandatory, immediate: false }).await
    }

    async fn publish_immediate(&self, exchange: &str, key: &str) -> Outcome<()> {
        let options = BasicPublishOptions { mandatory: false, immediate: true };
        self.send((exchange, key), b"1", &Properties::default(), options).await
    }

    async fn get(&self, queue: &str, no_ack: bool) -> Outcome<Option<Message>> {
        let got = self.done(self.channel.basic_get(queue.into(), BasicGetOptions { no_ack }).await).await?;
        Ok(got.map(|got| message(got.delivery, Some(got.message_count))))
    }

    async fn consume(
        &self,
        queue: &str,
        tag: &str,
        no_ack: bool,
        exclusive: bool,
        arguments: &Table,
    ) -> Outcome<(String, UnboundedReceiver<Message>)> {
        let options = BasicConsumeOptions { no_ack, exclusive, ..BasicConsumeOptions::default() };
        let consuming = self.channel.basic_consume(queue.into(), tag.into(), options, table_out(arguments));
        let mut consumer = self.done(consuming.await).await?;
        let (tag, events) = (consumer.tag().to_string(), self.events.clone());
        let (sender, receiver) = unbounded_channel();
        let ended = Event::Cancelled(tag.clone());
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = consumer.next().await {
                if sender.send(message(delivery, None)).is_err() {
                    return;
                }
            }
            // lapin's stream of deliveries just ends when the broker cancels the consumer.
            events.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
        });
        Ok((tag, receiver))
    }

    async fn cancel(&self, tag: &str) -> Outcome<()> {
        self.done(self.channel.basic_cancel(tag.into(), BasicCancelOptions::default()).await).await
    }

    async fn ack(&self, tag: u64, multiple: bool) -> Outcome<()> {
        self.done(self.channel.basic_ack(tag, BasicAckOptions { multiple }).await).await
    }

    async fn nack(&self, tag: u64, multiple: bool, requeue: bool) -> Outcome<()> {
        self.done(self.channel.basic_nack(tag, BasicNackOptions { multiple, requeue }).await).await
    }

    async fn reject(&self, tag: u64, requeue: bool) -> Outcome<()> {
        self.done(self.channel.basic_reject(tag, BasicRejectOptions { requeue }).await).await
    }

    async fn recover(&self, requeue: bool) -> Outcome<()> {
        self.done(self.channel.basic_recover(BasicRecoverOptions { requeue }).await).await
    }

    async fn qos(&self, size: u32, count: u16, global: bool) -> Outcome<()> {
        if size != 0 {
            return Err(Failure::Skip("lapin has no argument for prefetch_size"));
        }
        self.done(self.channel.basic_qos(count, BasicQosOptions { global }).await).await
    }

    async fn flow(&self, active: bool) -> Outcome<()> {
        self.done(self.channel.channel_flow(ChannelFlowOptions { active }).await).await.map(drop)
    }

    async fn confirm_select(&self) -> Outcome<()> {
        self.done(self.channel.confirm_select(ConfirmSelectOptions::default()).await).await?;
        self.confirming.set(true);
        Ok(())
    }

    async fn tx_select(&self) -> Outcome<()> {
        self.done(self.channel.tx_select().await).await
    }

    async fn tx_commit(&self) -> Outcome<()> {
        self.done(self.channel.tx_commit().await).await
    }

    async fn tx_rollback(&self) -> Outcome<()> {
        self.done(self.channel.tx_rollback().await).await
    }

    async fn events(&self) -> Vec<Event> {
        let pending = self.pending.take();
        for confirm in pending {
            let confirmed = confirm.await;
            let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(Confirmation::Ack(returned)) = confirmed {
                // A returned message comes with the ack only if it arrived before the ack.
                events.extend(returned.map(|returned| Event::Return(returned_text(&returned))));
                events.push(Event::Ack);
            }
        }
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn returned_text(returned: &BasicReturnMessage) -> String {
    let Delivery { exchange, routing_key, data, .. } = &returned.delivery;
    let body = String::from_utf8_lossy(data);
    format!("{} {} {exchange} {routing_key} {body}", returned.reply_code, returned.reply_text)
}

fn message(delivery: Delivery, remaining: Option<u32>) -> Message {
    Message {
        exchange: delivery.exchange.to_string(),
        routing_key: delivery.routing_key.to_string(),
        redelivered: delivery.redelivered,
        tag: delivery.delivery_tag,
        properties: properties_in(&delivery.properties),
        body: delivery.data,
        remaining,
    }
}

fn properties_out(from: &Properties) -> AMQPProperties {
    let mut to = AMQPProperties::default();
    let text = |text: &String| ShortString::from(text.as_str());
    macro_rules! copy {
        ($($field:expr => $with:ident),* $(,)?) => {
            $(if let Some(value) = $field { to = to.$with(value); })*
        };
    }
    copy! {
        from.content_type.as_ref().map(text) => with_content_type,
        from.content_encoding.as_ref().map(text) => with_content_encoding,
        from.headers.as_ref().map(table_out) => with_headers,
        from.delivery_mode => with_delivery_mode,
        from.priority => with_priority,
        from.correlation_id.as_ref().map(text) => with_correlation_id,
        from.reply_to.as_ref().map(text) => with_reply_to,
        from.expiration.as_ref().map(text) => with_expiration,
        from.message_id.as_ref().map(text) => with_message_id,
        from.timestamp => with_timestamp,
        from.kind.as_ref().map(text) => with_type,
        from.user_id.as_ref().map(text) => with_user_id,
        from.app_id.as_ref().map(text) => with_app_id,
    }
    to
}

fn properties_in(from: &AMQPProperties) -> Properties {
    let text = |text: &Option<ShortString>| text.as_ref().map(ToString::to_string);
    Properties {
        content_type: text(from.content_type()),
        content_encoding: text(from.content_encoding()),
        headers: from.headers().as_ref().map(table_in),
        delivery_mode: *from.delivery_mode(),
        priority: *from.priority(),
        correlation_id: text(from.correlation_id()),
        reply_to: text(from.reply_to()),
        expiration: text(from.expiration()),
        message_id: text(from.message_id()),
        timestamp: *from.timestamp(),
        kind: text(from.kind()),
        user_id: text(from.user_id()),
        app_id: text(from.app_id()),
    }
}

fn table_out(from: &Table) -> FieldTable {
    let mut to = FieldTable::default();
    for (key, value) in from {
        to.insert(key.as_str().into(), value_out(value));
    }
    to
}

fn value_out(from: &Value) -> AMQPValue {
    match from {
        Value::Bool(value) => AMQPValue::Boolean(*value),
        Value::Byte(value) => AMQPValue::ShortShortInt(*value),
        Value::Short(value) => AMQPValue::ShortInt(*value),
        Value::Int(value) => AMQPValue::LongInt(*value),
        Value::Long(value) => AMQPValue::LongLongInt(*value),
        Value::Float(value) => AMQPValue::Float(*value),
        Value::Double(value) => AMQPValue::Double(*value),
        Value::Decimal(scale, value) => AMQPValue::DecimalValue(DecimalValue { scale: *scale, value: *value }),
        Value::Text(value) => AMQPValue::LongString(value.as_str().into()),
        Value::Bytes(value) => AMQPValue::ByteArray(value.clone().into()),
        Value::List(values) => AMQPValue::FieldArray(values.iter().map(value_out).collect::<Vec<_>>().into()),
        Value::Table(value) => AMQPValue::FieldTable(table_out(value)),
        Value::Time(value) => AMQPValue::Timestamp(*value),
        Value::Nothing => AMQPValue::Void,
    }
}

fn table_in(from: &FieldTable) -> Table {
    from.into_iter().map(|(key, value)| (key.to_string(), value_in(value))).collect()
}

fn list_in(from: &FieldArray) -> Vec<Value> {
    from.as_slice().iter().map(value_in).collect()
}

fn value_in(from: &AMQPValue) -> Value {
    match from {
        AMQPValue::Boolean(value) => Value::Bool(*value),
        AMQPValue::ShortShortInt(value) => Value::Byte(*value),
        AMQPValue::ShortInt(value) => Value::Short(*value),
        AMQPValue::LongInt(value) => Value::Int(*value),
        AMQPValue::LongLongInt(value) => Value::Long(*value),
        AMQPValue::Float(value) => Value::Float(*value),
        AMQPValue::Double(value) => Value::Double(*value),
        AMQPValue::DecimalValue(value) => Value::Decimal(value.scale, value.value),
        AMQPValue::LongString(value) => Value::Text(value.to_string()),
        AMQPValue::ByteArray(value) => Value::Bytes(value.as_slice().to_vec()),
        AMQPValue::FieldArray(values) => Value::List(list_in(values)),
        AMQPValue::FieldTable(value) => Value::Table(table_in(value)),
        AMQPValue::Timestamp(value) => Value::Time(*value),
        AMQPValue::Void => Value::Nothing,
        other => Value::Text(format!("a type that was never sent: {other:?}")),
    }
}
