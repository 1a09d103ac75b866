//! What the judge lets pass and what it does not: a judge that accepts everything finds nothing.

use crate::content::{Address, Content, Id};
use crate::judge::{Found, FoundMessage, FoundQueue, judge};
use crate::model::{Event, Model, Place, State, Unit};
use expect_test::{Expect, expect};

/// A history on the queues q0 and q1, one operation per call, the declarations durable.
struct History(Model);

impl History {
    fn new() -> History {
        let mut model = Model::new(false);
        for queue in 0..2 {
            model.seq += 1;
            model.declare_queue(queue, queue as u32 + 1, true);
        }
        model.seq += 1;
        model.note_all_durable();
        History(model)
    }

    fn next(&mut self) -> Event {
        self.0.seq += 1;
        self.0.event()
    }

    fn publish_as(&mut self, queue: usize, event: Event) -> Id {
        let id = self.0.contents.len() as Id;
        let address = Address { exchange: 0, key: queue };
        let content = Content::new(address, 0, true, 0);
        let targets = self.0.targets(&content);
        self.0.contents.push(content);
        self.0.append(id, &targets, event, State::Ready);
        id
    }

    fn publish(&mut self, queue: usize) -> Id {
        let event = self.next();
        self.publish_as(queue, event)
    }

    fn publish_large(&mut self, queue: usize) -> Id {
        let event = Event { late: true, ..self.next() };
        self.publish_as(queue, event)
    }

    fn confirm(&mut self, id: Id) {
        let life = self.0.queues.iter().flatten().find_map(|life| life.entries.iter().find(|entry| entry.id == id));
        let seq = life.expect("it was published").enqueued.seq;
        self.0.confirm(id, Some(seq));
    }

    fn place(&self, queue: usize, id: Id) -> Place {
        let life = self.0.queue(queue).expect("declared");
        let entry = life.entries.iter().position(|entry| entry.id == id).expect("published there");
        Place { queue, number: life.number, entry }
    }

    fn ack(&mut self, queue: usize, id: Id) {
        let event = self.next();
        self.0.remove(self.place(queue, id), event);
    }

    fn deliver(&mut self, queue: usize, id: Id) {
        let (seq, place) = (self.next().seq, self.place(queue, id));
        self.0.entry(place).expect("there").delivered = Some(seq);
    }

    fn commit(&mut self) -> Event {
        let event = self.next();
        self.0.units.push(Unit::new(event.seq, false));
        Event { unit: Some(self.0.units.len() - 1), ..event }
    }

    /// What the judge says if this is in the queues.
    fn check(&self, first: &[Id], second: &[Id], expected: Expect) {
        self.check_flagged(first, second, true, expected);
    }

    fn check_flagged(&self, first: &[Id], second: &[Id], flagged: bool, expected: Expect) {
        let mut found = Found::default();
        for (queue, ids) in [first, second].into_iter().enumerate() {
            let message = |&id: &Id| FoundMessage { id, flagged, returned: 0, waits: None, position: None };
            let messages = ids.iter().map(message).collect();
            found.queues.insert(queue, FoundQueue { number: queue as u32 + 1, messages, waiting: 0 });
        }
        found.exchanges.extend([(0, 0), (3, 0)]);
        expected.assert_eq(&judge(&self.0, &found).map_or_else(|error| error, |()| "explained".to_string()));
    }
}

#[test]
fn a_confirmed_message_must_be_there_and_an_unconfirmed_one_may_be() {
    let mut history = History::new();
    let (a, b) = (history.publish(0), history.publish(0));
    history.check(&[], &[], expect!["explained"]);
    history.check(&[a, b], &[], expect!["explained"]);
    history.confirm(a);
    history.check(&[a], &[], expect!["explained"]);
    history.check(&[b], &[], expect!["message 0 of operation 4 in q0 is missing, although operation 4 was durable"]);
    history.check(&[b, a], &[], expect!["q0 has message 0 behind message 1"]);
    history.check(&[a, a], &[], expect!["message 0 is twice in q0"]);
    history.check(&[a], &[b], expect!["message 1 was never in q1"]);
}

#[test]
fn what_survives_is_a_prefix() {
    let mut history = History::new();
    let (a, b, c) = (history.publish(0), history.publish(1), history.publish(0));
    history.check(&[a], &[b], expect!["explained"]);
    history.check(
        &[a, c],
        &[],
        expect!["operations up to 6 must have survived (message 2 of operation 6 in q0 is there), and those from 5 on did not (message 1 of operation 5 in q1 is missing)"],
    );
    history.confirm(c);
    history.check(&[a, c], &[], expect!["message 1 of operation 5 in q1 is missing, although operation 5 was durable"]);
}

#[test]
fn a_large_message_may_be_overtaken() {
    let mut history = History::new();
    let (large, small) = (history.publish_large(0), history.publish(0));
    history.confirm(small);
    history.check(&[small], &[], expect!["explained"]);
    history.check(&[large, small], &[], expect!["explained"]);
    history.confirm(large);
    history.check(
        &[small],
        &[],
        expect!["message 0 of operation 4 in q0 is missing, although operation 4 was durable"],
    );
}

#[test]
fn an_ack_must_hold_once_something_later_is_durable() {
    let mut history = History::new();
    let a = history.publish(0);
    history.confirm(a);
    history.ack(0, a);
    history.check(&[a], &[], expect!["explained"]);
    history.check(&[], &[], expect!["explained"]);
    let b = history.publish(1);
    history.check(
        &[a],
        &[b],
        expect!["operations up to 6 must have survived (message 1 of operation 6 in q1 is there), and those from 5 on did not (message 0 of operation 4 in q0 is there)"],
    );
    history.confirm(b);
    history.check(&[a], &[b], expect!["message 0 of operation 4 in q0 is there, although operation 5 was durable"]);
}

#[test]
fn a_message_that_is_missing_was_never_there_or_is_done() {
    let mut history = History::new();
    let a = history.publish(0);
    let b = history.publish(1);
    history.ack(0, a);
    let c = history.publish(1);
    history.check(&[], &[], expect!["explained"]);
    history.check(&[], &[b, c], expect!["explained"]);
    // Of the acknowledgement nothing is known: it is behind b and before c.
    history.check(&[], &[b], expect!["explained"]);
    history.check(&[a], &[b], expect!["explained"]);
}

#[test]
fn a_transaction_is_whole_or_absent() {
    let mut history = History::new();
    let a = history.publish(0);
    history.confirm(a);
    let commit = history.commit();
    history.0.remove(history.place(0, a), commit);
    let (b, c) = (history.publish_as(0, commit), history.publish_as(1, commit));
    history.check(&[b], &[c], expect!["explained"]);
    history.check(&[a], &[], expect!["explained"]);
    history.check(
        &[b],
        &[],
        expect!["half a transaction: message 2 of operation 5 in q1 is missing speaks against the commit in operation 5, other things do not"],
    );
    history.check(
        &[a, b],
        &[c],
        expect!["half a transaction: message 1 of operation 5 in q0 is there speaks for the commit in operation 5, other things do not"],
    );
    history.0.finish_unit(0, true);
    history.check(&[a], &[], expect!["message 0 of operation 4 in q0 is there, although operation 5 was durable"]);
}

#[test]
fn the_ack_of_a_transaction_belongs_to_it_even_if_its_message_was_not_durable() {
    let mut history = History::new();
    let a = history.publish(0);
    let b = history.publish(1);
    let commit = history.commit();
    history.0.remove(history.place(0, a), commit);
    history.publish_as(1, commit);
    // b survived, so a did; it is missing, so the commit survived; but what it published did not.
    history.check(&[], &[b], expect!["half a transaction: message 0 of operation 4 in q0 is missing speaks for the commit in operation 6, other things do not"]);
    history.check(&[], &[], expect!["explained"]);
}

#[test]
fn what_was_delivered_is_flagged_once_something_later_is_durable() {
    let mut history = History::new();
    let a = history.publish(0);
    history.confirm(a);
    history.deliver(0, a);
    history.check_flagged(&[a], &[], false, expect!["explained"]);
    let b = history.publish(1);
    history.check_flagged(&[a], &[], false, expect!["explained"]);
    history.check_flagged(&[a], &[b], false, expect!["message 0 in q0, delivered in operation 5, is not flagged, although operations up to 6 survived (message 1 of operation 6 in q1 is there)"]);
    history.check_flagged(&[a], &[b], true, expect!["explained"]);
}

#[test]
fn a_queue_is_there_as_it_was_declared() {
    let mut history = History::new();
    let a = history.publish(0);
    history.confirm(a);
    history.next();
    history.0.delete_queue(1);
    history.check(&[a], &[], expect!["explained"]);
    let found = |numbers: &[u32]| {
        let mut found = Found::default();
        let queues = numbers.iter().enumerate();
        found
            .queues
            .extend(queues.map(|(queue, &number)| (queue, FoundQueue { number, messages: vec![], waiting: 0 })));
        found.exchanges.extend([(0, 0), (3, 0)]);
        found
    };
    history.ack(0, a);
    let check = |numbers: &[u32], expected: Expect| {
        let verdict = judge(&history.0, &found(numbers)).map_or_else(|error| error, |()| "explained".to_string());
        expected.assert_eq(&verdict);
    };
    check(&[1], expect!["explained"]);
    check(&[1, 9], expect!["q1 is there as number 9, which it never was"]);
    check(
        &[1, 2],
        expect![
            "operations up to 6 must have survived (message 0 of operation 4 in q0 is missing), and those from 5 on did not (q1 as found is there)"
        ],
    );
    check(&[], expect!["q0 number 1 is missing, although operation 1 was durable"]);
}

#[test]
fn a_transaction_may_have_given_a_message_back_before_its_queue_was_deleted() {
    let mut history = History::new();
    let a = history.publish(1);
    history.confirm(a);
    let commit = history.commit();
    let b = history.publish_as(0, commit);
    history.0.set_state(history.place(1, a), State::Returns(0, false));
    history.next();
    history.0.delete_queue(1);
    let check = |committed: bool, returned: u64, expected: Expect| {
        let message = |id, returned| FoundMessage { id, flagged: true, returned, waits: None, position: None };
        let first = if committed { vec![message(b, 0)] } else { vec![] };
        let queues = [(1, first), (2, vec![message(a, returned)])];
        let queues = queues.map(|(number, messages)| FoundQueue { number, messages, waiting: 0 });
        let mut found = Found { queues: queues.into_iter().enumerate().collect(), ..Found::default() };
        found.exchanges.extend([(0, 0), (3, 0)]);
        expected.assert_eq(&judge(&history.0, &found).map_or_else(|error| error, |()| "explained".to_string()));
    };
    check(true, 0, expect!["explained"]);
    check(true, 1, expect!["explained"]);
    check(true, 2, expect!["message 0 of operation 4 in q1 came back 2 times, expected 0 to 1"]);
    check(false, 0, expect!["explained"]);
    check(
        false,
        1,
        expect![
            "half a transaction: message 0 of operation 4 in q1 came back 1 times speaks for the commit in operation 5, other things do not"
        ],
    );
}
