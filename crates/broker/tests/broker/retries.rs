//! Messages that come back: after a delay, only so often; quorum queues; and who is the one to get them.

use crate::script::check;
use expect_test::expect;

#[test]
fn a_delivery_limit_ends_in_the_dead_letter_exchange() {
    check(
        "declare dead; declare q x-delivery-limit=2 x-dead-letter-exchange= x-dead-letter-routing-key=dead
         publish q m; get q; nack 1 requeue; get q; reject 2 requeue; get q; nack 3 requeue
         declare q passive; get dead
         declare p x-delivery-limit=0; publish p m; get p; nack 5 requeue; declare p passive
         declare r x-delivery-limit=-1; publish r m; get r; nack 6 requeue; declare r passive",
        expect![[r#"
            get q -> m(1), 0 left
            get q -> m[x-delivery-count 1](2)!, 0 left
            get q -> m[x-delivery-count 2](3)!, 0 left
            declare q passive -> q: 0 ready, 0 consumers
            get dead -> m[q delivery_limit 1](4), 0 left
            get p -> m(5), 0 left
            declare p passive -> p: 0 ready, 0 consumers
            get r -> m(6), 0 left
            declare r passive -> r: 1 ready, 0 consumers
        "#]],
    );
}

#[test]
fn a_quorum_queue_counts_rejections_and_lost_consumers() {
    check(
        "declare dead; declare q durable x-queue-type=quorum x-delivery-limit=1 x-dead-letter-exchange= x-dead-letter-routing-key=dead
         publish q m; get q; nack 1 requeue; get q; nack 2 requeue; get q; reject 3 requeue; get q
         2:get q; close; 2:get q; 2:disconnect; get dead
         declare a x-queue-type=quorum; declare b durable auto-delete x-queue-type=quorum
         declare c durable exclusive x-queue-type=quorum; declare d durable x-queue-type=quorum x-max-priority=3",
        expect![[r#"
            get q -> m(1), 0 left
            get q -> m(2)!, 0 left
            get q -> m(3)!, 0 left
            get q -> m[x-delivery-count 1](4)!, 0 left
            2:get q -> empty
            2:get q -> empty
            get dead -> m[q delivery_limit 1](1), 0 left
            declare a x-queue-type=quorum -> Channel 406 invalid property 'non-durable' for queue 'a' in vhost '/'
            declare b durable auto-delete x-queue-type=quorum -> Channel 406 invalid property 'auto-delete' for queue 'b' in vhost '/'
            declare c durable exclusive x-queue-type=quorum -> Channel 406 invalid property 'exclusive-owner' for queue 'c' in vhost '/'
            declare d durable x-queue-type=quorum x-max-priority=3 -> Channel 406 invalid arg 'x-max-priority' for queue 'd' in vhost '/' of queue type rabbit_quorum_queue
        "#]],
    );
}

#[test]
fn a_delay_between_attempts_holds_nobody_up() {
    check(
        "declare q x-delayed-retry-min=100 x-delayed-retry-multiplier=2 x-delayed-retry-max=300 x-delivery-limit=4
         consume q as c prefetch 1; publish q a b; pull; nack 1 requeue; pull; unacked
         declare q passive; advance 99; pull; advance 1; ack 2; pull; nack 3 requeue; advance 199; pull; advance 1; pull
         nack 4 requeue; advance 299; pull; advance 1; pull; nack 5 requeue; advance 300; pull; nack 6 requeue
         declare q passive",
        expect![[r#"
            pull -> c: a(1)
            pull -> c: b(2)
            unacked -> 1
            declare q passive -> q: 0 ready, 1 waiting, 1 consumers
            pull -> nothing
            pull -> c: a[x-delivery-count 1](3)!
            pull -> nothing
            pull -> c: a[x-delivery-count 2](4)!
            pull -> nothing
            pull -> c: a[x-delivery-count 3](5)!
            pull -> c: a[x-delivery-count 4](6)!
            declare q passive -> q: 0 ready, 1 consumers
        "#]],
    );
}

#[test]
fn the_kind_of_return_decides_about_the_delay() {
    check(
        "declare f x-delayed-retry-type=failed x-delayed-retry-min=100; publish f a; get f; nack 1 requeue; get f; reject 2 requeue
         declare f passive; declare r x-delayed-retry-type=returned x-delayed-retry-min=100; publish r a; get r; reject 3 requeue
         get r; nack 4 requeue; declare r passive
         declare d x-delayed-retry-type=disabled x-delayed-retry-min=100; publish d a; get d; nack 5 requeue; declare d passive",
        expect![[r#"
            get f -> a(1), 0 left
            get f -> a(2)!, 0 left
            declare f passive -> f: 0 ready, 1 waiting, 0 consumers
            get r -> a(3), 0 left
            get r -> a(4)!, 0 left
            declare r passive -> r: 0 ready, 1 waiting, 0 consumers
            get d -> a(5), 0 left
            declare d passive -> d: 1 ready, 0 consumers
        "#]],
    );
}

#[test]
fn a_lost_consumer_is_a_failed_attempt() {
    check(
        "declare q x-delayed-retry-type=failed x-delayed-retry-min=100; publish q a b; 2:consume q as c; pull
         2:disconnect; declare q passive; advance 100; get q; get q",
        expect![[r#"
            pull -> 2:c: a(1) b(2)
            declare q passive -> q: 0 ready, 2 waiting, 0 consumers
            get q -> a(1)!, 1 left
            get q -> b(2)!, 0 left
        "#]],
    );
}

#[test]
fn one_consumer_at_a_time() {
    check(
        "declare q x-single-active-consumer=true; 1:consume q as a; 2:consume q as b; 3:consume q as c x-priority=5
         publish q 1 2; pull; cancel a; publish q 3; pull; 3:disconnect; pull; 2:cancel b; publish q 5; pull; get q
         4:consume q as d exclusive; consume q as e; pull",
        expect![[r#"
            pull -> a: 1(1) 2(2)
            pull -> 3:c: 3(1)
            pull -> 2:b: 3(1)!
            pull -> nothing
            get q -> 5(3), 0 left
            4:consume q as d exclusive -> Channel 403 queue 'q' in vhost '/' in exclusive use
            pull -> nothing
        "#]],
    );
}

#[test]
fn arguments_that_cannot_be() {
    check(
        "declare q x-delayed-retry-max=5; 2:declare q x-delayed-retry-min=5 x-delayed-retry-max=1
         3:declare q x-delayed-retry-min=5 x-delayed-retry-multiplier=0; 4:declare q x-delayed-retry-type=some
         5:declare q x-delayed-retry-min=5 x-delayed-retry-jitter=101; 6:declare q x-message-ttl=99999999999999
         7:declare q x-single-active-consumer=5; 8:declare q x-overflow=drop; 9:declare q x-delays-for=e
         10:declare q x-delivery-limit=-2; 11:declare q x-expires=0; 12:declare q x-max-length=ten",
        expect![[r#"
            declare q x-delayed-retry-max=5 -> Channel 406 invalid arg 'x-delayed-retry-max' for queue 'q' in vhost '/': it needs 'x-delayed-retry-min'
            2:declare q x-delayed-retry-min=5 x-delayed-retry-max=1 -> Channel 406 invalid arg 'x-delayed-retry-max' for queue 'q' in vhost '/': it is less than 'x-delayed-retry-min', which is 5
            3:declare q x-delayed-retry-min=5 x-delayed-retry-multiplier=0 -> Channel 406 invalid arg 'x-delayed-retry-multiplier' for queue 'q' in vhost '/': 0 is not between 1 and 1000
            4:declare q x-delayed-retry-type=some -> Channel 406 invalid arg 'x-delayed-retry-type' for queue 'q' in vhost '/': {value_not_in_allowed_set,<<"some">>}
            5:declare q x-delayed-retry-min=5 x-delayed-retry-jitter=101 -> Channel 406 invalid arg 'x-delayed-retry-jitter' for queue 'q' in vhost '/': {max_value_exceeded,101}
            6:declare q x-message-ttl=99999999999999 -> Channel 406 invalid arg 'x-message-ttl' for queue 'q' in vhost '/': {value_too_large,99999999999999}
            7:declare q x-single-active-consumer=5 -> Channel 406 invalid arg 'x-single-active-consumer' for queue 'q' in vhost '/': {unacceptable_type,long}
            8:declare q x-overflow=drop -> Channel 406 invalid arg 'x-overflow' for queue 'q' in vhost '/': invalid_overflow
            9:declare q x-delays-for=e -> Channel 406 invalid arg 'x-delays-for' for queue 'q' in vhost '/': it is for the broker's own queues
            10:declare q x-delivery-limit=-2 -> Channel 406 invalid arg 'x-delivery-limit' for queue 'q' in vhost '/': {value_negative,-2}
            11:declare q x-expires=0 -> Channel 406 invalid arg 'x-expires' for queue 'q' in vhost '/': {value_zero,0}
            12:declare q x-max-length=ten -> Channel 406 invalid arg 'x-max-length' for queue 'q' in vhost '/': "expected integer, got longstr"
        "#]],
    );
}
