//! The ledger must be able to fail: each broken promise is shown to it and has to be named.

use expect_test::{Expect, expect};

use super::*;
use crate::crash::account::{Built, Receipt, Sent};
use crate::crash::topology::{AUTO, DIRECT, FANOUT, Route, TX_IN, TX_ROUTES, to};

const TO_DIRECT: Route = to(&[DIRECT]);
const TO_AUTO: Route = to(&[AUTO]);
const TO_TX_IN: Route = to(&[TX_IN]);

fn id(sequence: u64) -> Id {
    Id::new(1, sequence)
}

fn sent(sequence: u64, route: Route, at: u64, confirmed: bool) -> Sent {
    Sent { id: id(sequence), route, persistent: true, at, confirmed }
}

fn seen(queue: usize, sequence: u64, at: u64, fate: Fate) -> Seen {
    Seen { queue, consumer: 1, id: id(sequence), redelivered: false, at, fate }
}

fn found(sequence: u64) -> Found {
    Found { id: id(sequence), redelivered: false }
}

fn flagged(sequence: u64) -> Found {
    Found { redelivered: true, ..found(sequence) }
}

/// Publishes 0, 1 and 2 to the direct queue at the times 10, 11 and 12; 2 isn't confirmed.
fn three() -> Account {
    Account { sent: (0..3).map(|n| sent(n, TO_DIRECT, 10 + n, n < 2)).collect(), ..Account::default() }
}

/// Takes in an account, and shows the ledger what is in the queues; the others are empty.
fn check(account: Account, queues: &[(usize, &[Found])], expected: Expect) {
    let (mut ledger, mut findings) = (Ledger::default(), Findings::default());
    ledger.absorb(&[account], &mut findings);
    restart(&mut ledger, queues, &mut findings);
    expected.assert_eq(&words(&findings));
}

fn restart(ledger: &mut Ledger, queues: &[(usize, &[Found])], findings: &mut Findings) {
    for queue in 0..FIXED {
        let found = queues.iter().find(|(its, _)| *its == queue).map_or(&[][..], |(_, found)| *found);
        ledger.check(queue, found, findings);
    }
    ledger.check_transactions(findings);
    ledger.settle(&(0..FIXED).collect::<Vec<_>>(), 1000);
}

fn words(findings: &Findings) -> String {
    findings.kept.iter().map(|finding| format!("{finding}\n")).collect()
}

#[test]
fn an_unconfirmed_message_may_be_there_or_not() {
    check(three(), &[(DIRECT, &[found(0), found(1), found(2)])], expect![""]);
    check(three(), &[(DIRECT, &[found(0), found(1)])], expect![""]);
}

#[test]
fn a_confirmed_message_that_is_gone_is_lost() {
    check(
        three(),
        &[(DIRECT, &[found(0)])],
        expect![[r#"
        lost: 1:1 in direct.0: confirmed, and not there
    "#]],
    );
    let one_of_five: Vec<(usize, &[Found])> = Vec::new();
    let account = Account { sent: vec![sent(0, FANOUT, 10, true)], ..Account::default() };
    check(
        account,
        &one_of_five,
        expect![[r#"
        lost: 1:0 in fan.0: confirmed, and not there
        lost: 1:0 in fan.1: confirmed, and not there
        lost: 1:0 in fan.2: confirmed, and not there
        lost: 1:0 in fan.3: confirmed, and not there
        lost: 1:0 in fan.4: confirmed, and not there
    "#]],
    );
}

#[test]
fn a_transient_message_may_be_gone() {
    let transient = Sent { persistent: false, ..sent(0, TO_DIRECT, 10, true) };
    check(Account { sent: vec![transient], ..Account::default() }, &[], expect![""]);
}

#[test]
fn what_was_never_sent_or_comes_twice_or_damaged_is_a_ghost() {
    let mut account = three();
    account.damaged.push((DIRECT, "the body of 1:0, 16 bytes, differs at byte 3".into()));
    check(
        account,
        &[(DIRECT, &[found(0), found(0), found(1), found(7)]), (AUTO, &[found(1)])],
        expect![[r#"
        ghost: direct.0: delivered, but the body of 1:0, 16 bytes, differs at byte 3
        ghost: 1:0 in direct.0: there twice
        ghost: 1:7 in direct.0: there, but it was never sent
        ghost: 1:1 in auto: there, but it was settled, taken back, or sent elsewhere
    "#]],
    );
}

#[test]
fn messages_come_in_the_order_of_publishing() {
    check(
        three(),
        &[(DIRECT, &[found(1), found(0), found(2)])],
        expect![[r#"
        order: 1:0 in direct.0: comes after 1:1
    "#]],
    );
    let delivered = [1, 0].map(|n| seen(DIRECT, n, 20 + n, Fate::Held)).to_vec();
    check(
        Account { seen: delivered, ..three() },
        &[(DIRECT, &[found(0), found(1)])],
        expect![[r#"
        order: 1:0 in direct.0: delivered after 1:1
    "#]],
    );
}

#[test]
fn an_ack_is_certain_when_a_confirm_came_for_what_was_sent_behind_its_receipt() {
    let acked = |confirmed_at: Option<u64>| {
        let mut account = Account { seen: vec![seen(DIRECT, 0, 12, Fate::Acked(1))], ..three() };
        account.receipts.extend(confirmed_at.map(|at| Receipt { acks: 1, at }));
        account.sent.push(sent(3, TO_DIRECT, 30, true));
        account
    };
    let with = [flagged(0), found(1), found(3)];
    let without = [found(1), found(3)];
    // On its way: both are right.
    check(acked(None), &[(DIRECT, &with)], expect![""]);
    check(acked(None), &[(DIRECT, &without)], expect![""]);
    // Taken, but nothing is known to be durable behind it.
    check(acked(Some(31)), &[(DIRECT, &with)], expect![""]);
    check(acked(Some(29)), &[(DIRECT, &without)], expect![""]);
    check(
        acked(Some(29)),
        &[(DIRECT, &with)],
        expect![[r#"
        ghost: 1:0 in direct.0: there, but its acknowledgement was durable
    "#]],
    );
}

#[test]
fn a_delivery_before_a_durable_moment_is_flagged_behind_the_crash() {
    let at = |time| Account { seen: vec![seen(DIRECT, 0, time, Fate::Requeued)], ..three() };
    check(at(10), &[(DIRECT, &[flagged(0), found(1)])], expect![""]);
    check(
        at(10),
        &[(DIRECT, &[found(0), found(1)])],
        expect![[r#"
        flag: 1:0 in direct.0: delivered before, but not flagged redelivered
    "#]],
    );
    check(at(11), &[(DIRECT, &[found(0), found(1)])], expect![""]);
}

#[test]
fn flags_and_acks_are_checked_while_the_broker_lives() {
    let first_is_flagged = Seen { redelivered: true, ..seen(DIRECT, 0, 20, Fate::Requeued) };
    let again_unflagged = seen(DIRECT, 0, 21, Fate::Acked(1));
    let behind_its_ack = Seen { redelivered: true, ..seen(DIRECT, 0, 22, Fate::Held) };
    let account = Account { seen: vec![first_is_flagged, again_unflagged, behind_its_ack], ..three() };
    check(
        account,
        &[(DIRECT, &[found(0), found(1)])],
        expect![[r#"
        flag: 1:0 in direct.0: flagged redelivered at its first delivery
        flag: 1:0 in direct.0: delivered again, but not flagged redelivered
        ghost: 1:0 in direct.0: delivered again after its acknowledgement
    "#]],
    );
}

#[test]
fn an_automatic_consumer_takes_from_the_front_and_leaves_no_hole() {
    let exposed = || Account {
        sent: (0..4).map(|n| sent(n, TO_AUTO, 10 + n, true)).collect(),
        exposed: Some(AUTO),
        ..Account::default()
    };
    check(exposed(), &[], expect![""]);
    check(exposed(), &[(AUTO, &[found(2), found(3)])], expect![""]);
    check(
        exposed(),
        &[(AUTO, &[found(1), found(3)])],
        expect![[r#"
        lost: 1:2 in auto: confirmed, and not there, although 1:1 is
    "#]],
    );
    let ended = Account { exposed: None, seen: vec![seen(AUTO, 0, 9, Fate::Automatic)], ..exposed() };
    check(
        ended,
        &[(AUTO, &[found(2), found(3)])],
        expect![[r#"
        lost: 1:1 in auto: confirmed, and not there
    "#]],
    );
}

/// Message 0 of publisher 1 is what the transaction of publisher 2 acknowledges.
fn transaction(outcome: Outcome) -> Account {
    Account {
        sent: vec![sent(0, TO_TX_IN, 10, true)],
        seen: vec![seen(TX_IN, 0, 15, Fate::InTransaction(0))],
        transactions: vec![Transaction { input: id(0), first: Id::new(2, 0), at: 16, outcome }],
        ..Account::default()
    }
}

/// Its outputs in the first `count` of the five queues.
fn outputs(count: usize) -> Vec<(usize, Vec<Found>)> {
    let output = |n: usize| (TX_ROUTES[n].queues[0], vec![Found { id: Id::new(2, n as u64), redelivered: false }]);
    (0..count).map(output).collect()
}

fn check_transaction(account: Account, outputs: &[(usize, Vec<Found>)], input: &[Found], expected: Expect) {
    let mut queues: Vec<(usize, &[Found])> = outputs.iter().map(|(queue, found)| (*queue, &found[..])).collect();
    queues.push((TX_IN, input));
    check(account, &queues, expected);
}

#[test]
fn an_unanswered_transaction_happened_or_not() {
    check_transaction(transaction(Outcome::Open), &outputs(5), &[], expect![""]);
    check_transaction(transaction(Outcome::Open), &[], &[found(0)], expect![""]);
}

#[test]
fn half_a_transaction_is_found() {
    check_transaction(
        transaction(Outcome::Open),
        &outputs(4),
        &[],
        expect![[r#"
        half: 2:4 in tx.4: the transaction 2:0+5 on 1:0, not answered: it is missing, although others are there or were seen
    "#]],
    );
    check_transaction(
        transaction(Outcome::Open),
        &outputs(5),
        &[found(0)],
        expect![[r#"
        half: 1:0 in tx.in: the transaction 2:0+5 on 1:0, not answered: its messages are there, and what it acknowledged is, too
    "#]],
    );
    check_transaction(
        transaction(Outcome::Open),
        &[],
        &[],
        expect![[r#"
        half: 1:0 in tx.in: the transaction 2:0+5 on 1:0, not answered: none of its messages is there, and what it acknowledged is gone
    "#]],
    );
}

#[test]
fn a_committed_transaction_is_there() {
    check_transaction(transaction(Outcome::Committed), &outputs(5), &[], expect![""]);
    check_transaction(
        transaction(Outcome::Committed),
        &outputs(1)[..],
        &[flagged(0)],
        expect![[r#"
        ghost: 1:0 in tx.in: there, but its acknowledgement was durable
        lost: 2:1 in tx.1: confirmed, and not there
        lost: 2:2 in tx.2: confirmed, and not there
        lost: 2:3 in tx.3: confirmed, and not there
        lost: 2:4 in tx.4: confirmed, and not there
        half: 2:1 in tx.1: the transaction 2:0+5 on 1:0, committed: it is missing, although others are there or were seen
        half: 2:2 in tx.2: the transaction 2:0+5 on 1:0, committed: it is missing, although others are there or were seen
        half: 2:3 in tx.3: the transaction 2:0+5 on 1:0, committed: it is missing, although others are there or were seen
        half: 2:4 in tx.4: the transaction 2:0+5 on 1:0, committed: it is missing, although others are there or were seen
        half: 1:0 in tx.in: the transaction 2:0+5 on 1:0, committed: its messages are there, and what it acknowledged is, too
    "#]],
    );
}

#[test]
fn a_transaction_that_was_seen_happened() {
    let mut account = transaction(Outcome::Open);
    let first = Seen { id: Id::new(2, 0), ..seen(TX_OUT, 0, 20, Fate::Acked(1)) };
    account.seen.push(first);
    check_transaction(
        account,
        &[],
        &[found(0)],
        expect![[r#"
        half: 2:1 in tx.1: the transaction 2:0+5 on 1:0, not answered: it is missing, although others are there or were seen
        half: 2:2 in tx.2: the transaction 2:0+5 on 1:0, not answered: it is missing, although others are there or were seen
        half: 2:3 in tx.3: the transaction 2:0+5 on 1:0, not answered: it is missing, although others are there or were seen
        half: 2:4 in tx.4: the transaction 2:0+5 on 1:0, not answered: it is missing, although others are there or were seen
        half: 1:0 in tx.in: the transaction 2:0+5 on 1:0, not answered: its messages are there, and what it acknowledged is, too
    "#]],
    );
}

#[test]
fn what_was_rolled_back_is_a_ghost() {
    check_transaction(
        transaction(Outcome::RolledBack),
        &outputs(1),
        &[found(0)],
        expect![[r#"
        ghost: 2:0 in tx.0: there, but it was settled, taken back, or sent elsewhere
    "#]],
    );
}

#[test]
fn what_a_check_found_has_to_stay() {
    let (mut ledger, mut findings) = (Ledger::default(), Findings::default());
    ledger.absorb(&[three()], &mut findings);
    restart(&mut ledger, &[(DIRECT, &[found(0), found(1), found(2)])], &mut findings);
    assert_eq!(ledger.len(DIRECT), 3);
    ledger.acknowledged(DIRECT, &[id(0)], None);
    ledger.acknowledged(DIRECT, &[id(1)], Some(1001));
    // 1's acknowledgement may be gone, since nothing was confirmed behind it.
    ledger.absorb(&[], &mut findings);
    restart(&mut ledger, &[(DIRECT, &[flagged(1), flagged(2)])], &mut findings);
    assert_eq!(words(&findings), "");
    ledger.absorb(&[], &mut findings);
    restart(&mut ledger, &[(DIRECT, &[flagged(0), flagged(1)])], &mut findings);
    expect![[r#"
        ghost: 1:0 in direct.0: there, but it was settled, taken back, or sent elsewhere
        lost: 1:2 in direct.0: confirmed, and not there
    "#]]
    .assert_eq(&words(&findings));
}

/// Shows the ledger a slot; each queue that had its name published one message, confirmed or not, at 50.
fn check_slot(eras: &[(bool, Built)], found: Option<&[Found]>, expected: Expect) {
    let mut account = three();
    account.sent.push(sent(3, TO_DIRECT, 100, true));
    for (confirmed, built) in eras {
        let nowhere = Route { queues: &[], ..TO_DIRECT };
        let index = account.sent.len();
        account.sent.push(sent(index as u64, nowhere, 50, *confirmed));
        account.built.push(Built { messages: vec![index], ..built.clone() });
    }
    let (mut ledger, mut findings) = (Ledger::default(), Findings::default());
    ledger.absorb(&[account], &mut findings);
    ledger.check_slot(0, found, &mut findings);
    expected.assert_eq(&words(&findings));
}

#[test]
fn queues_come_and_go_as_the_broker_said() {
    let built = |delete_sent, deleted| Built { declared: Some(10), delete_sent, deleted, ..Built::default() };
    let (standing, being_deleted) = (built(false, None), built(true, None));
    let (deleted, deleted_late) = (built(true, Some(60)), built(true, Some(101)));
    // The message of the first queue is 4, that of the second 5.
    check_slot(&[(true, standing.clone())], Some(&[found(4)]), expect![""]);
    check_slot(&[(false, standing.clone())], Some(&[]), expect![""]);
    check_slot(&[(true, being_deleted.clone())], None, expect![""]);
    check_slot(&[(true, being_deleted)], Some(&[found(4)]), expect![""]);
    check_slot(&[(true, deleted.clone())], None, expect![""]);
    check_slot(&[(true, deleted_late.clone())], Some(&[found(4)]), expect![""]);
    check_slot(&[(true, deleted.clone()), (true, standing.clone())], Some(&[found(5)]), expect![""]);

    check_slot(
        &[(true, standing.clone())],
        None,
        expect![[r#"
        lost: slot.0: the queue is gone, and nobody deleted it; it had 1 messages
    "#]],
    );
    check_slot(
        &[(true, standing.clone())],
        Some(&[]),
        expect![[r#"
        lost: 1:4 in slot.0: confirmed, and not there
    "#]],
    );
    check_slot(
        &[(true, deleted.clone())],
        Some(&[]),
        expect![[r#"
        ghost: slot.0: the queue was deleted, and is back with 0 messages
    "#]],
    );
    check_slot(
        &[(true, deleted), (true, standing.clone())],
        Some(&[found(4), found(5)]),
        expect![[r#"
        ghost: 1:4 in slot.0: there, but it was settled, taken back, or sent elsewhere
    "#]],
    );
    check_slot(
        &[(true, deleted_late), (true, standing)],
        Some(&[found(4)]),
        expect![[r#"
        ghost: 1:4 in slot.0: there, but it was settled, taken back, or sent elsewhere
        lost: 1:5 in slot.0: confirmed, and not there
    "#]],
    );
    check_slot(
        &[],
        Some(&[found(1)]),
        expect![[r#"
        ghost: slot.0: the queue was deleted, and is back with 1 messages
    "#]],
    );
}
