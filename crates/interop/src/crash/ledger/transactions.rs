//! Whether transactions are whole.

use crate::crash::account::{Outcome, Transaction};
use crate::crash::ledger::{Ack, Findings, Kind, Ledger, Place};
use crate::crash::message::Id;
use crate::crash::topology::{OUTPUTS, TX_IN, TX_OUT};

impl Ledger {
    /// Whether each transaction took effect as a whole or not at all. To be called when all queues that transactions
    /// use were checked, and before [`Ledger::settle`].
    pub fn check_transactions(&self, findings: &mut Findings) {
        for transaction in &self.transactions {
            self.check_transaction(transaction, findings);
        }
    }

    fn check_transaction(&self, transaction: &Transaction, findings: &mut Findings) {
        let outputs: Vec<(Id, usize, Option<&Place>)> =
            transaction.outputs().zip(TX_OUT..).map(|(id, queue)| (id, queue, self.places[queue].get(&id))).collect();
        // What is in a transaction is visible once that is durable.
        let happened = transaction.outcome == Outcome::Committed
            || outputs.iter().any(|(_, _, place)| place.is_some_and(|it| it.present || it.seen));
        let input = self.places[TX_IN].get(&transaction.input);
        let known = match transaction.outcome {
            Outcome::Committed => "committed",
            _ => "not answered",
        };
        let names = format!("the transaction {}+{OUTPUTS} on {}, {known}:", transaction.first, transaction.input);
        if !happened {
            if input.is_some_and(|it| !it.present && it.durable) {
                let what = format!("{names} none of its messages is there, and what it acknowledged is gone");
                findings.add(Kind::Half, TX_IN, Some(transaction.input), what);
            }
            return;
        }
        for (id, queue, place) in &outputs {
            // A message that was acknowledged may be gone.
            if !place.is_some_and(|it| it.present || it.ack != Ack::None) {
                let what = format!("{names} it is missing, although others are there or were seen");
                findings.add(Kind::Half, *queue, Some(*id), what);
            }
        }
        if input.is_some_and(|it| it.present) {
            let what = format!("{names} its messages are there, and what it acknowledged is, too");
            findings.add(Kind::Half, TX_IN, Some(transaction.input), what);
        }
    }
}
