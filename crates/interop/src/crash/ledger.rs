//! The outside ledger: what must be in which queue after a broker was killed, and what must not.
//!
//! It believes nothing but what clients were told. Where a client can't know, both outcomes are right: a message whose
//! confirm had not come, an acknowledgement that was on its way, a message on its way to a consumer that needn't
//! acknowledge. What a client was told about a moment is certain for all that the broker did before: its log is one
//! sequence, and what survives is a prefix of it. The *watermark* is the latest moment of which that is known: when a
//! message was sent whose confirm came.

mod findings;
mod slots;
mod transactions;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use crate::crash::account::{Account, Fate, Outcome, Seen, Transaction};
use crate::crash::message::Id;
use crate::crash::topology::{FIXED, TX_OUT};

pub use findings::{Finding, Findings, Kind};

/// A message that was in a queue after a restart.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Which one.
    pub id: Id,
    /// It was flagged so.
    pub redelivered: bool,
}

/// What is known about a message's place in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// It is to survive.
    persistent: bool,
    /// It will: the broker confirmed it, or had it after a crash.
    durable: bool,
    /// It was published since the last start.
    fresh: bool,
    /// When a client first got it since the last start.
    delivered: Option<u64>,
    /// A client got it at any time.
    seen: bool,
    /// The broker is known to remember that it was delivered.
    flagged: bool,
    ack: Ack,
    /// The check that is going on has found it.
    present: bool,
}

/// What is known about an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ack {
    None,
    /// It was sent, or the broker may take it as sent.
    Sent,
    /// The broker had acted on it at this time.
    Taken(u64),
    /// It will not be forgotten.
    Durable,
}

/// The ledger of a campaign.
#[derive(Debug)]
pub struct Ledger {
    /// By queue.
    places: Vec<BTreeMap<Id, Place>>,
    /// By queue: a consumer that needn't acknowledge was there when the broker was killed.
    exposed: Vec<bool>,
    /// Committed or still open when the broker was killed.
    transactions: Vec<Transaction>,
    /// Queues that came and went since the last start, in the order of their declaration.
    eras: Vec<slots::Era>,
    /// How many messages each publisher sent, to tell what was settled from what never was.
    sent: HashMap<u32, u64>,
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger {
            places: vec![BTreeMap::new(); FIXED],
            exposed: vec![false; FIXED],
            transactions: Vec::new(),
            eras: Vec::new(),
            sent: HashMap::new(),
        }
    }
}

impl Ledger {
    /// Takes in what the clients of a cycle remember, up to the kill.
    pub fn absorb(&mut self, accounts: &[Account], findings: &mut Findings) {
        for account in accounts {
            self.note_sent(account);
            for (queue, what) in &account.damaged {
                findings.add(Kind::Ghost, *queue, None, format!("delivered, but {what}"));
            }
        }
        let watermark = watermark(accounts);
        for account in accounts {
            self.note_seen(account, findings);
            self.note_built(account, watermark);
            for transaction in account.transactions.iter().filter(|it| it.outcome != Outcome::RolledBack) {
                self.transactions.push(*transaction);
            }
            if let Some(queue) = account.exposed {
                self.exposed[queue] = true;
            }
        }
        self.end_epoch(watermark);
    }

    fn note_sent(&mut self, account: &Account) {
        let fresh = |persistent, durable| Place {
            persistent,
            durable,
            fresh: true,
            delivered: None,
            seen: false,
            flagged: false,
            ack: Ack::None,
            present: false,
        };
        for sent in &account.sent {
            for queue in sent.route.queues {
                self.places[*queue].insert(sent.id, fresh(sent.persistent, sent.confirmed && sent.persistent));
            }
            self.count(sent.id);
        }
        for transaction in &account.transactions {
            for (id, queue) in transaction.outputs().zip(TX_OUT..) {
                if transaction.outcome != Outcome::RolledBack {
                    self.places[queue].insert(id, fresh(true, transaction.outcome == Outcome::Committed));
                }
                self.count(id);
            }
        }
    }

    fn count(&mut self, id: Id) {
        let count = self.sent.entry(id.publisher()).or_default();
        *count = (*count).max(id.sequence() + 1);
    }

    /// Follows one client's deliveries, checks what can be checked while the broker lives, and notes the acks.
    fn note_seen(&mut self, account: &Account, findings: &mut Findings) {
        // The last first delivery by consumer and publisher.
        let mut last: HashMap<(u16, u32), Id> = HashMap::new();
        for seen in &account.seen {
            let Some(place) = self.places[seen.queue].get_mut(&seen.id) else {
                let what = format!("delivered, but it {}", self.past(seen.id));
                findings.add(Kind::Ghost, seen.queue, Some(seen.id), what);
                continue;
            };
            check_delivery(place, seen, findings);
            if place.fresh && place.delivered.is_none() {
                let before = last.insert((seen.consumer, seen.id.publisher()), seen.id);
                if let Some(before) = before.filter(|before| *before > seen.id) {
                    findings.add(Kind::Order, seen.queue, Some(seen.id), format!("delivered after {before}"));
                }
            }
            place.delivered = place.delivered.or(Some(seen.at));
            place.seen = true;
            place.ack = acknowledged(account, seen);
        }
    }

    /// The broker was killed: what is known to have been durable then is so for good.
    fn end_epoch(&mut self, watermark: u64) {
        for place in self.places.iter_mut().flat_map(BTreeMap::values_mut) {
            place.flagged |= place.delivered.is_some_and(|at| at < watermark);
            place.delivered = None;
            place.fresh = false;
            if let Ack::Taken(at) = place.ack {
                place.ack = if at < watermark { Ack::Durable } else { Ack::Sent };
            }
        }
    }

    /// Compares a queue with everything that was found in it after a restart.
    pub fn check(&mut self, queue: usize, found: &[Found], findings: &mut Findings) {
        let mut last: HashMap<u32, Id> = HashMap::new();
        for &Found { id, redelivered } in found {
            let Some(place) = self.places[queue].get_mut(&id) else {
                findings.add(Kind::Ghost, queue, Some(id), format!("there, but it {}", self.past(id)));
                continue;
            };
            if place.present {
                findings.add(Kind::Ghost, queue, Some(id), "there twice".into());
                continue;
            }
            place.present = true;
            if place.ack == Ack::Durable {
                findings.add(Kind::Ghost, queue, Some(id), "there, but its acknowledgement was durable".into());
            }
            if place.flagged && !redelivered {
                findings.add(Kind::Flag, queue, Some(id), "delivered before, but not flagged redelivered".into());
            }
            if let Some(before) = last.insert(id.publisher(), id).filter(|before| *before > id) {
                findings.add(Kind::Order, queue, Some(id), format!("comes after {before}"));
            }
        }
        self.check_missing(queue, findings);
    }

    fn check_missing(&self, queue: usize, findings: &mut Findings) {
        // The first of each publisher that is there: an automatic consumer takes from the front and leaves no hole.
        let mut first: HashMap<u32, Id> = HashMap::new();
        for (&id, place) in &self.places[queue] {
            if place.present {
                first.entry(id.publisher()).or_insert(id);
            } else if place.durable && place.ack == Ack::None {
                match (self.exposed[queue], first.get(&id.publisher())) {
                    (false, _) => findings.add(Kind::Lost, queue, Some(id), "confirmed, and not there".into()),
                    (true, Some(front)) => {
                        let what = format!("confirmed, and not there, although {front} is");
                        findings.add(Kind::Lost, queue, Some(id), what);
                    }
                    (true, None) => {}
                }
            }
        }
    }

    /// Ends a check of these queues, which must have included all that transactions use: what was found in them is
    /// what is in them.
    pub fn settle(&mut self, queues: &[usize], now: u64) {
        self.transactions.clear();
        for &queue in queues {
            self.exposed[queue] = false;
            self.places[queue].retain(|_, place| {
                let stays = place.present;
                *place = Place {
                    durable: place.persistent,
                    delivered: Some(now),
                    seen: true,
                    ack: Ack::None,
                    present: false,
                    ..*place
                };
                stays
            });
        }
    }

    /// The checking client acknowledged these; the broker had acted on it at `at`, or, with `None`, has committed it.
    pub fn acknowledged(&mut self, queue: usize, ids: &[Id], at: Option<u64>) {
        for id in ids {
            if let Some(place) = self.places[queue].get_mut(id) {
                place.ack = at.map_or(Ack::Durable, Ack::Taken);
            }
        }
    }

    /// Messages that a queue should or may have.
    pub fn len(&self, queue: usize) -> usize {
        self.places[queue].values().filter(|place| place.ack == Ack::None).count()
    }

    /// No message is expected anywhere.
    pub fn is_empty(&self) -> bool {
        (0..FIXED).all(|queue| self.len(queue) == 0)
    }

    /// What is known of a message that shouldn't be there.
    fn past(&self, id: Id) -> &'static str {
        match self.sent.get(&id.publisher()) {
            Some(count) if id.sequence() < *count => "was settled, taken back, or sent elsewhere",
            _ => "was never sent",
        }
    }
}

/// What a delivery says about the broker as long as it lives.
fn check_delivery(place: &Place, seen: &Seen, findings: &mut Findings) {
    if place.ack != Ack::None {
        findings.add(Kind::Ghost, seen.queue, Some(seen.id), "delivered again after its acknowledgement".into());
    }
    if (place.delivered.is_some() || place.flagged) && !seen.redelivered {
        findings.add(Kind::Flag, seen.queue, Some(seen.id), "delivered again, but not flagged redelivered".into());
    }
    if place.fresh && place.delivered.is_none() && seen.redelivered {
        findings.add(Kind::Flag, seen.queue, Some(seen.id), "flagged redelivered at its first delivery".into());
    }
}

fn acknowledged(account: &Account, seen: &Seen) -> Ack {
    match seen.fate {
        Fate::Held | Fate::Requeued => Ack::None,
        Fate::Automatic => Ack::Sent,
        // Receipts come in the order of the acks they stand for.
        Fate::Acked(ack) => {
            let receipt = account.receipts.partition_point(|it| it.acks < ack);
            account.receipts.get(receipt).map_or(Ack::Sent, |it| Ack::Taken(it.at))
        }
        Fate::InTransaction(index) => match account.transactions[index].outcome {
            Outcome::Committed => Ack::Durable,
            Outcome::Open => Ack::Sent,
            Outcome::RolledBack => Ack::None,
        },
    }
}

/// All that the broker did before this moment is durable.
fn watermark(accounts: &[Account]) -> u64 {
    let confirmed = accounts.iter().flat_map(|it| &it.sent).filter(|it| it.confirmed && it.persistent);
    let committed = accounts.iter().flat_map(|it| &it.transactions).filter(|it| it.outcome == Outcome::Committed);
    confirmed.map(|it| it.at).chain(committed.map(|it| it.at)).max().unwrap_or(0)
}
