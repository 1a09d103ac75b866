//! Exchanges that delay messages: the type `x-delayed-message`.

use crate::script::check;
use expect_test::expect;

#[test]
fn a_message_is_routed_when_its_time_has_come() {
    check(
        "exchange e x-delayed-message x-delayed-type=topic; declare q; bind q e a.*
         publish e/a.b x-delay=100 late; publish e/a.b x-delay=50 later-published; publish e/a.b now; publish e/a.b x-delay=-5 no-delay
         publish e/x.y x-delay=10 nowhere
         get q no-ack; get q no-ack; advance 50; get q no-ack; advance 49; get q; advance 1; get q no-ack",
        expect![[r#"
            get q no-ack -> now(1), 1 left
            get q no-ack -> no-delay[x-delay -5](2), 0 left
            get q no-ack -> later-published[x-delay -50](3), 0 left
            get q -> empty
            get q no-ack -> late[x-delay -100](4), 0 left
        "#]],
    );
}

#[test]
fn bindings_count_when_the_time_has_come() {
    check(
        "exchange e x-delayed-message x-delayed-type=direct; publish e/k x-delay=10 m; publish mandatory e/k x-delay=10 n
         publish mandatory e/k o; declare q; bind q e k; advance 10; get q; get q",
        expect![[r#"
            publish mandatory e/k o -> returned o
            get q -> m[x-delay -10](1), 1 left
            get q -> n[x-delay -10](2), 0 left
        "#]],
    );
}

#[test]
fn a_delayed_message_has_its_life_before_it() {
    check(
        "exchange e x-delayed-message x-delayed-type=fanout; declare q; bind q e k
         publish e/k x-delay=100 expiration=10 m; advance 100; declare q passive; advance 9; declare q passive
         advance 1; declare q passive",
        expect![[r#"
            declare q passive -> q: 1 ready, 0 consumers
            declare q passive -> q: 1 ready, 0 consumers
            declare q passive -> q: 0 ready, 0 consumers
        "#]],
    );
}

#[test]
fn what_waits_ends_with_its_exchange_and_is_nobody_elses() {
    check(
        "exchange e x-delayed-message x-delayed-type=fanout auto-delete; declare q; bind q e k; publish e/k x-delay=100 m
         get amq.delayed.e; 2:publish amq.delayed.e m; 3:delete amq.delayed.e; 4:declare amq.delayed.x
         5:unbind q e k; 5:exchange e x-delayed-message x-delayed-type=fanout; 5:bind q e k; advance 100
         5:declare q passive",
        expect![[r#"
            get amq.delayed.e -> Channel 403 queue 'amq.delayed.e' in vhost '/' belongs to exchange 'e'
            2:publish amq.delayed.e m -> dropped m
            3:delete amq.delayed.e -> Channel 403 queue 'amq.delayed.e' in vhost '/' belongs to exchange 'e'
            4:declare amq.delayed.x -> Channel 403 queue name 'amq.delayed.x' contains reserved prefix 'amq.*'
            5:declare q passive -> q: 0 ready, 0 consumers
        "#]],
    );
}

#[test]
fn exchanges_that_cannot_be() {
    check(
        "exchange e x-delayed-message; 2:exchange e x-delayed-message x-delayed-type=odd
         3:exchange e x-delayed-message x-delayed-type=direct; 4:exchange e direct
         5:exchange e x-delayed-message x-delayed-type=topic; 6:exchange e x-delayed-message x-delayed-type=direct
         7:publish e/k x-delay=99999999999999 m",
        expect![[r#"
            exchange e x-delayed-message -> Channel 406 Invalid argument, 'x-delayed-type' must be an existing exchange type
            2:exchange e x-delayed-message x-delayed-type=odd -> Channel 406 Invalid argument, 'x-delayed-type' must be an existing exchange type
            4:exchange e direct -> Channel 406 inequivalent arg 'type' for exchange 'e' in vhost '/': received 'direct' but current is 'x-delayed-message'
            5:exchange e x-delayed-message x-delayed-type=topic -> Channel 406 inequivalent arg 'x-delayed-type' for exchange 'e' in vhost '/': received 'topic' but current is 'direct'
            7:publish e/k x-delay=99999999999999 m -> Channel 406 invalid x-delay 99999999999999: a message can be delayed by at most 315360000000 milliseconds
        "#]],
    );
}

#[test]
fn a_message_that_came_through_another_exchange_waits_too() {
    check(
        "exchange front fanout; exchange late x-delayed-message x-delayed-type=topic; bind-exchange late front k
         declare now; declare q; bind now front k; bind q late k; publish front/k x-delay=10 m
         get now; get q; advance 10; get q; nack 2; declare q passive",
        expect![[r#"
            get now -> m[x-delay 10](1), 0 left
            get q -> empty
            get q -> m[x-delay -10](2), 0 left
            declare q passive -> q: 0 ready, 0 consumers
        "#]],
    );
}
