//! The broker and the model side by side: each step is done on both and compared.
//!
//! What a killed process leaves is what it had written, and a write takes everything that was done before. So the model
//! keeps a copy of itself for each write: a start must find exactly that.

use crate::disk::{Image, MemoryDisk};
use crate::life::{CONFIRM, Life, PLAIN, QUEUES, ROUTES, TRANSACTION};
use crate::state::{Flag, Id, Place, Queues, State};
use leveret_broker::Settle;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A message of so many bytes may be written in pieces, over several rounds.
const LARGE: usize = 100_000;

#[derive(Clone, Debug)]
pub enum Step {
    Publish {
        channel: usize,
        route: usize,
        count: u32,
        size: usize,
        persistent: bool,
    },
    Get {
        channel: usize,
        queue: usize,
        no_ack: bool,
    },
    Consume {
        queue: usize,
        prefetch: u16,
    },
    Cancel {
        queue: usize,
    },
    Pull {
        max_bytes: usize,
    },
    Settle {
        channel: usize,
        pick: usize,
        multiple: bool,
        how: Settle,
    },
    Browse {
        queue: usize,
        page: usize,
    },
    Purge {
        queue: usize,
    },
    Commit,
    Rollback,
    Reconnect,
    /// One round of writing, or all that there is to write.
    Write {
        all: bool,
    },
    Tend {
        times: usize,
    },
    /// The process is killed, and after a start killed again so many times, each after so many writes.
    Crash {
        again: usize,
        writes: i64,
    },
    /// A large message, of which something is written when the process is killed.
    CutOff {
        channel: usize,
        route: usize,
    },
    /// Much comes and goes, and little stays: segments are filled, adopted and merged.
    Churn {
        queue: usize,
        rounds: u32,
        every: u32,
    },
    Restart,
}

/// What a transaction has collected.
#[derive(Clone, Debug, Default)]
struct Transaction {
    messages: Vec<(Id, usize, bool)>,
    settled: Vec<(u64, Place, Settle)>,
    large: bool,
}

/// A commit that is not durable yet.
#[derive(Debug)]
struct Committing {
    hidden: Vec<Place>,
    /// In queues that are not durable they get their places when it is.
    later: Vec<(Id, usize, bool)>,
    settled: Vec<(Place, Settle)>,
    /// Written over several rounds.
    large: bool,
}

pub struct World {
    life: Life,
    now: Queues,
    /// As of the last write.
    written: Queues,
    next: Id,
    /// In the log and not written.
    unwritten: BTreeSet<Id>,
    /// For each channel: tag, and where the message is.
    held: [BTreeMap<u64, Place>; 3],
    transaction: Transaction,
    committing: Option<Committing>,
    /// Published and not confirmed, and how many were on this channel before.
    unconfirmed: VecDeque<Id>,
    confirmed: u64,
}

impl World {
    pub fn new() -> World {
        let mut now = Queues::default();
        now.all.resize_with(QUEUES.len(), Default::default);
        now.all[..QUEUES.len() - 1].iter_mut().for_each(|queue| queue.durable = true);
        World::begin(&Image::new(), now, 1)
    }

    /// Goes on with what a start finds.
    fn begin(image: &Image, now: Queues, next: Id) -> World {
        World {
            life: Life::begin(image),
            written: now.clone(),
            now,
            next,
            unwritten: BTreeSet::new(),
            held: Default::default(),
            transaction: Transaction::default(),
            committing: None,
            unconfirmed: VecDeque::new(),
            confirmed: 0,
        }
    }

    pub fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish { channel, route, count, size, persistent } => {
                self.publish(channel, route, count, size, persistent);
            }
            Step::Get { channel, queue, no_ack } => self.get(channel, queue, no_ack),
            Step::Consume { queue, prefetch } => {
                if self.life.consumers[queue].is_none() {
                    self.now.all[queue].touched = true;
                    self.life.consume(queue, prefetch);
                }
            }
            Step::Cancel { queue } => self.life.cancel(queue),
            Step::Pull { max_bytes } => {
                for (queue, tag, seen) in self.life.pull(max_bytes) {
                    let place = self.now.hand_out(queue, seen);
                    self.held[PLAIN].insert(tag, place);
                }
            }
            Step::Settle { channel, pick, multiple, how } => self.settle(channel, pick, multiple, how),
            Step::Purge { queue } => {
                let channel = &mut self.life.channels[PLAIN];
                let purged = channel.purge_queue(&mut self.life.session, QUEUES[queue]).expect("it is there");
                assert_eq!(purged, self.now.purge(queue), "what was purged");
            }
            Step::Browse { queue, page } => self.browse(queue, page),
            Step::Commit => self.commit(),
            Step::Rollback if self.committing.is_none() => {
                self.life.channels[TRANSACTION].rollback().expect("a transaction");
                let settled = std::mem::take(&mut self.transaction).settled;
                self.held[TRANSACTION].extend(settled.into_iter().map(|(tag, place, _)| (tag, place)));
            }
            Step::Rollback => {}
            Step::Reconnect => self.reconnect(),
            Step::Write { all: false } => {
                if self.life.broker.write_log() {
                    self.note_written();
                }
            }
            Step::Write { all: true } => self.write_all(),
            Step::Tend { times } => (0..times).for_each(|_| self.tend()),
            Step::Crash { again, writes } => self.crash(again, writes),
            Step::CutOff { channel, route } => {
                self.publish(channel, route, 1, 540_000, true);
                if channel == TRANSACTION {
                    self.commit();
                }
                self.step(&Step::Write { all: false });
                self.crash(0, 0);
            }
            Step::Churn { queue, rounds, every } => self.churn(queue, rounds, every),
            Step::Restart => self.restart(),
        }
        self.take_confirms();
        self.check_counts();
    }

    fn publish(&mut self, channel: usize, route: usize, count: u32, size: usize, persistent: bool) {
        if channel == TRANSACTION && self.committing.is_some() {
            return;
        }
        for id in self.next..self.next + count {
            self.life.publish(channel, route, id, size, persistent);
            if channel == TRANSACTION {
                self.transaction.messages.push((id, route, persistent));
                self.transaction.large |= size >= LARGE && persistent && self.is_durable(route);
                continue;
            }
            self.now.append(ROUTES[route].2, id, persistent, State::Ready);
            if persistent && self.is_durable(route) {
                self.unwritten.insert(id);
                if size >= LARGE {
                    self.now.late.insert(id);
                }
            }
            if channel == CONFIRM {
                self.unconfirmed.push_back(id);
            }
        }
        self.next += count;
        self.life.session.flush();
    }

    fn churn(&mut self, queue: usize, rounds: u32, every: u32) {
        for round in 0..rounds {
            self.publish(PLAIN, queue, 2, 3000, true);
            let stays = round % every == 0;
            for _ in 0..if stays { 1 } else { 2 } {
                self.get(PLAIN, queue, false);
                let last = self.held[PLAIN].len().saturating_sub(1);
                self.settle(PLAIN, last, false, Settle::Ack);
            }
            self.step(&Step::Write { all: false });
            self.tend();
        }
        (0..12).for_each(|_| self.tend());
    }

    fn is_durable(&self, route: usize) -> bool {
        ROUTES[route].2.iter().any(|&queue| self.now.all[queue].durable)
    }

    fn get(&mut self, channel: usize, queue: usize, no_ack: bool) {
        if channel == TRANSACTION && self.committing.is_some() {
            return;
        }
        self.now.all[queue].touched = true;
        let Some((tag, seen)) = self.life.get(channel, queue, no_ack) else {
            assert_eq!(self.now.all[queue].ready(), 0, "basic.get gives nothing");
            return;
        };
        let place = self.now.hand_out(queue, seen);
        match no_ack {
            true => self.now.remove(place),
            false => drop(self.held[channel].insert(tag, place)),
        }
    }

    fn settle(&mut self, channel: usize, pick: usize, multiple: bool, how: Settle) {
        let held = &mut self.held[channel];
        let busy = channel == TRANSACTION && self.committing.is_some();
        let Some(&tag) = held.keys().nth(pick % held.len().max(1)).filter(|_| !busy) else { return };
        self.life.channels[channel].settle(tag, multiple, how).expect("it was delivered");
        self.life.channels[channel].apply_settled();
        let rest = held.split_off(&(tag + 1));
        let mut settled = std::mem::replace(held, rest);
        if !multiple {
            let only = settled.remove(&tag).expect("it is held");
            held.append(&mut settled);
            settled = [(tag, only)].into();
        }
        for (tag, place) in settled {
            match (channel, how) {
                (TRANSACTION, _) => self.transaction.settled.push((tag, place, how)),
                (_, Settle::Requeue | Settle::Fail) => self.now.requeue(place),
                (_, Settle::Ack | Settle::Reject) => self.now.remove(place),
            }
        }
    }

    fn commit(&mut self) {
        if self.committing.is_some() {
            return;
        }
        let Transaction { messages, settled, large } = std::mem::take(&mut self.transaction);
        let channel = &mut self.life.channels[TRANSACTION];
        let done = channel.commit(&mut self.life.session, |_| ()).expect("a transaction");
        let mut committing = Committing { hidden: Vec::new(), later: Vec::new(), settled: Vec::new(), large };
        let mut logged = false;
        for (id, route, persistent) in messages {
            let mut queues = ROUTES[route].2.to_vec();
            if self.is_durable(route) && persistent {
                logged = true;
                self.unwritten.insert(id);
            }
            queues.retain(|&queue| self.now.all[queue].durable);
            committing.hidden.extend(self.now.append(&queues, id, persistent, State::Hidden));
            committing.later.push((id, route, persistent));
        }
        for (_, place, how) in settled {
            logged |= self.now.all[place.0].durable && how != Settle::Requeue;
            committing.settled.push((place, how));
        }
        assert_eq!(done, !logged, "a commit has to be durable if the log has a part of it");
        self.committing = Some(committing);
        if done {
            self.finish_logged();
            self.finish_others();
        }
    }

    /// The part of a commit that is in the log.
    fn finish_logged(&mut self) {
        let Some(committing) = &mut self.committing else { return };
        for place in committing.hidden.drain(..) {
            self.now.entry(place).state = State::Ready;
        }
        for (place, _) in committing.settled.extract_if(.., |(_, how)| *how != Settle::Requeue) {
            self.now.remove(place);
        }
    }

    /// What is done when that is durable.
    fn finish_others(&mut self) {
        let Some(committing) = self.committing.take() else { return };
        for (id, route, persistent) in committing.later {
            let passing: Vec<_> = ROUTES[route].2.iter().copied().filter(|&at| !self.now.all[at].durable).collect();
            self.now.append(&passing, id, persistent, State::Ready);
        }
        committing.settled.into_iter().for_each(|(place, _)| self.now.requeue(place));
    }

    fn reconnect(&mut self) {
        // Nobody could tell when it is done.
        if self.committing.as_ref().is_some_and(|committing| committing.large) {
            self.write_all();
        }
        self.life.reconnect();
        let settled = std::mem::take(&mut self.transaction).settled;
        let held: Vec<_> = self.held.iter_mut().flat_map(std::mem::take).map(|(_, place)| place).collect();
        held.into_iter()
            .chain(settled.into_iter().map(|(_, place, _)| place))
            .for_each(|place| self.now.requeue(place));
        self.unconfirmed.clear();
        self.confirmed = 0;
    }

    /// Everything that the log was told is written, but the pieces of large messages perhaps.
    fn note_written(&mut self) {
        // One whose connection has ended is told to nobody.
        let told = self.life.channels[TRANSACTION].take_committed(&self.life.session);
        let done = told || self.committing.as_ref().is_some_and(|committing| !committing.large);
        if done {
            self.finish_logged();
        }
        self.written = self.now.clone();
        self.unwritten = self.now.late.clone();
        if done {
            self.finish_others();
        }
    }

    fn write_all(&mut self) {
        while self.life.broker.write_log() {
            self.note_written();
        }
        self.now.late.clear();
        self.written = self.now.clone();
        self.unwritten.clear();
        assert!(self.committing.is_none(), "a commit is not done, although everything is written");
        self.take_confirms();
        assert!(self.unconfirmed.is_empty(), "{:?} is not confirmed, although it is written", self.unconfirmed);
    }

    fn tend(&mut self) {
        if self.life.tend() {
            self.note_written();
        }
    }

    fn take_confirms(&mut self) {
        let Some((tag, _)) = self.life.channels[CONFIRM].take_confirm(&self.life.session) else { return };
        for id in self.unconfirmed.drain(..(tag - self.confirmed) as usize) {
            if self.now.late.remove(&id) {
                self.unwritten.remove(&id);
                self.written.late.remove(&id);
            }
            assert!(!self.unwritten.contains(&id), "message {id} is confirmed and was not written");
        }
        self.confirmed = tag;
    }

    fn check_counts(&self) {
        for (at, queue) in self.now.all.iter().enumerate() {
            assert_eq!(self.life.ready(at), queue.ready(), "ready messages in queue {at}");
        }
    }

    /// What can be seen is what is there, in its order, and in its state.
    fn browse(&self, at: usize, page: usize) {
        let queue = &self.now.all[at];
        let there: Vec<_> = queue.entries.values().filter(|entry| entry.state != State::Hidden).collect();
        let found = self.life.browse(at, page);
        let expected: Vec<_> = there.iter().map(|it| (it.state == State::Ready, it.id, it.returned)).collect();
        let seen: Vec<_> = found.iter().map(|(is_ready, seen)| (*is_ready, seen.id, seen.returned)).collect();
        assert_eq!(seen, expected, "what is seen in queue {at}");
        for (entry, (_, seen)) in there.iter().zip(&found).filter(|(entry, _)| entry.state == State::Ready) {
            let fits = entry.flag == Flag::Maybe || seen.redelivered == (entry.flag == Flag::Yes);
            assert!(
                fits,
                "message {} is seen as redelivered: {}, expected {:?}",
                seen.id, seen.redelivered, entry.flag
            );
        }
        let (info, of) = (self.life.info(at), |state| there.iter().filter(|entry| entry.state == state).count() as u64);
        assert_eq!((info.ready, info.unacked), (of(State::Ready), of(State::Held)), "what is told of queue {at}");
        let persistent = there.iter().filter(|entry| entry.persistent && queue.durable).count() as u64;
        assert_eq!(info.persistent, persistent, "what is persistent in queue {at}");
        assert_eq!(info.ready_bytes == 0, info.ready == 0);
        assert_eq!(info.unacked_bytes == 0, info.unacked == 0);
    }

    fn crash(&mut self, again: usize, writes: i64) {
        let mut image = self.life.image();
        for _ in 0..again {
            image = Life::kill_after(&image, writes);
        }
        self.go_on(&image);
    }

    fn restart(&mut self) {
        self.life.broker.shut_down().expect("a healthy disk");
        self.note_written();
        self.now.late.clear();
        self.written = self.now.clone();
        self.go_on(&self.life.image());
    }

    /// Looks at what is on the disk, compares it, and goes on with it.
    fn go_on(&mut self, image: &Image) {
        let mut expected = self.written.clone().restart();
        let look = Life::begin(image);
        assert_eq!(look.recovery.damage, []);
        let found = look.drain();
        expected.judge(&found);
        let report = leveret_broker::check(&MemoryDisk::read_only(image)).expect("it can be read");
        assert!(report.is_clean(), "{:?} {:?}", report.damage, report.repairs);
        for queue in &report.queues {
            let at = QUEUES.iter().position(|name| *name == queue.name);
            let messages = at.map(|at| expected.all[at].entries.len() as u64);
            assert!(messages.is_none_or(|messages| messages == queue.messages), "{queue:?}, expected {messages:?}");
        }
        *self = World::begin(image, expected, self.next);
    }

    /// Whatever happened, in the end everything can be taken and acknowledged, and stays away.
    pub fn end(mut self) {
        self.reconnect();
        self.write_all();
        for queue in 0..QUEUES.len() {
            while let Some((tag, seen)) = self.life.get(PLAIN, queue, false) {
                let place = self.now.hand_out(queue, seen);
                self.now.remove(place);
                self.life.channels[PLAIN].settle(tag, false, Settle::Ack).expect("it was delivered");
            }
        }
        self.life.channels[PLAIN].apply_settled();
        self.write_all();
        self.tend();
        assert!(self.now.all.iter().all(|queue| queue.entries.is_empty()), "{:?}", self.now);
        self.crash(0, 0);
    }
}
