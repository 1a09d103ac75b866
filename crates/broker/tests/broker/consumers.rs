//! Who gets which message: prefetch, rotation, priorities, exclusive and cancelled consumers.

use crate::script::check;
use expect_test::expect;

#[test]
fn a_consumer_gets_what_is_there_and_what_comes() {
    check(
        "declare q; publish q a b; consume q as c; pull; publish q d e; pull; pull; unacked",
        expect![[r#"
        pull -> c: a(1) b(2)
        pull -> c: d(3) e(4)
        pull -> nothing
        unacked -> 4
    "#]],
    );
    check(
        "declare q; publish q a b; consume q as c no-ack; pull; unacked; ack 1; declare q passive; memory",
        expect![[r#"
        pull -> c: a(1) b(2)
        unacked -> 0
        ack 1 -> Channel 406 unknown delivery tag 1
        declare q passive -> q: 0 ready, 1 consumers
        memory -> 0 bytes
    "#]],
    );
}

#[test]
fn generated_tags() {
    check(
        "declare q; consume q; consume q",
        expect![[r#"
        consume q -> amq.ctag-BAAAAAAAAAAAAAAAAAAAAA
        consume q -> amq.ctag-CAAAAAAAAAAAAAAAAAAAAA
    "#]],
    );
}

#[test]
fn tags_are_unique_on_a_channel() {
    check(
        "declare q; consume q as c; consume q as c; 1.2: consume q as c; cancel c; consume q as c; cancel unknown",
        expect![[r#"
        consume q as c -> Connection 530 attempt to reuse consumer tag 'c'
    "#]],
    );
}

#[test]
fn prefetch_per_consumer() {
    check(
        "declare q; publish q a b c d e f; consume q as x prefetch 2; consume q as y prefetch 1; pull
         ack 1; pull; ack 3; ack 2; pull; unacked",
        expect![[r#"
            pull -> x: a(1) b(2), y: c(3)
            pull -> x: d(4)
            pull -> y: e(5), x: f(6)
            unacked -> 3
        "#]],
    );
}

#[test]
fn prefetch_per_channel() {
    check(
        "declare q; declare r; publish q a b c; publish r d e f; qos 3 global; consume q as x; consume r as y prefetch 2; pull
         unacked; ack 1; pull; ack 4 multiple; pull; unacked; qos 0 global; pull; unacked",
        expect![[r#"
            pull -> x: a(1) b(2) c(3)
            unacked -> 3
            pull -> y: d(4)
            pull -> y: e(5) f(6)
            unacked -> 2
            pull -> nothing
            unacked -> 2
        "#]],
    );
    // One channel's consumers share it, another channel's do not.
    check(
        "declare q; publish q a b c d; qos 1 global; consume q as x; 1.2: qos 2 global; 1.2: consume q as y; pull",
        expect![[r#"
        pull -> x: a(1), y: b(1) c(2)
    "#]],
    );
}

#[test]
fn qos_affects_new_consumers_only() {
    check(
        "declare q; publish q a b c d e f; consume q as x prefetch 1; pull; qos 3; pull; ack 1; pull; consume q as y; pull",
        expect![[r#"
        pull -> x: a(1)
        pull -> nothing
        pull -> x: b(2)
        pull -> y: c(3) d(4) e(5)
    "#]],
    );
}

#[test]
fn qos_of_a_client_that_relies_on_it_is_live() {
    check(
        "live-prefetch; declare q; publish q a b c d e f; consume q as x prefetch 1; pull; qos 3; pull; qos 1; ack 1; ack 2; pull; ack 3; pull",
        expect![[r#"
            pull -> x: a(1)
            pull -> x: b(2) c(3)
            pull -> nothing
            pull -> x: d(4)
        "#]],
    );
}

#[test]
fn a_smaller_prefetch_takes_grants_back() {
    check(
        "live-prefetch; declare q; consume q as x prefetch 5; publish q a b c d e; qos 2; 2: consume q as y; pull",
        expect![[r#"
            pull -> x: a(1) b(2), 2:y: c(1) d(2) e(3)
        "#]],
    );
}

#[test]
fn no_ack_has_no_prefetch() {
    check(
        "declare q; publish q a b c; consume q as x prefetch 1 no-ack; pull",
        expect![[r#"
        pull -> x: a(1) b(2) c(3)
    "#]],
    );
}

#[test]
fn rotation() {
    check(
        "declare q; consume q as x; consume q as y; publish q 0; publish q 1; publish q 2; publish q 3; publish q 4
         publish q 5; publish q 6; publish q 7; publish q 8; publish q 9; pull",
        expect![[r#"
            pull -> x: 0(1) 1(2) 2(3) 3(4) 4(5), y: 5(6) 6(7) 7(8) 8(9) 9(10)
        "#]],
    );
    check(
        "declare q; consume q as x; consume q as y; publish q 0 1 2 3 4 5 6 7 8 9; pull",
        expect![[r#"
        pull -> x: 0(1) 1(2) 2(3) 3(4) 4(5), y: 5(6) 6(7) 7(8) 8(9) 9(10)
    "#]],
    );
    check(
        "declare q; consume q as x; 2: consume q as y; publish q 0 1 2 3 4 5 6 7 8 9; pull",
        expect![[r#"
        pull -> x: 0(1) 1(2) 2(3) 3(4) 4(5), 2:y: 5(1) 6(2) 7(3) 8(4) 9(5)
    "#]],
    );
}

#[test]
fn rotation_when_each_is_pulled_at_once() {
    check(
        "declare q; consume q as x; 2: consume q as y; publish q 0; pull; publish q 1; pull; publish q 2; pull; publish q 3; pull",
        expect![[r#"
            pull -> x: 0(1)
            pull -> 2:y: 1(1)
            pull -> x: 2(2)
            pull -> 2:y: 3(2)
        "#]],
    );
}

#[test]
fn priorities() {
    check(
        "declare q; consume q as low x-priority=-1; consume q as high prefetch 2 x-priority=5; consume q as normal prefetch 1
         publish q a b c d e; pull; ack 1; publish q f; pull; consume q as bad x-priority=text",
        expect![[r#"
            pull -> high: a(1) b(2), normal: c(3), low: d(4) e(5)
            pull -> high: f(6)
            consume q as bad x-priority=text -> Channel 406 invalid arg 'x-priority': expected an integer
        "#]],
    );
}

#[test]
fn exclusive_consumer() {
    check(
        "declare q; consume q as x exclusive; 2: consume q as y; 2: consume q as y exclusive; publish q a; 2: get q
         cancel x; 2: consume q as y; consume q as x exclusive; 2: consume q as z",
        expect![[r#"
            2: consume q as y -> Channel 403 queue 'q' in vhost '/' in exclusive use
            2: consume q as y exclusive -> Channel 403 queue 'q' in vhost '/' in exclusive use
            2: get q -> a(1), 0 left
            consume q as x exclusive -> Channel 403 queue 'q' in vhost '/' in exclusive use
        "#]],
    );
}

#[test]
fn cancel_keeps_unacked() {
    check(
        "declare q; publish q a b c; consume q as x prefetch 2; pull; cancel x; unacked; declare q passive; ack 1; nack 2 requeue; get q; get q",
        expect![[r#"
            pull -> x: a(1) b(2)
            unacked -> 2
            declare q passive -> q: 1 ready, 0 consumers
            get q -> b(3)!, 1 left
            get q -> c(4), 0 left
        "#]],
    );
}

#[test]
fn cancel_gives_grants_to_others() {
    check(
        "declare q; consume q as x; publish q a b c; 2: consume q as y; cancel x; pull",
        expect![[r#"
        pull -> 2:y: a(1) b(2) c(3)
    "#]],
    );
    check(
        "declare q; consume q as x; publish q a b c; 1.2: close; close; declare q passive; 2: consume q as y; pull",
        expect![[r#"
        declare q passive -> q: 3 ready, 0 consumers
        pull -> 2:y: a(1) b(2) c(3)
    "#]],
    );
}

#[test]
fn cancel_notification() {
    check(
        "declare q; consume q as x; 2: consume q as y; 2.2: consume q as z; publish q a; delete q; pull; pull; 2: cancel y; consume missing",
        expect![[r#"
            delete q -> 1 deleted
            pull -> x cancelled, 2:y cancelled, 2:z cancelled
            pull -> nothing
            consume missing -> Channel 404 no queue 'missing' in vhost '/'
        "#]],
    );
    check(
        "declare q exclusive; consume q as x; 1.2: delete q; pull; unacked",
        expect![[r#"
        1.2: delete q -> 0 deleted
        pull -> x cancelled
        unacked -> 0
    "#]],
    );
}

#[test]
fn pause_and_resume() {
    check(
        "declare q; consume q as x; pause x; publish q a; pull
         2: consume q as y; pause x; publish q b c d; pull; resume x; publish q e f; pull",
        expect![[r#"
            pause x -> not paused
            pull -> x: a(1)
            pull -> 2:y: b(1) c(2) d(3)
            pull -> x: e(2), 2:y: f(4)
        "#]],
    );
    check(
        "declare q; consume q as x prefetch 2; 2: consume q as y prefetch 1; publish q a b c; pause x; pull; ack 1; 2: ack 1; pull; resume x; pull",
        expect![[r#"
            pull -> 2:y: a(1)
            ack 1 -> Channel 406 unknown delivery tag 1
            pull -> 2:y: b(2)
            pull -> x: c(1)
        "#]],
    );
}

#[test]
fn direct_reply_to() {
    check(
        "declare rpc; consume amq.rabbitmq.reply-to as c no-ack; publish rpc reply-to=amq.rabbitmq.reply-to ask
         2: get rpc no-ack; 2: declare amq.rabbitmq.reply-to.BAAAAAAAAAAAAAAAAAAAAA passive
         2: publish amq.rabbitmq.reply-to.BAAAAAAAAAAAAAAAAAAAAA answer; pull
         cancel c; 2: publish mandatory amq.rabbitmq.reply-to.BAAAAAAAAAAAAAAAAAAAAA late",
        expect![[r#"
            2: get rpc no-ack -> ask<amq.rabbitmq.reply-to.BAAAAAAAAAAAAAAAAAAAAA>(1), 0 left
            2: declare amq.rabbitmq.reply-to.BAAAAAAAAAAAAAAAAAAAAA passive -> amq.rabbitmq.reply-to.BAAAAAAAAAAAAAAAAAAAAA: 0 ready, 1 consumers
            pull -> c: answer(1)
            2: publish mandatory amq.rabbitmq.reply-to.BAAAAAAAAAAAAAAAAAAAAA late -> returned late
        "#]],
    );
    check(
        "declare rpc; publish rpc reply-to=amq.rabbitmq.reply-to ask; consume amq.rabbitmq.reply-to as c
         consume amq.rabbitmq.reply-to as c no-ack; consume amq.rabbitmq.reply-to as d no-ack
         1.2: publish rpc reply-to=amq.rabbitmq.reply-to ask; close; 2: declare amq.rabbitmq.reply-to.BAAAAAAAAAAAAAAAAAAAAA passive",
        expect![[r#"
            publish rpc reply-to=amq.rabbitmq.reply-to ask -> Channel 406 fast reply consumer does not exist
            consume amq.rabbitmq.reply-to as c -> Channel 406 reply consumer cannot acknowledge
            consume amq.rabbitmq.reply-to as d no-ack -> Channel 406 reply consumer already set
            1.2: publish rpc reply-to=amq.rabbitmq.reply-to ask -> Channel 406 fast reply consumer does not exist
            2: declare amq.rabbitmq.reply-to.BAAAAAAAAAAAAAAAAAAAAA passive -> Channel 404 no queue 'amq.rabbitmq.reply-to.BAAAAAAAAAAAAAAAAAAAAA' in vhost '/'
        "#]],
    );
}

/// What a consumer was granted and somebody else took is not waited for.
#[test]
fn get_takes_what_was_granted() {
    check(
        "declare q; consume q as x; publish q a b; 2: get q; pull; publish q c; pull; 2: get q",
        expect![[r#"
        2: get q -> a(1), 1 left
        pull -> x: b(1)
        pull -> x: c(2)
        2: get q -> empty
    "#]],
    );
    check(
        "declare q; consume q as x; publish q a b; 2: get q; 2: get q; pull; 2: nack 1 multiple requeue; 2: nack 2 requeue; pull",
        expect![[r#"
        2: get q -> a(1), 1 left
        2: get q -> b(2), 0 left
        pull -> nothing
        pull -> x: a(1)! b(2)!
    "#]],
    );
    check(
        "declare q; consume q as x; publish q a b; 2: purge q; pull; publish q c; pull",
        expect![[r#"
        2: purge q -> 2 purged
        pull -> nothing
        pull -> x: c(1)
    "#]],
    );
    check(
        "declare q; consume q as x prefetch 2; consume q as y prefetch 2; publish q a b c d; 2: get q; 2: get q; 2: get q; pull",
        expect![[r#"
        2: get q -> a(1), 3 left
        2: get q -> b(2), 2 left
        2: get q -> c(3), 1 left
        pull -> x: d(1)
    "#]],
    );
}

/// Declaring the pseudo-queue is only ever a question (RabbitMQ: "all declares to these are effectively passive").
#[test]
fn the_reply_queue_may_be_declared() {
    check(
        "declare amq.rabbitmq.reply-to; consume amq.rabbitmq.reply-to as c no-ack
         2: declare amq.rabbitmq.reply-to.BAAAAAAAAAAAAAAAAAAAAA durable; 2: declare amq.rabbitmq.reply-to.other",
        expect![[r#"
            2: declare amq.rabbitmq.reply-to.other -> Channel 404 no queue 'amq.rabbitmq.reply-to.other' in vhost '/'
        "#]],
    );
}
