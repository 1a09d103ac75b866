//! Deliveries as bytes, straight from the queue's blocks into the connection's write buffer.

use leveret_broker::message::Message;
use leveret_broker::{Delivery, Pulled};
use leveret_wire::frame;
use leveret_wire::method::basic;

/// Bytes between a record's route and its properties: frame end, header frame's head, class, weight and body size.
const MIDDLE: usize = 1 + 7 + 4 + 8;

/// Encodes basic.deliver, header and body for all messages of a pull.
pub(super) fn deliveries(out: &mut Vec<u8>, channel: u16, pulled: &Pulled, deliveries: &[Delivery], frame_max: u32) {
    let tag = pulled.tag.as_bytes();
    let mut prefix = Vec::with_capacity(12 + tag.len());
    prefix.push(frame::METHOD);
    prefix.extend_from_slice(&channel.to_be_bytes());
    prefix.extend_from_slice(&[0; 4]);
    prefix.extend_from_slice(&basic::Deliver::ID.0.to_be_bytes());
    prefix.extend_from_slice(&basic::Deliver::ID.1.to_be_bytes());
    prefix.push(tag.len() as u8);
    prefix.extend_from_slice(tag);
    let mut delivery_tag = pulled.first_tag;
    for delivery in deliveries {
        let mut at = delivery.offset;
        for _ in 0..delivery.count {
            let (mut message, next) = delivery.block.at(at);
            let properties = delivery.properties(&message);
            if let Some(properties) = &properties {
                message.properties = properties;
            }
            one(out, &mut prefix, channel, delivery_tag, delivery.redelivered, &message, frame_max);
            delivery_tag += 1;
            at = next;
        }
    }
}

#[inline]
fn one(
    out: &mut Vec<u8>,
    prefix: &mut [u8],
    channel: u16,
    delivery_tag: u64,
    redelivered: bool,
    message: &Message<'_>,
    frame_max: u32,
) {
    let size = prefix.len() - 7 + 9 + message.route.len();
    prefix[3..7].copy_from_slice(&(size as u32).to_be_bytes());
    out.reserve(prefix.len() + 9 + message.route.len() + MIDDLE + message.properties.len() + 1);
    out.extend_from_slice(prefix);
    let mut tag = [0; 9];
    tag[..8].copy_from_slice(&delivery_tag.to_be_bytes());
    tag[8] = u8::from(redelivered);
    out.extend_from_slice(&tag);
    out.extend_from_slice(message.route);
    content(out, channel, message, frame_max);
}

/// The end of a method frame with content, then header and body frames.
fn content(out: &mut Vec<u8>, channel: u16, message: &Message<'_>, frame_max: u32) {
    let mut middle = [0; MIDDLE];
    middle[0] = frame::END;
    middle[1] = frame::HEADER;
    middle[2..4].copy_from_slice(&channel.to_be_bytes());
    middle[4..8].copy_from_slice(&(12 + message.properties.len() as u32).to_be_bytes());
    middle[9] = 60;
    middle[12..20].copy_from_slice(&(message.body.len() as u64).to_be_bytes());
    out.extend_from_slice(&middle);
    out.extend_from_slice(message.properties);
    out.push(frame::END);
    frame::write_body(out, channel, message.body, frame_max);
}

/// Encodes basic.get-ok with its message.
pub(super) fn get_ok(out: &mut Vec<u8>, channel: u16, tag: u64, delivery: &Delivery, left: u64, frame_max: u32) {
    let (message, _) = delivery.block.at(delivery.offset);
    let get_ok = basic::GetOk {
        delivery_tag: tag,
        redelivered: delivery.redelivered,
        exchange: message.exchange(),
        routing_key: message.routing_key(),
        message_count: u32::try_from(left).unwrap_or(u32::MAX),
    };
    frame::write_method(out, channel, &get_ok.into());
    let properties = delivery.properties(&message);
    let properties = properties.as_deref().unwrap_or(message.properties);
    frame::write_header(out, channel, message.body.len() as u64, properties);
    frame::write_body(out, channel, message.body, frame_max);
}

/// Encodes basic.return (312 NO_ROUTE) with its message.
pub(super) fn no_route(
    out: &mut Vec<u8>,
    channel: u16,
    (exchange, routing_key): (&str, &str),
    (properties, body): (&[u8], &[u8]),
    frame_max: u32,
) {
    let no_route = basic::Return { reply_code: 312, reply_text: "NO_ROUTE", exchange, routing_key };
    frame::write_method(out, channel, &no_route.into());
    frame::write_header(out, channel, body.len() as u64, properties);
    frame::write_body(out, channel, body, frame_max);
}
