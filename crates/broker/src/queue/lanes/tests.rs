//! How much work the pulls of a queue with groups are.

use super::{Holder, LOOKS, Taken};
use crate::consumers::UNLIMITED;
use crate::filter::Filter;
use crate::mailbox::Event;
use crate::message::{Account, BLOCK_MAX, Run, encode_route};
use crate::queue::{Delivery, Queue};
use crate::segment::Places;
use crate::settings::Settings;
use leveret_wire::properties::Properties;
use leveret_wire::table::FieldTable;
use std::sync::Arc;

const MILLION: u64 = 1_000_000;

fn queue(account: &Account) -> Queue {
    let mut queue = Queue::new(account.clone());
    let arguments = FieldTable::new().with("x-group-header", "key");
    queue.configure(1, &Settings::new(arguments.as_table(), Default::default()));
    queue
}

/// Appends messages of a group, or with a header that is none.
fn append(queue: &mut Queue, account: &Account, name: &str, keys: impl Iterator<Item = u64>) {
    let (mut run, route) = (Run::default(), encode_route("", "q"));
    for key in keys {
        let (headers, mut properties) = (FieldTable::new().with(name, key as i64), Vec::new());
        Properties { headers: Some(headers.as_table()), ..Properties::EMPTY }.encode(&mut properties);
        run.push(&route, &properties, b"m", false);
        if run.len() >= BLOCK_MAX {
            queue.append_block(run.seal(account), Places::Nowhere);
        }
    }
    if !run.is_empty() {
        queue.append_block(run.seal(account), Places::Nowhere);
    }
}

fn looked_at(queue: &Queue) -> u64 {
    queue.lanes.as_ref().expect("it has groups").looked_at
}

/// What one may take now, and how many messages were looked at for that under one lock at most, and in all.
fn take(queue: &mut Queue, consumer: u64, max: u64) -> (Vec<Delivery>, u64, u64) {
    let (mut out, begin, mut most) = (Vec::new(), looked_at(queue), 0);
    loop {
        let before = looked_at(queue);
        let taken = queue.take_for(Holder::Consumer(consumer), max, usize::MAX, false, &mut out);
        most = most.max(looked_at(queue) - before);
        match taken {
            Taken::Some { .. } => return (out, most, looked_at(queue) - begin),
            Taken::Missing(missing) => unreachable!("all is in memory, and {missing:?} is missing"),
            Taken::Unfinished => {}
        }
    }
}

fn positions(taken: &[Delivery]) -> Vec<(u64, u32)> {
    taken.iter().map(|delivery| (delivery.position, delivery.count)).collect()
}

#[test]
fn a_million_messages_of_a_held_key_slow_no_pull() {
    let account = Account::default();
    let mut queue = queue(&account);
    append(&mut queue, &account, "key", (0..=MILLION).map(|_| 7));
    append(&mut queue, &account, "key", [8, 9, 7, 8].into_iter());
    assert_eq!(positions(&take(&mut queue, 1, 1).0), [(0, 1)]);
    // Once, each is looked at, in steps.
    let (taken, most, all) = take(&mut queue, 2, 1);
    assert_eq!((positions(&taken), all), (vec![(MILLION + 1, 1)], MILLION + 1));
    assert!(most <= LOOKS, "{most} were looked at under one lock");
    assert_eq!(queue.lanes.as_ref().expect("it has groups").parked.iter().count(), 1, "they are one run");
    // Never again.
    let (taken, _, all) = take(&mut queue, 2, 10);
    assert_eq!((positions(&taken), all), (vec![(MILLION + 2, 1), (MILLION + 4, 1)], 3));
    let (taken, _, all) = take(&mut queue, 2, 10);
    assert_eq!((taken.len(), all), (0, 0));
    queue.ack(0, 1);
    let (taken, _, all) = take(&mut queue, 2, MILLION);
    assert_eq!((taken.iter().map(|it| u64::from(it.count)).sum::<u64>(), all), (MILLION, 0));
    assert_eq!((taken.first().map(|it| it.position), queue.ready()), (Some(1), 1));
}

#[test]
fn what_a_filter_left_is_looked_at_once_for_each_new_filter() {
    let account = Account::default();
    let mut queue = queue(&account);
    append(&mut queue, &account, "other", 0..100_000);
    append(&mut queue, &account, "wanted", 0..1);
    let add = |queue: &mut Queue, text: &str| {
        let filter = Filter::parse(text).expect("it is one");
        let event = Event::Ready { channel: 1, consumer: 0 };
        queue.add_consumer(0, false, Some(filter), Arc::default(), event).expect("there is room for it")
    };
    let first = add(&mut queue, "attributes:wanted");
    let (taken, most, all) = take(&mut queue, first, UNLIMITED);
    assert_eq!((positions(&taken), all), (vec![(100_000, 1)], 100_001));
    assert!(most <= LOOKS, "{most} were looked at under one lock");
    let second = add(&mut queue, "attributes:wanted");
    assert_eq!(take(&mut queue, second, UNLIMITED).2, 0, "it is not new");
    let third = add(&mut queue, "attributes:else");
    assert_eq!(take(&mut queue, third, UNLIMITED).2, 100_000);
    assert_eq!(take(&mut queue, third, UNLIMITED).2, 0);
    assert_eq!(queue.ready(), 100_000);
}

#[test]
fn keys_and_lanes_that_nobody_needs_are_forgotten() {
    let account = Account::default();
    let mut queue = queue(&account);
    append(&mut queue, &account, "key", 0..100_000);
    let (mut taken, mut at) = (Vec::new(), 0);
    while at < 100_000 {
        queue.take_for(Holder::Consumer(1), 100, usize::MAX, false, &mut taken);
        for delivery in taken.drain(..) {
            queue.ack(delivery.position, delivery.count.into());
            at += u64::from(delivery.count);
        }
    }
    let known = queue.lanes.as_ref().expect("it has groups").keys.len();
    assert!(known < 5_000, "{known} keys are known, and none is in use");
    // Parked, and then dropped without anybody coming by.
    append(&mut queue, &account, "key", (0..10_000).map(|number| number % 1000));
    take(&mut queue, 1, 1000);
    take(&mut queue, 2, 1);
    let lanes = |queue: &Queue| {
        let lanes = queue.lanes.as_ref().expect("it has groups");
        (lanes.lanes.len() - lanes.vacant.len(), lanes.indexed)
    };
    assert_eq!(lanes(&queue), (1000, 9000));
    let (mut dead, from) = (Vec::new(), 100_000 + 1000);
    for position in from..from + 9000 {
        queue.expire(position, 1, &mut dead);
    }
    assert_eq!((queue.ready(), dead.len()), (0, 9000));
    let (left, indexed) = lanes(&queue);
    assert!(left <= 1000 && indexed <= 1024, "{left} lanes with {indexed} positions are left");
    assert_eq!(take(&mut queue, 2, 1).0.len(), 0);
}
