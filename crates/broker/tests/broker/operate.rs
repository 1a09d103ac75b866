//! What scripts do from outside a session: listings, browsing, pausing, moving.
//!
//! ```text
//! info q; counters q; channel-counters; exchange-info e; bindings; bindings-to q; consumers q
//! browse q [from=n] [offset=n] [count=n] [state=ready|unacked|waiting] [filter=f] [key=k] [contains=text] [scan=n] [bytes=n]
//! pause-queue q; resume-queue q; purge-queue q; move q q2|e/key|e/ n     `e/` keeps the messages' keys
//! ```

use crate::script::{Words, show};
use leveret_broker::{
    BindingInfo, Browse, Browsed, BrowsedMessage, Channel, ConsumerInfo, Deaths, Destination, Error, Filter,
    MessageState, MoveTo, QueueCounters, QueueInfo, Redriven, Session,
};
use leveret_wire::table::{FieldTable, Value};

/// `None` if it is no such verb.
pub fn run(
    session: &Session,
    channel: &Channel,
    verb: &str,
    words: &mut Words<'_>,
) -> Option<std::result::Result<String, Error>> {
    let vhost = session.vhost();
    let done = |_| String::new();
    Some(match verb {
        "info" => Ok(vhost.queue_info(words.next()).map_or("no such queue".to_string(), |info| show_info(&info))),
        "counters" => Ok(vhost.queue_info(words.next()).map_or(String::new(), |info| show_counters(&info.counters))),
        "channel-counters" => Ok(said(format!("{:?}", channel.counters()))),
        "exchange-info" => Ok(vhost.exchange_info(words.next()).map_or("no such exchange".to_string(), |info| {
            let counters = said(format!("{:?}", info.counters));
            let delayed = info.delayed.map(|delayed| format!(", {delayed} delayed")).unwrap_or_default();
            format!("{} durable={} {counters}{delayed}", info.kind, info.durable)
        })),
        "bindings" => Ok(show_bindings(vhost.bindings())),
        "bindings-to" => Ok(show_bindings(vhost.bindings_to(&Destination::Queue(words.next().into())))),
        "bindings-from" => Ok(show_bindings(vhost.bindings_from(words.next()))),
        "consumers" => Ok(vhost.consumers_of(words.next()).iter().map(show_consumer).collect::<Vec<_>>().join(", ")),
        "browse" => {
            let (queue, browse) = (words.next(), browse(words));
            vhost.browse(queue, &browse).map(|browsed| show_browsed(&browsed))
        }
        "pause-queue" => vhost.pause(words.next()).map(drop).map(done),
        "resume-queue" => vhost.resume(words.next()).map(drop).map(done),
        "purge-queue" => vhost.purge(words.next()).map(|purged| format!("{purged} purged")),
        "move" => {
            let (from, to, max) = (words.next(), words.next(), words.number());
            let to = match to.split_once('/') {
                None => MoveTo::Queue(to),
                Some((name, key)) => MoveTo::Exchange { name, key: Some(key).filter(|key| !key.is_empty()) },
            };
            let moved = vhost.move_messages(from, to, max, |_| true);
            moved.map(|Redriven { moved, kept }| format!("{moved} moved, {kept} kept"))
        }
        _ => return None,
    })
}

fn browse(words: &mut Words<'_>) -> Browse {
    let mut number = |key, otherwise| words.taken(key).map_or(otherwise, |text| text.parse().expect("a number"));
    let otherwise = Browse::default();
    let browse = Browse {
        from: number("from", 0),
        offset: number("offset", 0),
        count: number("count", 50) as usize,
        max_scanned: number("scan", otherwise.max_scanned),
        max_bytes: number("bytes", otherwise.max_bytes),
        max_body: number("body", 65536) as usize,
        ..otherwise
    };
    let state = |name: String| match &*name {
        "ready" => MessageState::Ready,
        "unacked" => MessageState::Unacked,
        "waiting" => MessageState::Waiting,
        other => panic!("no state '{other}'"),
    };
    Browse {
        states: words.taken("state").map(state).into_iter().collect(),
        filter: words.taken("filter").map(|text| Filter::parse(&text).expect("a filter")),
        key: words.taken("key"),
        contains: words.taken("contains").map(String::into_bytes),
        ..browse
    }
}

/// `0:a 1:b! 2:c(unacked)`: positions and bodies; `!` was handed out before.
fn show_browsed(browsed: &Browsed) -> String {
    let mut said: Vec<String> = browsed.messages.iter().map(show_browsed_message).collect();
    said.extend(browsed.next.map(|next| format!("{} {next}", if browsed.complete { "next" } else { "go on at" })));
    if said.is_empty() { "nothing".to_string() } else { said.join(" ") }
}

fn show_browsed_message(message: &BrowsedMessage) -> String {
    let shown = show(&message.properties(), &message.body);
    let cut = if message.body_length > message.body.len() as u64 { "..." } else { "" };
    let state = match message.state {
        MessageState::Ready => "",
        MessageState::Unacked => "(unacked)",
        MessageState::Waiting => "(waiting)",
    };
    format!("{}:{shown}{cut}{state}{}", message.position, if message.redelivered { "!" } else { "" })
}

fn show_info(info: &QueueInfo) -> String {
    let QueueInfo { state, ready, unacked, waiting, persistent, ready_bytes, unacked_bytes, consumers, .. } = info;
    let mut said = format!(
        "{state:?}: {ready} ready of {ready_bytes} bytes, {unacked} unacked of {unacked_bytes} bytes, {waiting} waiting, \
         {persistent} persistent, {consumers} consumers"
    );
    let time = |time: Option<u64>| time.map_or("-".to_string(), |time| (time - 1_700_000_000_000).to_string());
    said += &format!(", oldest {}, last {}", time(info.oldest), time(info.last_arrival));
    if let Some(tag) = &info.single_active_consumer {
        said += &format!(", active {tag}");
    }
    said
}

/// Those that are not zero.
fn show_counters(counters: &QueueCounters) -> String {
    let deaths = |what: &str, Deaths { expired, rejected, max_length, delivery_limit }: Deaths| {
        [("expired", expired), ("rejected", rejected), ("max_length", max_length), ("delivery_limit", delivery_limit)]
            .map(|(reason, count)| (format!("{what}.{reason}"), count))
    };
    let plain = [
        ("published", counters.published),
        ("published_bytes", counters.published_bytes),
        ("delivered", counters.delivered),
        ("delivered_no_ack", counters.delivered_no_ack),
        ("got", counters.got),
        ("got_no_ack", counters.got_no_ack),
        ("get_empty", counters.get_empty),
        ("redelivered", counters.redelivered),
        ("delivered_bytes", counters.delivered_bytes),
        ("acked", counters.acked),
        ("returned", counters.returned),
        ("refused", counters.refused),
        ("purged", counters.purged),
        ("moved", counters.moved),
    ];
    let all = plain.map(|(name, count)| (name.to_string(), count)).into_iter();
    let all = all.chain(deaths("died", counters.died)).chain(deaths("dead_lettered", counters.dead_lettered));
    let said: Vec<_> = all.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    said.join(", ")
}

/// Of what debugging shows, those that are not zero.
fn said(debug: String) -> String {
    let inside = debug.split_once('{').map_or("", |(_, inside)| inside.trim_end_matches('}'));
    let fields = inside.split(',').map(str::trim).filter(|field| !field.ends_with(": 0"));
    fields.map(|field| field.replace(':', "")).collect::<Vec<_>>().join(", ")
}

fn show_bindings(bindings: Vec<BindingInfo>) -> String {
    let show = |BindingInfo { source, destination, key, arguments }: BindingInfo| {
        let (kind, to) = match destination {
            Destination::Queue(name) => ("", name),
            Destination::Exchange(name) => ("exchange ", name),
        };
        format!("{source} -{key}-> {kind}{to}{}", show_arguments(&arguments))
    };
    let mut said: Vec<_> = bindings.into_iter().map(show).collect();
    said.sort();
    said.join(", ")
}

fn show_arguments(arguments: &FieldTable) -> String {
    let show = |(key, value): (&str, Value<'_>)| format!(" {key}={}", value.as_str().unwrap_or("?"));
    arguments.as_table().iter().map(show).collect()
}

fn show_consumer(consumer: &ConsumerInfo) -> String {
    let ConsumerInfo { tag, channel, prefetch, priority, active, unacked, .. } = consumer;
    let mut said = format!("{tag} on {channel}: prefetch {prefetch}, priority {priority}, {unacked} unacked");
    for (is, what) in [(!consumer.ack_required, "no-ack"), (consumer.exclusive, "exclusive"), (!active, "inactive")] {
        if is {
            said += &format!(", {what}");
        }
    }
    said
}
