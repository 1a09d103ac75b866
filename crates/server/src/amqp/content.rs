//! basic.publish and the content behind it.
//!
//! A message whose frames are all in the read buffer goes to the broker without a copy in between. Only one that comes
//! in pieces is put together here.

use super::connection::{ChannelState, Connection, OpenChannel};
use super::failure::Failure;
use super::output;
use crate::auth::{Access, Permission};
use leveret_broker::message::decode_route;
use leveret_broker::{Error, Publish, Published, Session, routing_keys};
use leveret_wire::frame::{self, Frame};
use leveret_wire::method::basic;
use leveret_wire::properties::{ContentHeader, Properties};
use leveret_wire::table::Table;

/// Bodies up to this size are waited for in the read buffer; larger ones are put together as they come.
const WAIT_FOR: u64 = 16 * 1024;

/// A message that is not complete.
#[derive(Debug)]
pub(super) struct Content {
    /// Exchange and routing key as two short strings.
    route: Vec<u8>,
    mandatory: bool,
    /// `None` until the header has come.
    header: Option<Header>,
}

#[derive(Debug)]
struct Header {
    properties: Vec<u8>,
    size: u64,
    /// Grows as bytes arrive, whatever size was announced.
    body: Vec<u8>,
}

impl Content {
    /// Bytes of the body that have come.
    pub(super) fn held(&self) -> u64 {
        self.header.as_ref().map_or(0, |header| header.body.len() as u64)
    }

    /// What a method frame in the middle of a message is refused with.
    pub(super) fn interrupted(&self) -> Failure {
        unexpected(if self.header.is_none() { "header" } else { "body" })
    }
}

/// The arguments of basic.publish, undecoded.
struct PublishFrame<'a> {
    route: &'a [u8],
    mandatory: bool,
    immediate: bool,
}

impl<'a> PublishFrame<'a> {
    /// Finds exchange and key, which stand next to each other just as a record keeps them.
    #[inline]
    fn parse(payload: &'a [u8]) -> Result<PublishFrame<'a>, Failure> {
        let short = || Failure::connection(502, "basic.publish is cut short", basic::Publish::ID);
        // Class, method and the reserved ticket.
        let rest = payload.get(6..).ok_or_else(short)?;
        let exchange = 1 + usize::from(*rest.first().ok_or_else(short)?);
        let route = exchange + 1 + usize::from(*rest.get(exchange).ok_or_else(short)?);
        let bits = *rest.get(route).ok_or_else(short)?;
        if rest.len() != route + 1 {
            return Err(Failure::connection(502, "basic.publish is too long", basic::Publish::ID));
        }
        Ok(PublishFrame { route: &rest[..route], mandatory: bits & 1 != 0, immediate: bits & 2 != 0 })
    }
}

impl Connection {
    /// Acts on basic.publish. `behind` is the input behind its frame; returns how much of that was used, or `None` if
    /// the rest of a small message should be waited for.
    #[inline]
    pub(super) fn publish(&mut self, number: u16, payload: &[u8], behind: &[u8]) -> Result<Option<usize>, Failure> {
        let Connection { channels, session, access, may_publish_to, dirty, out, frame_max, .. } = self;
        let Some(ChannelState::Open(open)) = channels.get_mut(&number) else {
            return Err(Failure::connection(504, "expected 'channel.open'", basic::Publish::ID));
        };
        let publish = PublishFrame::parse(payload)?;
        if publish.immediate {
            return Err(Failure::connection(540, "immediate=true", basic::Publish::ID));
        }
        // Compared with its length octet: never empty, for which memcmp gets a dangling pointer, and masked loads from
        // an unmapped page cost a microcode assist (a third of the server's time before this).
        let exchange = &publish.route[..1 + usize::from(publish.route[0])];
        if may_publish_to.as_slice() != exchange {
            let name = std::str::from_utf8(&exchange[1..])
                .map_err(|_| Failure::connection(502, "exchange name is not UTF-8", basic::Publish::ID))?;
            access.check(Permission::Write, "exchange", name).map_err(of_publish)?;
            // Where routing keys matter, every message is looked at.
            *may_publish_to = if access.has_topics(name) { Vec::new() } else { exchange.to_vec() };
        }
        self.gate.publishes = true;
        let max = session.limits().max_message_size;
        match whole(number, behind, *frame_max, max)? {
            Whole::Here { properties: encoded, body, used } => {
                let properties = Properties::decode(encoded).map_err(Failure::wire)?;
                let PublishFrame { route, mandatory, .. } = publish;
                let publish = Publish { route, mandatory, properties, encoded, body };
                check_user(&properties, access)?;
                if may_publish_to.is_empty() {
                    check_topics(access, session, route, &properties)?;
                }
                open.mark(number, dirty);
                let published = open.broker.publish(session, &publish).map_err(of_publish)?;
                if published == Published::Unroutable && mandatory {
                    returned(out, number, route, (encoded, body), *frame_max)?;
                }
                Ok(Some(used))
            }
            Whole::Wait => Ok(None),
            Whole::Pieces => {
                let route = publish.route.to_vec();
                open.content = Some(Content { route, mandatory: publish.mandatory, header: None });
                Ok(Some(0))
            }
        }
    }

    /// Acts on a header or body frame that did not come right behind its basic.publish.
    pub(super) fn content(&mut self, frame: &Frame<'_>) -> Result<(), Failure> {
        let Connection { channels, session, access, dirty, out, frame_max, unfinished, server, .. } = self;
        let number = frame.channel;
        let open = match channels.get_mut(&number) {
            Some(ChannelState::Open(open)) => open,
            // The rest of a message that was refused, for example because it is too large.
            Some(ChannelState::Closing) => return Ok(()),
            None => return Err(Failure::connection(504, "expected 'channel.open'", (0, 0))),
        };
        let Some(content) = &mut open.content else {
            let text = "expected method frame, got non method frame instead";
            return Err(Failure::connection(505, text, (0, 0)));
        };
        let complete = match (&mut content.header, frame.kind) {
            (none @ None, frame::HEADER) => {
                let header = content_header(frame.payload, session.limits().max_message_size)?;
                let properties = Properties::decode(header.properties).map_err(Failure::wire)?;
                check_user(&properties, access)?;
                check_topics(access, session, &content.route, &properties)?;
                let properties = header.properties.to_vec();
                *none = Some(Header { properties, size: header.body_size, body: Vec::new() });
                header.body_size == 0
            }
            (Some(header), frame::BODY) => {
                let complete = header.append(frame.payload)?;
                *unfinished += frame.payload.len() as u64;
                // A single message may always be finished, whatever the limit is.
                let most = server.limits.unfinished.max(session.limits().max_message_size);
                if *unfinished > most {
                    let text = format!("unfinished messages of this connection hold more than {most} bytes");
                    return Err(of_publish(Error::channel(311, text)));
                }
                complete
            }
            (None, _) => return Err(unexpected("header")),
            (Some(_), _) => return Err(unexpected("body")),
        };
        if !complete {
            return Ok(());
        }
        let Some(Content { route, mandatory, header: Some(header) }) = open.content.take() else {
            unreachable!("complete, so the header was there");
        };
        *unfinished -= header.body.len() as u64;
        let properties = Properties::decode(&header.properties).map_err(Failure::wire)?;
        let (encoded, body) = (header.properties.as_slice(), header.body.as_slice());
        let publish = Publish { route: &route, mandatory, properties, encoded, body };
        open.mark(number, dirty);
        let published = open.broker.publish(session, &publish).map_err(of_publish)?;
        if published == Published::Unroutable && mandatory {
            returned(out, number, &route, (encoded, body), *frame_max)?;
        }
        Ok(())
    }
}

impl OpenChannel {
    /// Notes that this channel has something to flush.
    #[inline]
    pub(super) fn mark(&mut self, number: u16, dirty: &mut Vec<u16>) {
        if !self.is_dirty {
            self.is_dirty = true;
            dirty.push(number);
        }
    }
}

impl Header {
    /// Takes a piece of the body; true if it was the last.
    fn append(&mut self, piece: &[u8]) -> Result<bool, Failure> {
        if self.body.len() as u64 + piece.len() as u64 > self.size {
            let text = format!("content body is larger than the {} bytes that its header announced", self.size);
            return Err(Failure::connection(501, text, basic::Publish::ID));
        }
        self.body.extend_from_slice(piece);
        Ok(self.body.len() as u64 == self.size)
    }
}

/// Whether header and body of a message are in the read buffer.
enum Whole<'a> {
    Here { properties: &'a [u8], body: &'a [u8], used: usize },
    Wait,
    Pieces,
}

#[inline]
fn whole(number: u16, input: &[u8], frame_max: u32, max_size: u64) -> Result<Whole<'_>, Failure> {
    let Some((first, used)) = frame::parse(input, frame_max).map_err(Failure::wire)? else { return Ok(Whole::Wait) };
    // Frames of other channels may come in between; that is rare, and the slow path takes it.
    if first.channel != number {
        return Ok(Whole::Pieces);
    }
    if first.kind != frame::HEADER {
        return Err(unexpected("header"));
    }
    let header = content_header(first.payload, max_size)?;
    if header.body_size == 0 {
        return Ok(Whole::Here { properties: header.properties, body: &[], used });
    }
    match frame::parse(&input[used..], frame_max).map_err(Failure::wire)? {
        Some((body, more))
            if body.channel == number && body.kind == frame::BODY && body.payload.len() as u64 == header.body_size =>
        {
            Ok(Whole::Here { properties: header.properties, body: body.payload, used: used + more })
        }
        None if header.body_size <= WAIT_FOR => Ok(Whole::Wait),
        _ => Ok(Whole::Pieces),
    }
}

#[inline]
fn content_header(payload: &[u8], max_size: u64) -> Result<ContentHeader<'_>, Failure> {
    let header = ContentHeader::decode(payload).map_err(Failure::wire)?;
    if header.class_id != 60 {
        let text = format!("expected content header for class 60, got one for class {} instead", header.class_id);
        return Err(Failure::connection(505, text, basic::Publish::ID));
    }
    if header.body_size > max_size {
        let text = format!("message size {} is larger than configured max size {max_size}", header.body_size);
        return Err(of_publish(Error::precondition(text)));
    }
    Ok(header)
}

/// 406 for a `user_id` that is not the connection's user: it would be a forgery, unless the user may do that.
#[inline]
fn check_user(properties: &Properties<'_>, access: &Access) -> Result<(), Failure> {
    match properties.user_id {
        Some(claimed) if claimed != access.user() && !access.may_impersonate() => Err(of_publish(Error::precondition(
            format!("user_id property set to '{claimed}' but authenticated user was '{}'", access.user()),
        ))),
        _ => Ok(()),
    }
}

/// 403 for a routing key that the user may not use at a topic exchange, those of copies included. Apart from the path of a
/// message, on which few have it.
#[inline(never)]
fn check_topics(access: &Access, session: &Session, route: &[u8], properties: &Properties<'_>) -> Result<(), Failure> {
    // What is no route is refused where it is looked up.
    let Some((exchange, key)) = decode_route(route) else { return Ok(()) };
    if !access.has_topics(exchange) || !session.vhost().is_topic_exchange(exchange) {
        return Ok(());
    }
    let keys = routing_keys(key, properties.headers.unwrap_or(Table::EMPTY)).map_err(of_publish)?;
    let check = |key: &&str| access.check_topic(Permission::Write, exchange, key);
    keys.iter().try_for_each(check).map_err(of_publish)
}

fn returned(
    out: &mut Vec<u8>,
    number: u16,
    route: &[u8],
    content: (&[u8], &[u8]),
    frame_max: u32,
) -> Result<(), Failure> {
    let names =
        decode_route(route).ok_or_else(|| Failure::connection(502, "routing key is not UTF-8", basic::Publish::ID))?;
    output::no_route(out, number, names, content, frame_max);
    Ok(())
}

fn of_publish(error: Error) -> Failure {
    Failure::new(error, basic::Publish::ID)
}

fn unexpected(expected: &str) -> Failure {
    let text = match expected {
        "header" => "expected content header for class 60, got non content header frame instead",
        _ => "expected content body, got non content body frame instead",
    };
    Failure::connection(505, text, basic::Publish::ID)
}
