//! Looks at everything that is in a queue, and decides what stays.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use leveret_wire::method::{basic, channel, queue, reply_code, tx};

use crate::crash::amqp::{ChannelClosed, Connection, Event};
use crate::crash::chance::Chance;
use crate::crash::ledger::{Findings, Found, Kind};
use crate::crash::message::{Id, Pattern};
use crate::crash::topology::{FIXED, QUEUES};

/// How long a queue may take to give its next message.
const PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of a queue's messages when all were seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// They are given back by basic.nack.
    Requeued,
    /// They are given back by closing the channel.
    Held,
    /// They are acknowledged.
    None,
    /// All but one in this many are acknowledged, one by one.
    OneIn(u64),
}

/// What was in a queue.
#[derive(Debug, Default)]
pub struct Drained {
    /// In the order of delivery.
    pub found: Vec<Found>,
    /// What was acknowledged.
    pub acknowledged: Vec<Id>,
    /// The acknowledgement was committed in a transaction, so it is durable.
    pub committed: bool,
}

/// Takes all messages of a queue that nobody else consumes.
///
/// # Errors
/// If the broker closes the connection, or doesn't give what it has.
pub fn drain(
    port: u16,
    pattern: &Pattern,
    queue: usize,
    stay: Stay,
    chance: &mut Chance,
    findings: &mut Findings,
) -> Result<Drained> {
    let mut drain = Drain { connection: Connection::open(port)?, pattern, queue, tags: Vec::new() };
    let mut drained = Drained { committed: chance.one_in(2), ..Drained::default() };
    let what = || format!("looking at the queue {}", QUEUES[queue]);
    drain.connection.open_channel(CHANNEL)?;
    drain.take(&mut drained, findings).with_context(what)?;
    drain.answer(&mut drained, stay, chance).with_context(what)?;
    drain.connection.close();
    Ok(drained)
}

/// Takes all messages of a queue that may not be there, and deletes it.
///
/// # Errors
/// As [`drain`].
pub fn tear_down(port: u16, pattern: &Pattern, queue: usize, findings: &mut Findings) -> Result<Option<Vec<Found>>> {
    let mut drain = Drain { connection: Connection::open(port)?, pattern, queue, tags: Vec::new() };
    drain.connection.open_channel(CHANNEL)?;
    if let Err(error) = counts(&mut drain.connection, CHANNEL, queue) {
        let is_gone = error.downcast_ref::<ChannelClosed>().is_some_and(|closed| closed.code == reply_code::NOT_FOUND);
        return if is_gone { Ok(None) } else { Err(error) };
    }
    let mut drained = Drained::default();
    drain.take(&mut drained, findings).with_context(|| format!("looking at the queue {}", QUEUES[queue]))?;
    drain.connection.call(CHANNEL, queue::Delete { queue: QUEUES[queue], ..Default::default() })?;
    drain.connection.close();
    Ok(Some(drained.found))
}

/// Messages that are ready, and consumers.
///
/// # Errors
/// If the queue isn't there.
pub fn counts(connection: &mut Connection, channel: u16, queue: usize) -> Result<(u32, u32)> {
    let declare = queue::Declare { queue: QUEUES[queue], passive: true, ..Default::default() };
    let answer = connection.call(channel, declare)?;
    Ok((answer.messages, answer.consumers))
}

/// Waits until no connection but the caller's uses any queue.
///
/// # Errors
/// If that takes too long.
pub fn wait_for_quiet(port: u16) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut connection = Connection::open(port)?;
    connection.open_channel(1)?;
    let mut last = Vec::new();
    loop {
        let all = (0..FIXED).map(|queue| counts(&mut connection, 1, queue)).collect::<Result<Vec<_>>>()?;
        if all == last && all.iter().all(|(_, consumers)| *consumers == 0) {
            connection.close();
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("the broker still serves clients that are gone: {all:?}");
        }
        last = all;
        std::thread::sleep(Duration::from_millis(200));
    }
}

const CHANNEL: u16 = 1;

struct Drain<'p> {
    connection: Connection,
    pattern: &'p Pattern,
    queue: usize,
    /// Delivery tags of what is sound, in order.
    tags: Vec<u64>,
}

impl Drain<'_> {
    fn take(&mut self, drained: &mut Drained, findings: &mut Findings) -> Result<()> {
        let connection = &mut self.connection;
        if drained.committed {
            connection.call(CHANNEL, tx::Select)?;
        }
        let (count, _) = counts(connection, CHANNEL, self.queue)?;
        connection.call(CHANNEL, basic::Consume { queue: QUEUES[self.queue], ..Default::default() })?;
        connection.set_patience(PATIENCE)?;
        for taken in 0..count {
            let event = self.connection.event().with_context(|| format!("it has {count} messages and gave {taken}"))?;
            let Event::Delivery(delivery) = event else { bail!("the broker said {event:?}") };
            match self.connection.identify(self.pattern) {
                Err(what) => findings.add(Kind::Ghost, self.queue, None, format!("there, but {what}")),
                Ok(id) => {
                    drained.found.push(Found { id, redelivered: delivery.redelivered });
                    self.tags.push(delivery.tag);
                }
            }
        }
        let (more, _) = counts(&mut self.connection, CHANNEL, self.queue)?;
        if more > 0 {
            findings.add(
                Kind::Count,
                self.queue,
                None,
                format!("it had {count} messages, and {more} more behind them"),
            );
        }
        Ok(())
    }

    fn answer(&mut self, drained: &mut Drained, stay: Stay, chance: &mut Chance) -> Result<()> {
        let Some(&delivery_tag) = self.tags.last() else { return Ok(()) };
        let all = drained.found.iter().map(|found| found.id);
        match stay {
            Stay::Held => {}
            Stay::Requeued => {
                self.connection.send(CHANNEL, basic::Nack { delivery_tag, multiple: true, requeue: true });
            }
            Stay::None => {
                self.connection.send(CHANNEL, basic::Ack { delivery_tag, multiple: true });
                drained.acknowledged = all.collect();
            }
            Stay::OneIn(n) => {
                for (id, &delivery_tag) in all.zip(&self.tags) {
                    if !chance.one_in(n) {
                        self.connection.send(CHANNEL, basic::Ack { delivery_tag, multiple: false });
                        drained.acknowledged.push(id);
                    }
                }
            }
        }
        let close = channel::Close { reply_code: 200, reply_text: "seen", class_id: 0, method_id: 0 };
        if drained.committed {
            self.connection.send(CHANNEL, tx::Commit);
            self.expect(tx::CommitOk::ID)?;
        }
        self.connection.send(CHANNEL, close);
        // What is given back comes again at once, until the channel is closed.
        self.expect(channel::CloseOk::ID)
    }

    fn expect(&mut self, id: (u16, u16)) -> Result<()> {
        self.connection.flush()?;
        loop {
            match self.connection.event()? {
                Event::Answer(answer) if answer.id == id => return Ok(()),
                Event::Delivery(_) => {}
                other => bail!("the broker said {other:?}"),
            }
        }
    }
}
