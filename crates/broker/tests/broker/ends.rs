//! How messages end other than by an acknowledgement: dead letters, expiry, limits; and queues that nobody uses.

use crate::script::check;
use expect_test::expect;

#[test]
fn letters_tell_where_and_why_a_message_died() {
    check(
        "declare dead; declare q x-dead-letter-exchange= x-dead-letter-routing-key=dead x-message-ttl=100
         publish q expiration=5000 slow; publish q expiration=50 quick
         get q; reject 1
         advance 60; get dead no-ack
         publish q late; advance 100; get dead no-ack; get dead no-ack",
        expect![[r#"
            get q -> slow<expires 5000>(1), 1 left
            get dead no-ack -> slow[q rejected 1 after 5000](2), 1 left
            get dead no-ack -> quick[q expired 1 after 50](3), 1 left
            get dead no-ack -> late[q expired 1](4), 0 left
        "#]],
    );
}

#[test]
fn without_an_exchange_or_a_queue_a_letter_is_lost() {
    check(
        "declare q x-dead-letter-exchange=nowhere; exchange dlx fanout; declare p x-dead-letter-exchange=dlx
         publish q a; get q; reject 1; publish p b; get p; reject 2
         declare q passive; declare p passive",
        expect![[r#"
            get q -> a(1), 0 left
            get p -> b(2), 0 left
            declare q passive -> q: 0 ready, 0 consumers
            declare p passive -> p: 0 ready, 0 consumers
        "#]],
    );
}

#[test]
fn history_grows_by_queue_and_reason() {
    check(
        "declare a x-dead-letter-exchange= x-dead-letter-routing-key=b x-message-ttl=10
         declare b x-dead-letter-exchange= x-dead-letter-routing-key=c x-max-length=0
         declare c x-dead-letter-exchange= x-dead-letter-routing-key=a
         publish a m; advance 10; get c; reject 1; advance 10; get c",
        expect![[r#"
            get c -> m[b maxlen 1 < a expired 1](1), 0 left
            get c -> m[b maxlen 2 < a expired 2 < c rejected 1](2), 0 left
        "#]],
    );
}

#[test]
fn what_goes_round_by_itself_ends() {
    check(
        "declare q x-dead-letter-exchange= x-dead-letter-routing-key=q x-message-ttl=10
         publish q m; advance 10; declare q passive; advance 10; declare q passive
         declare a x-dead-letter-exchange= x-dead-letter-routing-key=b x-message-ttl=10
         declare b x-dead-letter-exchange= x-dead-letter-routing-key=a x-message-ttl=10
         publish a n; advance 10; declare b passive; advance 10; declare a passive; declare b passive
         publish b o; get b; reject 1; declare a passive; get a; reject 2; declare b passive",
        expect![[r#"
            declare q passive -> q: 0 ready, 0 consumers
            declare q passive -> q: 0 ready, 0 consumers
            declare b passive -> b: 1 ready, 0 consumers
            declare a passive -> a: 0 ready, 0 consumers
            declare b passive -> b: 0 ready, 0 consumers
            get b -> o(1), 0 left
            declare a passive -> a: 1 ready, 0 consumers
            get a -> o[b rejected 1](2), 0 left
            declare b passive -> b: 1 ready, 0 consumers
        "#]],
    );
}

#[test]
fn messages_expire_anywhere_in_the_queue() {
    check(
        "declare q; publish q a; publish q expiration=10 b; publish q c; publish q expiration=20 d e; publish q f
         advance 9; declare q passive; advance 1; declare q passive
         get q; get q; advance 10; declare q passive; nack 1 requeue; nack 2 requeue
         get q no-ack; get q no-ack; get q no-ack; get q no-ack",
        expect![[r#"
            declare q passive -> q: 6 ready, 0 consumers
            declare q passive -> q: 5 ready, 0 consumers
            get q -> a(1), 4 left
            get q -> c(2), 3 left
            declare q passive -> q: 1 ready, 0 consumers
            get q no-ack -> a(3)!, 2 left
            get q no-ack -> c(4)!, 1 left
            get q no-ack -> f(5), 0 left
            get q no-ack -> empty
        "#]],
    );
}

#[test]
fn what_is_handed_out_expires_when_it_comes_back() {
    check(
        "declare q x-message-ttl=10; declare dead
         declare p x-message-ttl=10 x-dead-letter-exchange= x-dead-letter-routing-key=dead
         publish q a b; get q; get q; publish p c; get p; advance 10; unacked
         ack 1; nack 2 requeue; declare q passive; nack 3 requeue; declare p passive; get dead",
        expect![[r#"
            get q -> a(1), 1 left
            get q -> b(2), 0 left
            get p -> c(3), 0 left
            unacked -> 3
            declare q passive -> q: 0 ready, 0 consumers
            declare p passive -> p: 0 ready, 0 consumers
            get dead -> c[p expired 1](4), 0 left
        "#]],
    );
}

#[test]
fn a_time_to_live_of_zero_needs_somebody_who_waits() {
    check(
        "declare q x-message-ttl=0; publish q a; advance 0; declare q passive
         consume q as c prefetch 1; publish q b c; advance 0; pull; advance 100; declare q passive",
        expect![[r#"
            declare q passive -> q: 0 ready, 0 consumers
            pull -> c: b(1)
            declare q passive -> q: 0 ready, 1 consumers
        "#]],
    );
}

#[test]
fn setting_the_clock_makes_nothing_expire_and_nothing_live_longer() {
    check(
        "declare q x-message-ttl=1000; publish q a; set-clock 1000000; declare q passive
         publish q b; set-clock 0; advance 999; declare q passive; advance 1; declare q passive",
        expect![[r#"
            declare q passive -> q: 1 ready, 0 consumers
            declare q passive -> q: 2 ready, 0 consumers
            declare q passive -> q: 0 ready, 0 consumers
        "#]],
    );
}

#[test]
fn an_expiration_is_a_number_of_milliseconds() {
    check(
        "declare q; publish q expiration=abc m; 2:publish q expiration=-1 m; 3:publish q expiration=12ab m
         4:publish q expiration=99999999999999 m; 5:publish q expiration=0 m; declare q passive; advance 0
         declare q passive",
        expect![[r#"
            publish q expiration=abc m -> Channel 406 invalid expiration 'abc': no_integer
            2:publish q expiration=-1 m -> Channel 406 invalid expiration '-1': {value_negative,-1}
            3:publish q expiration=12ab m -> Channel 406 invalid expiration '12ab': {leftover_string,"ab"}
            4:publish q expiration=99999999999999 m -> Channel 406 invalid expiration '99999999999999': {value_too_large,99999999999999}
            declare q passive -> q: 1 ready, 0 consumers
            declare q passive -> q: 0 ready, 0 consumers
        "#]],
    );
}

#[test]
fn the_oldest_go_when_a_queue_is_full() {
    check(
        "declare q x-max-length=2; publish q a b c; declare q passive; get q; publish q d e; unacked
         nack 1 requeue; declare q passive; get q no-ack; get q no-ack
         declare dead; declare p x-max-length-bytes=5 x-dead-letter-exchange= x-dead-letter-routing-key=dead
         publish p aa bb cc; declare p passive; get dead no-ack; publish p dddddd; declare p passive
         get dead no-ack; get dead no-ack; get dead no-ack
         declare z x-max-length=0; publish z m; declare z passive; consume z as c no-ack; publish z m; pull",
        expect![[r#"
            declare q passive -> q: 2 ready, 0 consumers
            get q -> b(1), 1 left
            unacked -> 1
            declare q passive -> q: 2 ready, 0 consumers
            get q no-ack -> d(2), 1 left
            get q no-ack -> e(3), 0 left
            declare p passive -> p: 2 ready, 0 consumers
            get dead no-ack -> aa[p maxlen 1](4), 0 left
            declare p passive -> p: 0 ready, 0 consumers
            get dead no-ack -> bb[p maxlen 1](5), 2 left
            get dead no-ack -> cc[p maxlen 1](6), 1 left
            get dead no-ack -> dddddd[p maxlen 1](7), 0 left
            declare z passive -> z: 0 ready, 0 consumers
            pull -> c: m(8)
        "#]],
    );
}

#[test]
fn a_full_queue_refuses() {
    check(
        "confirm; declare q x-max-length=2 x-overflow=reject-publish; declare all
         publish q a b c; publish q d; get q no-ack; publish q e f; declare q passive
         exchange e fanout; bind q e k; bind all e k; publish e/k g; declare all passive
         2:publish q unseen; declare q passive
         declare b x-max-length-bytes=3 x-overflow=reject-publish; publish b aaaa; publish b aa; publish b aa a; declare b passive
         declare dead; declare d x-max-length=1 x-overflow=reject-publish-dlx x-dead-letter-exchange= x-dead-letter-routing-key=dead
         publish d h i; get dead no-ack",
        expect![[r#"
            publish q a b c -> refused 3, confirmed 2 multiple
            publish q d -> refused 4
            get q no-ack -> a(1), 1 left
            publish q e f -> refused 6, confirmed 5
            declare q passive -> q: 2 ready, 0 consumers
            publish e/k g -> refused 7
            declare all passive -> all: 1 ready, 0 consumers
            declare q passive -> q: 2 ready, 0 consumers
            publish b aaaa -> refused 8
            publish b aa -> confirmed 9
            publish b aa a -> refused 10, refused 11
            declare b passive -> b: 1 ready, 0 consumers
            publish d h i -> refused 13, confirmed 12
            get dead no-ack -> i[d maxlen 1](2), 0 left
        "#]],
    );
}

#[test]
fn a_transaction_that_a_queue_has_no_room_for_is_not_done() {
    check(
        "tx; declare q x-max-length=1 x-overflow=reject-publish; declare p; publish p a; publish q a b; commit
         2:declare q passive; 2:declare p passive; 3:tx; 3:publish p a; 3:publish q a; 3:commit; 2:declare q passive
         3:publish p a; 3:publish q b; 3:commit; 2:declare p passive",
        expect![[r#"
            commit -> Channel 406 queue 'q' is full and has no room for the transaction: nothing of it is done
            2:declare q passive -> q: 0 ready, 0 consumers
            2:declare p passive -> p: 0 ready, 0 consumers
            2:declare q passive -> q: 1 ready, 0 consumers
            3:commit -> Channel 406 queue 'q' is full and has no room for the transaction: nothing of it is done
            2:declare p passive -> p: 1 ready, 0 consumers
        "#]],
    );
}

#[test]
fn a_queue_that_nobody_uses_ends() {
    check(
        "declare q x-expires=100; declare kept x-expires=100; declare got x-expires=100; consume kept as c
         advance 60; declare q passive; get got; advance 60; declare q passive; 2:declare got passive
         advance 100; 2:declare q passive; 3:declare got passive; 4:declare kept passive
         cancel c; advance 99; 5:declare kept passive; advance 100; 6:declare kept passive",
        expect![[r#"
            declare q passive -> q: 0 ready, 0 consumers
            get got -> empty
            declare q passive -> q: 0 ready, 0 consumers
            2:declare got passive -> got: 0 ready, 0 consumers
            2:declare q passive -> Channel 404 no queue 'q' in vhost '/'
            3:declare got passive -> Channel 404 no queue 'got' in vhost '/'
            4:declare kept passive -> kept: 0 ready, 1 consumers
            5:declare kept passive -> kept: 0 ready, 0 consumers
            6:declare kept passive -> Channel 404 no queue 'kept' in vhost '/'
        "#]],
    );
}

#[test]
fn purge_leaves_what_is_handed_out() {
    check(
        "declare q x-delayed-retry-min=100; publish q a b c d; publish q expiration=10 e f; get q; get q; nack 1 requeue
         declare q passive; purge q; declare q passive; advance 100; declare q passive; nack 2 requeue; advance 100
         get q no-ack",
        expect![[r#"
            get q -> a(1), 5 left
            get q -> b(2), 4 left
            declare q passive -> q: 4 ready, 1 waiting, 0 consumers
            purge q -> 4 purged
            declare q passive -> q: 0 ready, 0 consumers
            declare q passive -> q: 0 ready, 0 consumers
            get q no-ack -> b(3)!, 0 left
        "#]],
    );
}

#[test]
fn dead_letters_go_back_to_where_they_first_died() {
    check(
        "exchange e direct; declare dead; declare q x-dead-letter-exchange= x-dead-letter-routing-key=dead; bind q e k
         publish e/k own=1 a b; publish e/k expiration=50 c; advance 50; get q; reject 1; get q; reject 2
         publish dead stranger; redrive dead 2; get q; get q; redrive dead 10; get q; get dead
         declare gone x-dead-letter-exchange= x-dead-letter-routing-key=dead; publish gone d; get gone; reject 7; delete gone
         redrive dead 10; 2:redrive nowhere 1",
        expect![[r#"
            get q -> a[own](1), 1 left
            get q -> b[own](2), 0 left
            redrive dead 2 -> 2 moved, 0 kept
            get q -> c(3), 1 left
            get q -> a[own](4), 0 left
            redrive dead 10 -> 1 moved, 1 kept
            get q -> b[own](5), 0 left
            get dead -> stranger(6)!, 0 left
            get gone -> d(7), 0 left
            delete gone -> 0 deleted
            redrive dead 10 -> 0 moved, 1 kept
            2:redrive nowhere 1 -> Channel 404 no queue 'nowhere' in vhost '/'
        "#]],
    );
}
