//! Queues that are declared, filled and deleted again and again under the same names.

use crate::crash::account::{Account, Built};
use crate::crash::ledger::{Findings, Found, Kind, Ledger};
use crate::crash::message::Id;
use crate::crash::topology::SLOT;

/// One queue that had the name, with what is known for certain.
#[derive(Debug)]
pub(super) struct Era {
    slot: usize,
    /// It was there, durably.
    existed: bool,
    delete_sent: bool,
    /// It is gone, durably.
    gone: bool,
    /// And whether each was confirmed.
    messages: Vec<(Id, bool)>,
}

impl Ledger {
    pub(super) fn note_built(&mut self, account: &Account, watermark: u64) {
        let before = |at: Option<u64>| at.is_some_and(|at| at < watermark);
        let era = |built: &Built| {
            let message = |&index: &usize| (account.sent[index].id, account.sent[index].confirmed);
            let messages: Vec<(Id, bool)> = built.messages.iter().map(message).collect();
            let existed = before(built.declared) || messages.iter().any(|(_, confirmed)| *confirmed);
            let (delete_sent, gone) = (built.delete_sent, before(built.deleted));
            Era { slot: built.slot, existed, delete_sent, gone, messages }
        };
        self.eras.extend(account.built.iter().map(era));
    }

    /// Compares a slot with the messages in its queue, or `None` if there is no queue. It must be deleted then, before
    /// the next load.
    pub fn check_slot(&mut self, slot: usize, found: Option<&[Found]>, findings: &mut Findings) {
        let queue = SLOT + slot;
        let eras: Vec<&Era> = self.eras.iter().filter(|era| era.slot == slot).collect();
        // Whatever was before the last one that existed for certain is gone for certain.
        let first = eras.iter().rposition(|era| era.existed).unwrap_or(0);
        let possible: Vec<&Era> = eras[first.min(eras.len())..].iter().filter(|era| !era.gone).copied().collect();
        let Some(found) = found else {
            if let Some(era) = possible.iter().find(|era| era.existed && !era.delete_sent) {
                let what = format!("the queue is gone, and nobody deleted it; it had {} messages", era.messages.len());
                findings.add(Kind::Lost, queue, None, what);
            }
            return;
        };
        if possible.is_empty() {
            let what = format!("the queue was deleted, and is back with {} messages", found.len());
            findings.add(Kind::Ghost, queue, None, what);
            return;
        }
        let has = |era: &Era, id: Id| era.messages.iter().any(|(its, _)| *its == id);
        let holder = match found.first() {
            Some(first) => possible.iter().find(|era| has(era, first.id)),
            None => possible.iter().find(|era| era.messages.iter().all(|(_, confirmed)| !confirmed)),
        };
        // If it is none of them, any of them will show what is wrong.
        let era = holder.unwrap_or(&possible[0]);
        for pair in found.windows(2).filter(|pair| pair[0].id >= pair[1].id) {
            findings.add(Kind::Order, queue, Some(pair[1].id), format!("comes after {}", pair[0].id));
        }
        for found in found.iter().filter(|found| !has(era, found.id)) {
            let what = format!("there, but it {}", self.past(found.id));
            findings.add(Kind::Ghost, queue, Some(found.id), what);
        }
        let is_found = |id: Id| found.iter().any(|found| found.id == id);
        for (id, _) in era.messages.iter().filter(|(id, confirmed)| *confirmed && !is_found(*id)) {
            findings.add(Kind::Lost, queue, Some(*id), "confirmed, and not there".into());
        }
    }

    /// The slots are empty now.
    pub fn clear_slots(&mut self) {
        self.eras.clear();
    }
}
