//! Policies: which counts, and what it does to queues and exchanges that are in use.

use crate::script::{broker_at, check, check_durable, check_with};
use expect_test::expect;
use leveret_broker::Limits;
use std::sync::Arc;

#[test]
fn the_highest_priority_counts_and_what_was_declared_stays() {
    check(
        "declare orders; declare other
         policy low ^ord max-length=5; policy high ders$ priority 3 max-length-bytes=9; policies orders; policies other
         policy tie orders priority 3 message-ttl=9; policies orders
         no-policy tie; policies orders; no-policy high; policies orders; no-policy high
         policy low ^oth max-length=7; policies orders; policies other
         declare orders; declare orders x-max-length=7",
        expect![[r#"
            policies orders -> policy high max-length-bytes=9
            policies other -> none
            policies orders -> policy tie message-ttl=9
            policies orders -> policy high max-length-bytes=9
            policies orders -> policy low max-length=5
            no-policy high -> there is none
            policy low ^oth max-length=7 -> replaced
            policies orders -> none
            policies other -> policy low max-length=7
            declare orders x-max-length=7 -> Channel 406 inequivalent arg 'x-max-length' for queue 'orders' in vhost '/': received the value '7' of type 'long' but current is none
        "#]],
    );
}

#[test]
fn a_policy_is_for_what_it_is_said_to_be_for() {
    check(
        "declare c; declare q durable x-queue-type=quorum; exchange e direct
         policy all . for all max-length=1; policies c; policies q; exchange-policies e; exchange-policies amq.direct
         policy all . for queues max-length=1; policies c; policies q; exchange-policies e
         policy all . for exchanges alternate-exchange=x; policies c; exchange-policies e
         policy all . for classic_queues delivery-limit=1; policies c; policies q; exchange-policies e
         policy all . for quorum_queues max-length=1; policies c; policies q
         policy all . for streams max-length=1; policies c; policies q
         policy all . delivery-limit=1; policies c; policies q
         policy all . queue-mode=lazy; policies c; policies q
         policy all . for lakes max-length=1",
        expect![[r#"
            policies c -> policy all max-length=1
            policies q -> policy all max-length=1
            exchange-policies e -> policy all max-length=1
            exchange-policies amq.direct -> policy all max-length=1
            policy all . for queues max-length=1 -> replaced
            policies c -> policy all max-length=1
            policies q -> policy all max-length=1
            exchange-policies e -> none
            policy all . for exchanges alternate-exchange=x -> replaced
            policies c -> none
            exchange-policies e -> policy all alternate-exchange=x
            policy all . for classic_queues delivery-limit=1 -> replaced
            policies c -> policy all delivery-limit=1
            policies q -> none
            exchange-policies e -> none
            policy all . for quorum_queues max-length=1 -> replaced
            policies c -> none
            policies q -> policy all max-length=1
            policy all . for streams max-length=1 -> replaced
            policies c -> none
            policies q -> none
            policy all . delivery-limit=1 -> replaced
            policies c -> none
            policies q -> policy all delivery-limit=1
            policy all . queue-mode=lazy -> replaced
            policies c -> policy all queue-mode=lazy
            policies q -> none
            policy all . for lakes max-length=1 -> apply-to 'lakes' unrecognised; should be one of: 'queues', 'classic_queues', 'quorum_queues', 'streams', 'exchanges', or 'all'
        "#]],
    );
}

#[test]
fn what_is_wrong_with_a_policy_is_told() {
    check(
        "policy p ( max-length=1; policy p a; policy p a nonsense=1 other=x; policy p a max-length=-1
         policy p a operator overflow=drop-head; policy p a group-header=h
         policy p ^(?!amq\\.).*$ max-length=1; declare q; declare r exclusive; policies q; policies r",
        expect![[r#"
            policy p ( max-length=1 -> pattern should be regular expression but is invalid: "Parsing error at position 1: Opening parenthesis without closing parenthesis"
            policy p a -> no policy provided
            policy p a nonsense=1 other=x -> [{<<"nonsense">>,1},{<<"other">>,<<"x">>}] are not recognised policy settings
            policy p a max-length=-1 -> -1 is not a valid maximum length
            policy p a operator overflow=drop-head -> [{<<"overflow">>,<<"drop-head">>}] are not recognised policy settings
            policy p a group-header=h -> [{<<"group-header">>,<<"h">>}] are not recognised policy settings
            policies q -> policy p max-length=1
            policies r -> policy p max-length=1
        "#]],
    );
    let limits = Limits { max_policies: 1, max_entry_size: 100, ..Limits::default() };
    check_with(
        limits,
        "policy a a max-length=1; policy a b max-length=2; policy b b max-length=1; policy b b operator max-length=1
         policy a aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa max-length=1",
        expect![[r#"
            policy a b max-length=2 -> replaced
            policy b b max-length=1 -> 406 - cannot have more than 1 policies; the broker's limit is max_policies
            policy a aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa max-length=1 -> 406 - an entry of 158 bytes is larger than the broker's limit max_entry_size, 100
        "#]],
    );
}

/// As RabbitMQ 3.10.8 was seen to do it.
#[test]
fn the_operators_limits_and_the_queues_own_hold_beside_it() {
    check(
        "declare m x-max-length=10 x-message-ttl=60000 x-overflow=drop-head x-dead-letter-exchange=a
         policy up ^m$ max-length=5 message-ttl=70000 overflow=reject-publish expires=90000 dead-letter-exchange=p
         policy op ^m$ operator max-length=7 message-ttl=50000 max-length-bytes=1000
         policies m; publish m 0 1 2 3 4 5 6 7; declare m passive; get m
         no-policy up; policies m; publish m 8 9 10 11; declare m passive; no-policy op operator; policies m
         publish m 12 13 14 15; declare m passive",
        expect![[r#"
            policies m -> policy up operator op overflow=reject-publish expires=90000 dead-letter-exchange=p max-length=5 message-ttl=50000 max-length-bytes=1000
            declare m passive -> m: 5 ready, 0 consumers
            get m -> 3(1), 4 left
            policies m -> operator op max-length=7 message-ttl=50000 max-length-bytes=1000
            declare m passive -> m: 7 ready, 0 consumers
            policies m -> none
            declare m passive -> m: 10 ready, 0 consumers
        "#]],
    );
}

#[test]
fn a_limit_drops_what_is_too_much_at_once() {
    check(
        "declare dead; declare l x-dead-letter-exchange= x-dead-letter-routing-key=dead; publish l 0 1 2 3 4 5
         policy len ^l$ max-length=2; declare l passive; get dead; publish l 6; declare l passive
         policy len ^l$ max-length=9; publish l 7 8; declare l passive
         no-policy len; publish l a b c d e f g h; declare l passive
         declare b; publish b 12345 123 1234 12; policy bytes ^b$ max-length-bytes=7; declare b passive; get b
         publish b 123; declare b passive; get b; no-policy bytes; publish b 1234567; declare b passive",
        expect![[r#"
            declare l passive -> l: 2 ready, 0 consumers
            get dead -> 0[l maxlen 1](1), 3 left
            declare l passive -> l: 2 ready, 0 consumers
            policy len ^l$ max-length=9 -> replaced
            declare l passive -> l: 4 ready, 0 consumers
            declare l passive -> l: 12 ready, 0 consumers
            declare b passive -> b: 2 ready, 0 consumers
            get b -> 1234(2), 1 left
            declare b passive -> b: 2 ready, 0 consumers
            get b -> 12(3), 1 left
            declare b passive -> b: 2 ready, 0 consumers
        "#]],
    );
}

#[test]
fn a_limit_refuses_what_is_too_much_from_now_on() {
    check(
        "declare q; confirm; publish q 1 2 3; policy len ^q$ max-length=2 overflow=reject-publish; declare q passive
         publish q 4; get q; get q; publish q 5; policy len ^q$ max-length=2 overflow=drop-head; publish q 6
         declare q passive; get q; no-policy len; publish q 7 8 9; declare q passive",
        expect![[r#"
            publish q 1 2 3 -> confirmed 3 multiple
            declare q passive -> q: 3 ready, 0 consumers
            publish q 4 -> refused 4
            get q -> 1(1), 2 left
            get q -> 2(2), 1 left
            publish q 5 -> confirmed 5
            policy len ^q$ max-length=2 overflow=drop-head -> replaced
            publish q 6 -> confirmed 6
            declare q passive -> q: 2 ready, 0 consumers
            get q -> 5(3), 1 left
            publish q 7 8 9 -> confirmed 9 multiple
            declare q passive -> q: 4 ready, 0 consumers
        "#]],
    );
}

#[test]
fn messages_that_are_there_expire_too_and_those_with_a_time_keep_it() {
    check(
        "declare dead; declare q; publish q old; publish q expiration=50 own; get q; advance 1000
         policy ttl ^q$ message-ttl=100 dead-letter-exchange= dead-letter-routing-key=dead
         publish q new; declare q passive; advance 60; publish q later; advance 40; declare q passive
         nack 1 requeue; advance 1; declare q passive
         no-policy ttl; publish q stays; advance 60; declare q passive; advance 1000; get q; declare dead passive",
        expect![[r#"
            get q -> old(1), 1 left
            declare q passive -> q: 1 ready, 0 consumers
            declare q passive -> q: 1 ready, 0 consumers
            declare q passive -> q: 1 ready, 0 consumers
            declare q passive -> q: 1 ready, 0 consumers
            get q -> stays(2), 0 left
            declare dead passive -> dead: 2 ready, 0 consumers
        "#]],
    );
}

#[test]
fn an_unused_queue_ends_as_its_policy_says() {
    check(
        "declare q; declare p x-expires=100; advance 90; policy e . expires=1000; advance 20; declare q passive
         declare p passive; declare p x-expires=100
         advance 990; declare q passive; advance 999; declare q passive; advance 1; declare q passive
         declare r; no-policy e; advance 5000; declare r passive
         policy e . expires=100; advance 100; declare r passive",
        expect![[r#"
            declare q passive -> q: 0 ready, 0 consumers
            declare p passive -> Channel 404 no queue 'p' in vhost '/'
            declare q passive -> q: 0 ready, 0 consumers
            declare q passive -> q: 0 ready, 0 consumers
            declare q passive -> q: 0 ready, 0 consumers
            declare r passive -> r: 0 ready, 0 consumers
            declare r passive -> Channel 404 no queue 'r' in vhost '/'
        "#]],
    );
}

#[test]
fn dead_letters_go_where_the_policy_says() {
    check(
        "declare dead; declare q; publish q 1 2 3; get q; reject 1
         policy d ^q$ dead-letter-exchange= dead-letter-routing-key=dead; get q; reject 2; get dead
         no-policy d; get q; reject 4; declare dead passive
         declare own x-dead-letter-exchange=; policy d ^own$ dead-letter-exchange=amq.direct dead-letter-routing-key=dead
         publish own 4; get own; reject 5; get dead",
        expect![[r#"
            get q -> 1(1), 2 left
            get q -> 2(2), 1 left
            get dead -> 2[q rejected 1](3), 0 left
            get q -> 3(4), 0 left
            declare dead passive -> dead: 0 ready, 0 consumers
            get own -> 4(5), 0 left
            get dead -> 4[own rejected 1](6), 0 left
        "#]],
    );
}

#[test]
fn what_comes_back_too_often_is_dead_by_the_policy() {
    check(
        "declare q; publish q 1; get q; reject 1 requeue; get q; reject 2 requeue
         policy d ^q$ for queues delivery-limit=3; policies q; policy d ^q$ for classic_queues delivery-limit=3; get q
         reject 3 requeue; get q; reject 4 requeue; declare q passive
         policy d ^q$ for classic_queues delayed-retry-min=100; publish q 2; get q; reject 5 requeue; declare q passive
         no-policy d; advance 99; get q; advance 1; get q; reject 6 requeue; get q",
        expect![[r#"
            get q -> 1(1), 0 left
            get q -> 1(2)!, 0 left
            policies q -> none
            policy d ^q$ for classic_queues delivery-limit=3 -> replaced
            get q -> 1[x-delivery-count 2](3)!, 0 left
            get q -> 1[x-delivery-count 3](4)!, 0 left
            declare q passive -> q: 0 ready, 0 consumers
            policy d ^q$ for classic_queues delayed-retry-min=100 -> replaced
            get q -> 2(5), 0 left
            declare q passive -> q: 0 ready, 1 waiting, 0 consumers
            get q -> empty
            get q -> 2(6)!, 0 left
            get q -> 2(7)!, 0 left
        "#]],
    );
}

#[test]
fn an_exchange_has_the_alternate_of_its_policy() {
    check(
        "exchange e direct; exchange own direct alternate-exchange=amq.direct; declare un; bind un amq.fanout k
         publish e/k 1; policy ae . alternate-exchange=amq.fanout; exchange-policies e; publish e/k 2; get un
         publish own/k 3; exchange late direct; publish late/k 4; get un
         no-policy ae; publish e/k 5; publish late/k 6; exchange e direct",
        expect![[r#"
            publish e/k 1 -> dropped 1
            exchange-policies e -> policy ae alternate-exchange=amq.fanout
            get un -> 2(1), 0 left
            get un -> 3(2), 1 left
            publish e/k 5 -> dropped 5
            publish late/k 6 -> dropped 6
        "#]],
    );
}

#[test]
fn policies_are_there_after_a_restart() {
    check_durable(
        "policies",
        "declare q durable; declare dead durable; exchange e direct durable; bind dead amq.fanout k
         publish persistent q 1 2 3
         policy a ^q$ max-length=2 dead-letter-exchange= dead-letter-routing-key=dead; policy b ^e$ alternate-exchange=amq.fanout
         policy c ^q$ operator message-ttl=1000; declare q passive; restart
         policies q; exchange-policies e; declare q passive; publish persistent q 4; declare q passive; publish e/k 5
         declare dead passive; no-policy a; tend; restart; policies q; exchange-policies e; publish persistent q 5 6
         declare q passive; advance 1000; declare q passive; declare r durable; policies r
         no-policy b; no-policy c operator; restart; policies q; exchange-policies e",
        expect![[r#"
            declare q passive -> q: 2 ready, 0 consumers
            policies q -> policy a operator c max-length=2 dead-letter-exchange= dead-letter-routing-key=dead message-ttl=1000
            exchange-policies e -> policy b alternate-exchange=amq.fanout
            declare q passive -> q: 2 ready, 0 consumers
            declare q passive -> q: 2 ready, 0 consumers
            declare dead passive -> dead: 3 ready, 0 consumers
            policies q -> operator c message-ttl=1000
            exchange-policies e -> policy b alternate-exchange=amq.fanout
            declare q passive -> q: 4 ready, 0 consumers
            declare q passive -> q: 0 ready, 0 consumers
            policies r -> none
            policies q -> none
            exchange-policies e -> none
        "#]],
    );
}

/// What was published before a policy, and is in its queue after it, is there by the policy's rules.
#[test]
fn a_transaction_that_began_before_a_policy_ends_by_it() {
    check(
        "declare q; 1.2: tx; 1.2: publish q a b c; policy t ^q$ message-ttl=10 max-length=2; 1.2: commit
         declare q passive; advance 10; declare q passive
         declare r; 1.2: publish r a b; policy t ^r$ max-length=1 overflow=reject-publish; 1.2: commit; declare r passive",
        expect![[r#"
            declare q passive -> q: 2 ready, 0 consumers
            declare q passive -> q: 0 ready, 0 consumers
            policy t ^r$ max-length=1 overflow=reject-publish -> replaced
            1.2: commit -> Channel 406 queue 'r' is full and has no room for the transaction: nothing of it is done
            declare r passive -> r: 0 ready, 0 consumers
        "#]],
    );
}

#[test]
fn hidden_queues_have_no_policies() {
    let clock = Arc::default();
    let broker = broker_at(&clock);
    let client = broker.connect();
    let arguments = leveret_broker::table::FieldTable::new().with("x-delayed-type", "fanout");
    let declare = leveret_broker::ExchangeDeclare {
        name: "later",
        kind: "x-delayed-message",
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: arguments.as_table(),
    };
    client.declare_exchange_with(declare).expect("a new exchange");
    let definition = leveret_broker::table::FieldTable::new().with("max-length", 0i64);
    let (name, pattern, apply_to) = ("all".to_string(), String::new(), leveret_broker::ApplyTo::All);
    let policy = leveret_broker::Policy { name, pattern, apply_to, priority: 0, definition };
    let vhost = broker.vhost("/").expect("it is there");
    assert!(vhost.set_policy(leveret_broker::PolicyKind::User, policy).expect("it is valid"));
    assert!(vhost.queue_policies("amq.delayed.later").expect("it is there").is_none());
}
