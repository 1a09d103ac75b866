//! Acknowledgement, rejection, requeueing, recovery.

use crate::script::check;
use expect_test::expect;

#[test]
fn ack() {
    check(
        "declare q; publish q a b c d; consume q as x; pull; ack 2; unacked; ack 2; ack 1; ack 3 multiple; unacked; declare q passive",
        expect![[r#"
        pull -> x: a(1) b(2) c(3) d(4)
        unacked -> 3
        ack 2 -> Channel 406 unknown delivery tag 2
        unacked -> 1
        declare q passive -> q: 0 ready, 1 consumers
    "#]],
    );
    check(
        "declare q; publish q a b c d; consume q as x; pull; ack 3 multiple; unacked; ack 0 multiple; unacked; ack 0 multiple; ack 0",
        expect![[r#"
        pull -> x: a(1) b(2) c(3) d(4)
        unacked -> 1
        unacked -> 0
        ack 0 -> Channel 406 unknown delivery tag 0
    "#]],
    );
}

/// Nothing changes when the tag is unknown, whatever else it would have covered.
#[test]
fn unknown_tags() {
    check(
        "declare q; publish q a b c; consume q as x; pull; ack 2; ack 2 multiple; ack 4 multiple; ack 9; nack 7 requeue; reject 2
         unacked; ack 1; ack 3; unacked; ack 1 multiple",
        expect![[r#"
            pull -> x: a(1) b(2) c(3)
            ack 2 multiple -> Channel 406 unknown delivery tag 2
            ack 4 multiple -> Channel 406 unknown delivery tag 4
            ack 9 -> Channel 406 unknown delivery tag 9
            nack 7 requeue -> Channel 406 unknown delivery tag 7
            reject 2 -> Channel 406 unknown delivery tag 2
            unacked -> 2
            unacked -> 0
            ack 1 multiple -> Channel 406 unknown delivery tag 1
        "#]],
    );
    check(
        "ack 1; 1.2: ack 0; 1.3: ack 0 multiple",
        expect![[r#"
        ack 1 -> Channel 406 unknown delivery tag 1
        1.2: ack 0 -> Channel 406 unknown delivery tag 0
    "#]],
    );
    // A tag of another channel is unknown on this one.
    check(
        "declare q; publish q a; get q; 1.2: ack 1; ack 1",
        expect![[r#"
        get q -> a(1), 0 left
        1.2: ack 1 -> Channel 406 unknown delivery tag 1
    "#]],
    );
}

#[test]
fn nack_and_reject() {
    check(
        "declare q; publish q a b c d; get q; get q; get q; get q; nack 2 multiple; unacked; reject 3; reject 4 requeue; get q; get q",
        expect![[r#"
        get q -> a(1), 3 left
        get q -> b(2), 2 left
        get q -> c(3), 1 left
        get q -> d(4), 0 left
        unacked -> 2
        get q -> d(5)!, 0 left
        get q -> empty
    "#]],
    );
}

#[test]
fn requeued_messages_return_to_their_place() {
    check(
        "declare q; publish q a b c d e; get q; get q; get q; nack 2 requeue; get q; nack 1 requeue; get q; nack 3 requeue; get q; get q; get q; get q",
        expect![[r#"
        get q -> a(1), 4 left
        get q -> b(2), 3 left
        get q -> c(3), 2 left
        get q -> b(4)!, 2 left
        get q -> a(5)!, 2 left
        get q -> c(6)!, 2 left
        get q -> d(7), 1 left
        get q -> e(8), 0 left
        get q -> empty
    "#]],
    );
    check(
        "declare q; publish q a b c d e; consume q as x prefetch 3; pull; nack 2 multiple requeue; pull; ack 0 multiple; pull",
        expect![[r#"
        pull -> x: a(1) b(2) c(3)
        pull -> x: a(4)! b(5)!
        pull -> x: d(6) e(7)
    "#]],
    );
    check(
        "declare q; publish q a b c; consume q as x; pull; nack 0 multiple requeue; cancel x; get q; get q; publish q d; get q; get q; get q",
        expect![[r#"
        pull -> x: a(1) b(2) c(3)
        get q -> a(4)!, 2 left
        get q -> b(5)!, 1 left
        get q -> c(6)!, 1 left
        get q -> d(7), 0 left
        get q -> empty
    "#]],
    );
}

#[test]
fn requeue_to_another_consumer() {
    check(
        "declare q; publish q a b; consume q as x prefetch 2; pull; 2: consume q as y; cancel x; nack 2 requeue; nack 1 requeue; pull",
        expect![[r#"
        pull -> x: a(1) b(2)
        pull -> 2:y: a(1)! b(2)!
    "#]],
    );
}

#[test]
fn what_a_closed_channel_held_returns() {
    check(
        "declare q; publish q a b c d; consume q as x prefetch 2; pull; ack 1; close; 2: get q; 2: get q; 2: get q; 2: get q",
        expect![[r#"
        pull -> x: a(1) b(2)
        2: get q -> b(1)!, 2 left
        2: get q -> c(2), 1 left
        2: get q -> d(3), 0 left
        2: get q -> empty
    "#]],
    );
    check(
        "declare q; publish q a b c; consume q as x; pull; 2: consume q as y; disconnect; pull",
        expect![[r#"
        pull -> x: a(1) b(2) c(3)
        pull -> 2:y: a(1)! b(2)! c(3)!
    "#]],
    );
}

#[test]
fn recover() {
    check(
        "declare q; publish q a b c; consume q as x prefetch 2; get q; pull; recover; pull; unacked; ack 1; ack 4 multiple; unacked",
        expect![[r#"
        get q -> a(1), 2 left
        pull -> x: b(2) c(3)
        pull -> x: a(4)! b(5)!
        unacked -> 2
        ack 1 -> Channel 406 unknown delivery tag 1
        unacked -> 1
    "#]],
    );
}

#[test]
fn messages_of_several_queues_on_one_channel() {
    check(
        "declare q; declare r; publish q a b; publish r c d; get q; get r; get q; get r; ack 2; nack 3 multiple requeue; unacked; ack 4; get q; get q; get r",
        expect![[r#"
            get q -> a(1), 1 left
            get r -> c(2), 1 left
            get q -> b(3), 0 left
            get r -> d(4), 0 left
            unacked -> 1
            get q -> a(5)!, 1 left
            get q -> b(6)!, 0 left
            get r -> empty
        "#]],
    );
}

#[test]
fn memory_is_given_back() {
    check(
        "declare q; publish q a b c; get q; memory; ack 1; purge q; memory",
        expect![[r#"
        get q -> a(1), 2 left
        memory -> 54 bytes
        purge q -> 2 purged
        memory -> 0 bytes
    "#]],
    );
    check(
        "declare q; declare r; bind q amq.fanout ''; bind r amq.fanout ''; publish amq.fanout/ a b; get q; get r; delete q; delete r; close; memory",
        expect![[r#"
        get q -> a(1), 1 left
        get r -> a(2), 1 left
        delete q -> 1 deleted
        delete r -> 1 deleted
        memory -> 0 bytes
    "#]],
    );
}

#[test]
fn rejected_messages_go_to_the_dead_letter_exchange() {
    check(
        "declare dead; exchange letters fanout; bind dead letters any; declare q x-dead-letter-exchange=letters
         publish q a b c d; get q; get q; get q; get q; reject 1; nack 3; ack 2; reject 4 requeue
         get dead; get dead; get dead; get q",
        expect![[r#"
            get q -> a(1), 3 left
            get q -> b(2), 2 left
            get q -> c(3), 1 left
            get q -> d(4), 0 left
            get dead -> a[q rejected 1](5), 1 left
            get dead -> c[q rejected 1](6), 0 left
            get dead -> empty
            get q -> d(7)!, 0 left
        "#]],
    );
    // To the default exchange with a key of its own: back into the same queue.
    check(
        "declare q x-dead-letter-exchange= x-dead-letter-routing-key=q; publish q a; get q; reject 1; get q",
        expect![[r#"
            get q -> a(1), 0 left
            get q -> a[q rejected 1](2), 0 left
        "#]],
    );
    // Nowhere: gone, as in RabbitMQ.
    check(
        "declare q x-dead-letter-exchange=missing; publish q a; get q; reject 1; get q; memory",
        expect![[r#"
        get q -> a(1), 0 left
        get q -> empty
        memory -> 0 bytes
    "#]],
    );
}
