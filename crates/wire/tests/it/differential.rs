//! Against `amq-protocol`, the codec of lapin: what one encodes the other decodes, to equal values.

use amq_protocol::{
    frame::{AMQPFrame, gen_frame, parse_frame},
    protocol::{AMQPClass, basic, connection, queue},
    types::{AMQPValue, DecimalValue, FieldArray, FieldTable as TheirTable},
};
use leveret_wire::{
    frame::{self, Frame},
    method::{self, Method},
    properties::{ContentHeader, Properties},
    table::Table,
};
use proptest::prelude::*;

use crate::{
    fields::{Entries, Fields, Model, bytes, same_table, table},
    sample::{METHODS, sample},
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// They decode and re-encode every method of ours to the same octets, so they have found every field in its place.
    #[test]
    fn methods(index in 0..METHODS, fields in Fields::any(), channel: u16) {
        let fields = without_unsigned_64(fields);
        let method = known_to_them(sample(index, &fields));
        let mut ours = Vec::new();
        frame::write_method(&mut ours, channel, &method);
        let theirs = their_decode(&ours);
        prop_assert!(matches!(theirs, AMQPFrame::Method(id, _) if id == channel));
        let encoded = their_encode(&theirs);
        prop_assert_eq!(&encoded, &ours);
        prop_assert_eq!(Method::decode(our_decode(&encoded).payload), Ok(method));
    }

    #[test]
    fn headers(fields in Fields::any(), present: u32, body_size: u64) {
        let fields = without_unsigned_64(fields);
        let ours = fields.properties(present);
        let mut list = Vec::new();
        ours.encode(&mut list);
        let mut out = Vec::new();
        frame::write_header(&mut out, 1, body_size, &list);
        let theirs = their_decode(&out);
        let AMQPFrame::Header(1, header) = &theirs else { panic!("{theirs:?} is no header") };
        prop_assert_eq!((header.class_id, header.body_size), (60, body_size));
        prop_assert!(same_properties(&ours, &header.properties));
        let encoded = their_encode(&theirs);
        let header = ContentHeader::decode(our_decode(&encoded).payload).expect("theirs is valid");
        prop_assert_eq!(Properties::decode(header.properties), Ok(ours));
    }

    /// Tables made from the same model by each side, value by value.
    #[test]
    fn tables(entries in table()) {
        let entries = signed(entries);
        let frame = AMQPFrame::Method(1, AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
            arguments: their_table(&entries),
            ..Default::default()
        })));
        let encoded = their_encode(&frame);
        let Ok(Method::QueueDeclare(declare)) = Method::decode(our_decode(&encoded).payload) else {
            panic!("not a queue.declare")
        };
        prop_assert!(same_table(&entries, declare.arguments));

        let ours = bytes(&entries);
        let declare = method::queue::Declare { arguments: Table::new(&ours).expect("valid"), ..Default::default() };
        let mut out = Vec::new();
        frame::write_method(&mut out, 1, &declare.into());
        // NaN isn't equal to itself, but prints the same.
        prop_assert_eq!(format!("{:?}", their_decode(&out)), format!("{frame:?}"));
    }
}

/// The methods that matter most, field by field, so that swapped names would show.
#[test]
fn fields_have_the_same_names() {
    let decode = |method: Method<'_>| {
        let mut out = Vec::new();
        frame::write_method(&mut out, 1, &method);
        match their_decode(&out) {
            AMQPFrame::Method(1, class) => class,
            other => panic!("{other:?} is no method"),
        }
    };
    let publish = method::basic::Publish { exchange: "e", routing_key: "k", mandatory: true, immediate: false };
    let AMQPClass::Basic(basic::AMQPMethod::Publish(theirs)) = decode(publish.into()) else { panic!() };
    let names = (theirs.exchange.as_str(), theirs.routing_key.as_str(), theirs.mandatory, theirs.immediate);
    assert_eq!(names, ("e", "k", true, false));

    let deliver = method::basic::Deliver {
        consumer_tag: "c",
        delivery_tag: 1 << 40,
        redelivered: true,
        exchange: "e",
        routing_key: "k",
    };
    let AMQPClass::Basic(basic::AMQPMethod::Deliver(theirs)) = decode(deliver.into()) else { panic!() };
    let names = (theirs.consumer_tag.as_str(), theirs.delivery_tag, theirs.redelivered, theirs.exchange.as_str());
    assert_eq!(names, ("c", 1 << 40, true, "e"));

    let nack = method::basic::Nack { delivery_tag: 3, multiple: false, requeue: true };
    let AMQPClass::Basic(basic::AMQPMethod::Nack(theirs)) = decode(nack.into()) else { panic!() };
    assert_eq!((theirs.delivery_tag, theirs.multiple, theirs.requeue), (3, false, true));

    let declare =
        method::queue::Declare { queue: "q", durable: true, exclusive: false, auto_delete: true, ..Default::default() };
    let AMQPClass::Queue(queue::AMQPMethod::Declare(theirs)) = decode(declare.into()) else { panic!() };
    let names = (theirs.passive, theirs.durable, theirs.exclusive, theirs.auto_delete, theirs.nowait);
    assert_eq!((theirs.queue.as_str(), names), ("q", (false, true, false, true, false)));

    let tune = method::connection::Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 };
    let AMQPClass::Connection(connection::AMQPMethod::Tune(theirs)) = decode(tune.into()) else { panic!() };
    assert_eq!((theirs.channel_max, theirs.frame_max, theirs.heartbeat), (2047, 131_072, 60));

    let close = method::connection::Close { reply_code: 501, reply_text: "FRAME_ERROR", class_id: 60, method_id: 40 };
    let AMQPClass::Connection(connection::AMQPMethod::Close(theirs)) = decode(close.into()) else { panic!() };
    let names = (theirs.reply_code, theirs.reply_text.as_str(), theirs.class_id, theirs.method_id);
    assert_eq!(names, (501, "FRAME_ERROR", 60, 40));
}

#[test]
fn bodies_and_heartbeats() {
    let mut out = Vec::new();
    frame::write_body(&mut out, 7, b"hello", 4096);
    assert_eq!(their_decode(&out), AMQPFrame::Body(7, b"hello".to_vec()));
    assert_eq!(their_encode(&AMQPFrame::Body(7, b"hello".to_vec())), out);
    out.clear();
    frame::write_heartbeat(&mut out);
    assert_eq!(their_decode(&out), AMQPFrame::Heartbeat);
    assert_eq!(their_encode(&AMQPFrame::Heartbeat), out);
}

fn their_decode(bytes: &[u8]) -> AMQPFrame {
    match parse_frame(bytes) {
        Ok(([], frame)) => frame,
        other => panic!("they can't decode {bytes:?}: {other:?}"),
    }
}

fn their_encode(frame: &AMQPFrame) -> Vec<u8> {
    let mut out = vec![0; 1 << 16];
    let written = gen_frame(frame)(out.as_mut_slice().into()).expect("it fits").position;
    out.truncate(written as usize);
    out
}

fn our_decode(bytes: &[u8]) -> Frame<'_> {
    match frame::parse(bytes, 0) {
        Ok(Some((frame, consumed))) if consumed == bytes.len() => frame,
        other => panic!("we can't decode {bytes:?}: {other:?}"),
    }
}

/// They read `L` as `l`, as RabbitMQ does, and don't write it.
fn signed(entries: Entries) -> Entries {
    entries.into_iter().map(|(key, value)| (key, signed_value(value))).collect()
}

fn signed_value(value: Model) -> Model {
    match value {
        Model::U64(n) => Model::I64(n as i64),
        Model::Array(values) => Model::Array(values.into_iter().map(signed_value).collect()),
        Model::Table(entries) => Model::Table(signed(entries)),
        other => other,
    }
}

/// They have no fields for the prefetch size, which no broker implements, and for the ticket, which is always 1.
fn known_to_them(method: Method<'_>) -> Method<'_> {
    match method {
        Method::BasicQos(qos) => method::basic::Qos { prefetch_size: 0, ..qos }.into(),
        Method::AccessRequestOk(_) => method::access::RequestOk { ticket: 1 }.into(),
        other => other,
    }
}

fn without_unsigned_64(mut fields: Fields) -> Fields {
    fields.tables = fields.entries.iter().cloned().map(|entries| crate::fields::owned(&signed(entries))).collect();
    fields
}

fn their_table(entries: &Entries) -> TheirTable {
    let mut table = TheirTable::default();
    for (key, value) in entries {
        table.insert(key.as_str().into(), their_value(value));
    }
    table
}

fn their_value(value: &Model) -> AMQPValue {
    match value {
        Model::Bool(b) => AMQPValue::Boolean(*b),
        Model::I8(n) => AMQPValue::ShortShortInt(*n),
        Model::U8(n) => AMQPValue::ShortShortUInt(*n),
        Model::I16(n) => AMQPValue::ShortInt(*n),
        Model::U16(n) => AMQPValue::ShortUInt(*n),
        Model::I32(n) => AMQPValue::LongInt(*n),
        Model::U32(n) => AMQPValue::LongUInt(*n),
        Model::I64(n) => AMQPValue::LongLongInt(*n),
        Model::U64(_) => unreachable!("see `signed`"),
        Model::F32(x) => AMQPValue::Float(*x),
        Model::F64(x) => AMQPValue::Double(*x),
        Model::Decimal(scale, value) => AMQPValue::DecimalValue(DecimalValue { scale: *scale, value: *value }),
        Model::LongString(bytes) => AMQPValue::LongString(bytes.clone().into()),
        Model::Array(values) => {
            AMQPValue::FieldArray(FieldArray::from(values.iter().map(their_value).collect::<Vec<_>>()))
        }
        Model::Timestamp(n) => AMQPValue::Timestamp(*n),
        Model::Table(entries) => AMQPValue::FieldTable(their_table(entries)),
        Model::Bytes(bytes) => AMQPValue::ByteArray(bytes.clone().into()),
        Model::Void => AMQPValue::Void,
    }
}

fn same_properties(ours: &Properties<'_>, theirs: &basic::AMQPProperties) -> bool {
    let text = |ours: Option<&str>, theirs: &Option<amq_protocol::types::ShortString>| {
        ours == theirs.as_ref().map(|text| text.as_str())
    };
    let utf8 = |bytes| std::str::from_utf8(bytes).expect("generated from text");
    text(ours.content_type, theirs.content_type())
        && text(ours.content_encoding, theirs.content_encoding())
        && ours.headers.is_some() == theirs.headers().is_some()
        && ours.delivery_mode == *theirs.delivery_mode()
        && ours.priority == *theirs.priority()
        && text(ours.correlation_id.map(utf8), theirs.correlation_id())
        && text(ours.reply_to, theirs.reply_to())
        && text(ours.expiration, theirs.expiration())
        && text(ours.message_id.map(utf8), theirs.message_id())
        && ours.timestamp == *theirs.timestamp()
        && text(ours.r#type, theirs.kind())
        && text(ours.user_id, theirs.user_id())
        && text(ours.app_id, theirs.app_id())
        && text(ours.cluster_id, theirs.cluster_id())
}
