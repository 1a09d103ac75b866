//! What queues were asked for holds across a killed process.

use crate::script::{check_durable, said_durable};
use expect_test::expect;

#[test]
fn messages_expire_after_a_restart_as_they_would_have() {
    check_durable(
        "expire",
        "declare q durable x-message-ttl=100; declare p durable
         publish persistent q a; publish persistent p expiration=50 b; publish persistent p c
         advance 40; restart; declare q passive; declare p passive
         advance 10; declare p passive; restart; advance 50; declare q passive; declare p passive; get p",
        expect![[r#"
            declare q passive -> q: 1 ready, 0 consumers
            declare p passive -> p: 2 ready, 0 consumers
            declare p passive -> p: 1 ready, 0 consumers
            declare q passive -> q: 0 ready, 0 consumers
            declare p passive -> p: 1 ready, 0 consumers
            get p -> c(1)!, 0 left
        "#]],
    );
}

#[test]
fn what_was_due_while_nothing_ran_is_done_at_the_start() {
    check_durable(
        "due",
        "declare dead durable; declare q durable x-message-ttl=100 x-dead-letter-exchange= x-dead-letter-routing-key=dead
         publish persistent q a b c; get q; restart; declare q passive; get dead
         set-clock 1000; restart; declare q passive; declare dead passive",
        expect![[r#"
            get q -> a(1), 2 left
            declare q passive -> q: 3 ready, 0 consumers
            get dead -> empty
            declare q passive -> q: 0 ready, 0 consumers
            declare dead passive -> dead: 3 ready, 0 consumers
        "#]],
    );
}

#[test]
fn what_expired_while_it_was_handed_out_does_not_come_back() {
    check_durable(
        "overdue",
        "declare q durable x-message-ttl=100; publish persistent q a b; get q; advance 100; declare q passive; tend
         restart; declare q passive; get q",
        expect![[r#"
            get q -> a(1), 1 left
            declare q passive -> q: 0 ready, 0 consumers
            declare q passive -> q: 0 ready, 0 consumers
            get q -> empty
        "#]],
    );
}

#[test]
fn dead_letters_are_in_one_place() {
    check_durable(
        "letters",
        "declare dead durable; declare q durable x-dead-letter-exchange= x-dead-letter-routing-key=dead x-max-length=2
         publish persistent q a b c; get q; reject 1; restart; declare q passive; get dead; get dead
         tx; get q; reject 3; restart; declare dead passive
         2:tx; 2:get q; 2:reject 1; 2:commit; restart; declare q passive; declare dead passive",
        expect![[r#"
            get q -> b(1), 1 left
            declare q passive -> q: 1 ready, 0 consumers
            get dead -> a[q maxlen 1](1), 1 left
            get dead -> b[q rejected 1](2), 0 left
            get q -> c(3)!, 0 left
            declare dead passive -> dead: 2 ready, 0 consumers
            2:get q -> c(1)!, 0 left
            declare q passive -> q: 0 ready, 0 consumers
            declare dead passive -> dead: 3 ready, 0 consumers
        "#]],
    );
}

#[test]
fn attempts_and_delays_survive() {
    check_durable(
        "attempts",
        "declare q durable x-delivery-limit=2 x-delayed-retry-min=100
         publish persistent q a; get q; reject 1 requeue; restart; declare q passive; advance 99; declare q passive; tend
         restart; advance 1; get q; reject 1 requeue; advance 200; restart; get q; reject 1 requeue; restart; declare q passive",
        expect![[r#"
            get q -> a(1), 0 left
            declare q passive -> q: 0 ready, 1 waiting, 0 consumers
            declare q passive -> q: 0 ready, 1 waiting, 0 consumers
            get q -> a[x-delivery-count 1](1)!, 0 left
            get q -> a[x-delivery-count 2](1)!, 0 left
            declare q passive -> q: 0 ready, 0 consumers
        "#]],
    );
}

#[test]
fn delayed_messages_survive_and_come_once() {
    check_durable(
        "delayed",
        "exchange e x-delayed-message durable x-delayed-type=topic; declare q durable; bind q e #
         publish persistent e/k x-delay=100 a; publish persistent e/k x-delay=50 b; publish e/k x-delay=50 transient
         restart; advance 49; get q; tend; restart; advance 1; get q no-ack; get q; restart; advance 50; get q no-ack; get q
         restart; get q; advance 1000; get q; publish persistent e/k x-delay=10 c; delete-exchange e; restart; advance 10; get q",
        expect![[r#"
            get q -> empty
            get q no-ack -> b[x-delay -50](1), 0 left
            get q -> empty
            get q no-ack -> a[x-delay -100](1), 0 left
            get q -> empty
            get q -> empty
            get q -> empty
            get q -> empty
        "#]],
    );
}

#[test]
fn limits_count_what_was_there_before() {
    check_durable(
        "limits",
        "declare q durable x-max-length-bytes=5 x-overflow=reject-publish; confirm; publish persistent q aa bb; restart
         confirm; publish persistent q cc; publish persistent q d; declare q passive",
        expect![[r#"
            publish persistent q cc -> refused 1
            declare q passive -> q: 3 ready, 0 consumers, confirmed 2
        "#]],
    );
}

#[test]
fn what_was_to_expire_in_a_transient_queue_is_nothing_to_one_after_a_restart() {
    check_durable(
        "transient-times",
        "declare t; publish t expiration=10 a; publish t expiration=20 b; publish t expiration=30 c
         publish t expiration=40 d; publish t expiration=50 e; publish t expiration=60 f; publish t expiration=70 g
         publish t expiration=80 h; publish t expiration=90 i; publish t expiration=100 j; tend; restart
         declare t; publish t a b c d e f g h i j; advance 200; declare t passive",
        expect![[r#"
            declare t passive -> t: 10 ready, 0 consumers
        "#]],
    );
}

#[test]
fn a_message_that_came_back_again_waits_for_its_last_time_only() {
    // So many that the later half of their first times is in a file by the checkpoint.
    let first: String = (1..=10).map(|tag| format!("get q; nack {tag} requeue; advance 1\n")).collect();
    let again: String = (11..=20).map(|_| "get q\n").collect();
    let script = format!(
        "declare q durable x-delayed-retry-min=100; publish persistent q a b c d e f g h i j
         {first} tend; advance 100; {again} nack 20 multiple requeue; declare q passive
         restart; advance 1; declare q passive; tend; restart; advance 198; declare q passive
         advance 1; declare q passive"
    );
    let said = said_durable("waits", &script);
    let counts: String = said.lines().filter(|line| line.contains("passive")).map(|line| format!("{line}\n")).collect();
    expect![[r#"
        declare q passive -> q: 0 ready, 10 waiting, 0 consumers
        declare q passive -> q: 0 ready, 10 waiting, 0 consumers
        declare q passive -> q: 0 ready, 10 waiting, 0 consumers
        declare q passive -> q: 10 ready, 0 consumers
    "#]]
    .assert_eq(&counts);
}
