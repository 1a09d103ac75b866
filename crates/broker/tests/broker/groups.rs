//! Message groups: a key has one consumer at a time. And filters of consumers.

use crate::script::{check, check_durable};
use expect_test::expect;

#[test]
fn a_key_has_one_consumer_at_a_time_and_other_keys_flow_beside_it() {
    check(
        "declare q x-group-header=k; consume q as a prefetch 1; 2:consume q as b prefetch 3
         publish q k=x x1; publish q k=x x2; publish q k=y y1; publish q free; publish q k=y y2; pull
         ack 1; pull; 2:ack 1; pull; 2:ack 3 multiple; pull; ack 2; pull; declare q passive",
        expect![[r#"
            pull -> a: x1[k](1), 2:b: y1[k](1) free(2) y2[k](3)
            pull -> a: x2[k](2)
            pull -> nothing
            pull -> nothing
            pull -> nothing
            declare q passive -> q: 0 ready, 2 consumers
        "#]],
    );
}

#[test]
fn what_comes_back_goes_before_what_is_behind_it_in_its_group() {
    check(
        "declare q x-group-header=k; consume q as a prefetch 1; publish q k=1 one two three; pull; nack 1 requeue; pull
         2:consume q as b prefetch 1; pull; reject 2 requeue; pull; close; pull; 2:ack 1; pull; 2:ack 2; pull; 2:ack 3
         declare q passive",
        expect![[r#"
            pull -> a: one[k](1)
            pull -> a: one[k](2)!
            pull -> nothing
            pull -> a: one[k](3)!
            pull -> 2:b: one[k](1)!
            pull -> 2:b: two[k](2)
            pull -> 2:b: three[k](3)
            declare q passive -> q: 0 ready, 1 consumers
        "#]],
    );
}

#[test]
fn a_key_whose_message_waits_for_its_next_attempt_waits_as_a_whole() {
    check(
        "declare q x-group-header=k x-delayed-retry-min=100; consume q as a prefetch 2
         publish q k=x x1 x2; publish q k=y y1; pull; nack 1 requeue; pull; ack 2; pull; publish q k=y y2; publish q k=x x3
         pull; declare q passive; ack 3; advance 100; pull; ack 4; pull; ack 5; ack 6; pull",
        expect![[r#"
            pull -> a: x1[k](1) x2[k](2)
            pull -> a: y1[k](3)
            pull -> nothing
            pull -> a: y2[k](4)
            declare q passive -> q: 1 ready, 1 waiting, 1 consumers
            pull -> a: x1[k](5)!
            pull -> a: x3[k](6)
            pull -> nothing
        "#]],
    );
}

#[test]
fn a_lost_consumer_frees_its_keys_and_a_cancelled_one_does_when_it_has_settled() {
    check(
        "declare q x-group-header=k; consume q as a prefetch 2; publish q k=x x1 x2 x3; publish q k=y y1; pull
         2:consume q as b prefetch 1; pull; cancel a; 2:ack 1; pull; ack 1; ack 2; pull; 3:consume q as c; 2:disconnect; pull",
        expect![[r#"
            pull -> a: x1[k](1) x2[k](2)
            pull -> 2:b: y1[k](1)
            pull -> nothing
            pull -> 2:b: x3[k](2)
            pull -> 3:c: x3[k](1)!
        "#]],
    );
}

#[test]
fn a_get_takes_what_is_free_and_holds_it_for_its_channel() {
    check(
        "declare q x-group-header=k; publish q k=x x1 x2; publish q k=y y1; publish q free; get q; 2:get q; 2:get q; 2:get q; get q
         1.2:get q; ack 1; 2:ack 1; nack 2 requeue; 1.2:get q; get q; 1.2:ack 1; get q no-ack
         declare p x-group-header=k; publish p k=x x1 x2; get p no-ack; 2:get p",
        expect![[r#"
            get q -> x1[k](1), 3 left
            2:get q -> y1[k](1), 2 left
            2:get q -> free(2), 1 left
            2:get q -> empty
            get q -> x2[k](2), 0 left
            1.2:get q -> empty
            1.2:get q -> x2[k](1)!, 0 left
            get q -> empty
            get q no-ack -> empty
            get p no-ack -> x1[k](3), 1 left
            2:get p -> x2[k](3), 0 left
        "#]],
    );
}

#[test]
fn a_consumer_without_acknowledgements_holds_no_key() {
    check(
        "declare q x-group-header=k; consume q as a no-ack; 2:consume q as b no-ack; publish q k=x x1; publish q k=x x2; pull
         3:get q; publish q k=x x3 x4; 3:get q; publish q k=x x5; publish q k=y y1; pull; 3:ack 1; pull",
        expect![[r#"
            pull -> a: x1[k](1), 2:b: x2[k](1)
            3:get q -> empty
            3:get q -> x3[k](1), 1 left
            pull -> a: y1[k](2)
            pull -> a: x4[k](3), 2:b: x5[k](2)
        "#]],
    );
}

#[test]
fn integers_and_texts_are_keys_and_nothing_else_is() {
    check(
        "declare q x-group-header=k; consume q as a prefetch 1; 2:consume q as b; publish q k=5 one; publish q k=5 two
         publish q k=true three four; publish q k=void five; publish q other=5 six; pull; ack 1; pull",
        expect![[r#"
            pull -> a: one[k](1), 2:b: three[k](1) four[k](2) five[k](3) six[other](4)
            pull -> a: two[k](2)
        "#]],
    );
}

#[test]
fn what_expires_is_dropped_or_purged_leaves_its_group() {
    check(
        "declare dead; declare q x-group-header=k x-max-length=4 x-dead-letter-exchange= x-dead-letter-routing-key=dead
         consume q as a prefetch 1; publish q k=x x1; pull; 2:consume q as b prefetch 1
         publish q k=x expiration=50 x2; publish q k=x x3; publish q k=x x4; pull; publish q k=x x5; publish q k=x x6; pull
         declare q passive; advance 50; publish q k=y y1; pull; declare q passive; purge q; ack 1; pull; publish q k=x x7; pull
         get dead; get dead; get dead; get dead; delete q",
        expect![[r#"
            pull -> a: x1[k](1)
            pull -> nothing
            pull -> nothing
            declare q passive -> q: 4 ready, 2 consumers
            pull -> 2:b: y1[k](1)
            declare q passive -> q: 4 ready, 2 consumers
            purge q -> 4 purged
            pull -> nothing
            pull -> a: x7[k](2)
            get dead -> x2[k, q maxlen 1 after 50](3), 0 left
            get dead -> empty
            get dead -> empty
            get dead -> empty
            delete q -> 0 deleted
        "#]],
    );
}

#[test]
fn a_group_excludes_a_single_active_consumer() {
    check(
        "declare q x-group-header=k x-single-active-consumer=true; declare q x-group-header=5; declare q x-group-header=; declare q x-group-prefetch=1; declare q x-group-header=k x-group-prefetch=0
         declare q x-group-header=k x-single-active-consumer=false; declare q x-group-header=k
         declare p durable x-queue-type=quorum x-group-header=k; publish p k=x a b; 2:get p; get p; 2:reject 1 requeue; get p",
        expect![[r#"
            declare q x-group-header=k x-single-active-consumer=true -> Channel 406 invalid arg 'x-group-header' for queue 'q' in vhost '/': it cannot be together with 'x-single-active-consumer', by which one consumer gets all messages
            declare q x-group-header=5 -> Channel 406 invalid arg 'x-group-header' for queue 'q' in vhost '/': {unacceptable_type,long}
            declare q x-group-header= -> Channel 406 invalid arg 'x-group-header' for queue 'q' in vhost '/': the name of a header has 1 to 255 bytes, and this has 0
            declare q x-group-prefetch=1 -> Channel 406 invalid arg 'x-group-prefetch' for queue 'q' in vhost '/': it needs 'x-group-header'
            declare q x-group-header=k x-group-prefetch=0 -> Channel 406 invalid arg 'x-group-prefetch' for queue 'q' in vhost '/': {value_zero,0}
            declare q x-group-header=k -> Channel 406 inequivalent arg 'x-single-active-consumer' for queue 'q' in vhost '/': received none but current is the value 'false' of type 'bool'
            2:get p -> a[k](1), 1 left
            get p -> empty
            get p -> a[k, x-delivery-count 1](1)!, 1 left
        "#]],
    );
}

#[test]
fn a_filter_selects_and_what_nobody_wants_waits_behind_nobody() {
    check(
        "declare q; 1:consume q as a x-filter=attributes:a; 2:consume q as b x-filter=attributes:b prefetch 1
         publish q none; publish q a=1 a1; publish q b=1 b1; publish q b=1 b2; publish q a=1 b=1 both; pull
         declare q passive; 2:ack 1; pull; 3:consume q as c x-filter=attributes:c; pull; publish q c=1 c1; pull
         4:get q; 4:get q; 4:nack 1 requeue; 4:consume q as d; pull; 3:consume q as e x-filter=attributes:a; 1:disconnect; pull",
        expect![[r#"
            pull -> a: a1[a](1) both[a, b](2), 2:b: b1[b](1)
            declare q passive -> q: 2 ready, 2 consumers
            pull -> 2:b: b2[b](2)
            pull -> nothing
            pull -> 3:c: c1[c](1)
            4:get q -> none(1), 0 left
            4:get q -> empty
            pull -> 4:d: none(2)!
            pull -> 4:d: a1[a](3)!, 3:e: both[a, b](2)!
        "#]],
    );
}

#[test]
fn a_new_filter_finds_what_was_parked() {
    check(
        "declare q; 1:consume q as a x-filter=attributes:a; publish q b=1 b1; publish q c=1 c1; publish q b=1 b2; pull
         2:consume q as b x-filter=attributes:b; pull; 2:recover; 2:cancel b; pull; 2:consume q as c x-filter=attributes:c; pull
         3:consume q as b x-filter=attributes:b; pull; declare q passive",
        expect![[r#"
            pull -> nothing
            pull -> 2:b: b1[b](1) b2[b](2)
            pull -> nothing
            pull -> 2:c: c1[c](3)
            pull -> 3:b: b1[b](1)! b2[b](2)!
            declare q passive -> q: 0 ready, 3 consumers
        "#]],
    );
}

#[test]
fn a_filter_that_is_none_is_refused() {
    check(
        "declare q; consume q as a x-filter=attributes.a; consume q as a x-filter=5; declare q passive",
        expect![[r#"
            consume q as a x-filter=attributes.a -> Channel 406 invalid arg 'x-filter': expected '=', '!=', '<', '<=', '>' or '>=' at byte 12, found the end (consumer 'a' of queue 'q')
            consume q as a x-filter=5 -> Channel 406 invalid arg 'x-filter': expected a string, received one of type 'long' (consumer 'a' of queue 'q')
            declare q passive -> q: 0 ready, 0 consumers
        "#]],
    );
}

#[test]
fn a_queue_has_no_more_than_64_different_filters() {
    let consume = |number: u32| format!("1:consume q as c{number} x-filter=attributes:a{number}\n");
    let all: String = (0..64).map(consume).collect();
    let script = format!(
        "declare q; {all} 2:consume q as equal x-filter=attributes:a7; 3:consume q as more x-filter=attributes:more
         cancel c1; 3:consume q as more x-filter=attributes:more; publish q a2=1 x; publish q more=1 y; pull"
    );
    check(
        &script,
        expect![[r#"
        3:consume q as more x-filter=attributes:more -> Channel 406 queue 'q' in vhost '/' has consumers with 64 different filters, which is the most: use one of theirs, or bind another queue
        pull -> c2: x[a2](1), 3:more: y[more](1)
    "#]],
    );
}

#[test]
fn filters_and_groups_hold_together() {
    check(
        "declare q x-group-header=k; 1:consume q as a x-filter=attributes:a prefetch 1; 2:consume q as b x-filter=attributes:b prefetch 1
         publish q k=x a=1 xa1; publish q k=x b=1 xb1; publish q k=y b=1 yb1; publish q k=x a=1 xa2; pull
         2:ack 1; pull; ack 1; pull; ack 2; pull; 2:ack 2; declare q passive",
        expect![[r#"
            pull -> a: xa1[k, a](1), 2:b: yb1[k, b](1)
            pull -> nothing
            pull -> a: xa2[k, a](2)
            pull -> 2:b: xb1[k, b](2)
            declare q passive -> q: 0 ready, 2 consumers
        "#]],
    );
}

#[test]
fn the_active_consumers_filter_applies_alone() {
    check(
        "declare q x-single-active-consumer=true; 1:consume q as a x-filter=attributes:a; 2:consume q as b
         publish q b=1 b1; publish q a=1 a1; pull; declare q passive; close; pull",
        expect![[r#"
            pull -> a: a1[a](1)
            declare q passive -> q: 1 ready, 2 consumers
            pull -> 2:b: b1[b](1) a1[a](2)!
        "#]],
    );
}

#[test]
fn an_unfiltered_consumer_of_lower_priority_gets_what_the_higher_does_not_want() {
    check(
        "declare q; 1:consume q as a x-filter=attributes:a x-priority=5; 2:consume q as b; publish q b=1 b1; publish q a=1 a1; pull",
        expect![[r#"
            pull -> a: a1[a](1), 2:b: b1[b](1)
        "#]],
    );
}

#[test]
fn after_a_restart_all_keys_are_free_but_those_of_which_a_message_waits() {
    check_durable(
        "groups",
        "declare q durable x-group-header=k x-delayed-retry-min=100; publish persistent q k=x x1 x2; publish persistent q k=y y1 y2
         publish persistent q k=z z1; get q; nack 1 requeue; get q; publish persistent q k=x x3; restart; declare q passive
         get q; 2:get q; 2:get q; ack 1; 2:get q; 2:get q; advance 100; 2:ack 1; 2:ack 2; 2:get q; get q; 2:get q; 2:get q; 2:get q",
        expect![[r#"
            get q -> x1[k](1), 4 left
            get q -> y1[k](2), 3 left
            declare q passive -> q: 5 ready, 1 waiting, 0 consumers
            get q -> y1[k](1)!, 4 left
            2:get q -> z1[k](1)!, 3 left
            2:get q -> empty
            2:get q -> y2[k](2)!, 2 left
            2:get q -> empty
            2:get q -> x1[k](3)!, 2 left
            get q -> empty
            2:get q -> x2[k](4)!, 1 left
            2:get q -> x3[k](5)!, 0 left
            2:get q -> empty
        "#]],
    );
}

#[test]
fn transactions_hold_keys_until_they_are_committed() {
    check(
        "declare q x-group-header=k; publish q k=x x1 x2; tx; get q; ack 1; 2:get q; rollback; 2:get q; ack 1; commit; 2:get q",
        expect![[r#"
            get q -> x1[k](1), 1 left
            2:get q -> empty
            2:get q -> empty
            2:get q -> x2[k](1), 0 left
        "#]],
    );
}

#[test]
fn dead_letters_free_their_key_and_are_in_their_group_elsewhere() {
    check(
        "declare dead x-group-header=k; declare q x-group-header=k x-dead-letter-exchange= x-dead-letter-routing-key=dead x-delivery-limit=1
         publish q k=x x1 x2 x3; get q; nack 1; 2:get q; 2:nack 1 requeue; get q; nack 2 requeue; 2:get q; get dead; 2:get dead
         ack 3; 2:get dead",
        expect![[r#"
            get q -> x1[k](1), 2 left
            2:get q -> x2[k](1), 1 left
            get q -> x2[k, x-delivery-count 1](2)!, 1 left
            2:get q -> x3[k](2), 0 left
            get dead -> x1[k, q rejected 1](3), 1 left
            2:get dead -> empty
            2:get dead -> x2[k, q delivery_limit 1](3), 0 left
        "#]],
    );
}
