//! Messages that were published before, by key in a window and by their producers' sequences.

use crate::script::{check, check_durable, check_with};
use expect_test::expect;
use leveret_broker::Limits;

#[test]
fn a_queue_takes_a_key_once() {
    check(
        "declare q x-message-deduplication=true; confirm
         publish q message-id=1 a; publish q message-id=2 b; publish q message-id=1 again; publish q none; publish q none
         publish mandatory q message-id=2 again-too; declare q passive; get q; get q; get q; get q",
        expect![[r#"
            publish q message-id=1 a -> confirmed 1
            publish q message-id=2 b -> confirmed 2
            publish q message-id=1 again -> confirmed 3
            publish q none -> confirmed 4
            publish q none -> confirmed 5
            publish mandatory q message-id=2 again-too -> confirmed 6
            declare q passive -> q: 4 ready, 0 consumers
            get q -> a(1), 3 left
            get q -> b(2), 2 left
            get q -> none(3), 1 left
            get q -> none(4), 0 left
        "#]],
    );
}

#[test]
fn the_key_is_a_header_or_else_the_message_id() {
    check(
        "declare q x-message-deduplication=true; declare p x-message-deduplication=true x-deduplication-header=order
         publish q x-deduplication-header=k message-id=1 a; publish q x-deduplication-header=k message-id=2 duplicate
         publish q message-id=1 b; publish q x-deduplication-header=1 c; publish q x-deduplication-header=1 duplicate
         publish q x-deduplication-header=true d; publish q message-id=k e
         publish p order=1 f; publish p order=1 duplicate; publish p x-deduplication-header=1 g
         publish p x-deduplication-header=1 h; publish p message-id=9 i; publish p message-id=9 duplicate
         get q no-ack; get q no-ack; get q no-ack; get q no-ack; get q no-ack; get q
         get p no-ack; get p no-ack; get p no-ack; get p no-ack; get p",
        expect![[r#"
            get q no-ack -> a[x-deduplication-header](1), 4 left
            get q no-ack -> b(2), 3 left
            get q no-ack -> c[x-deduplication-header](3), 2 left
            get q no-ack -> d[x-deduplication-header](4), 1 left
            get q no-ack -> e(5), 0 left
            get q -> empty
            get p no-ack -> f[order](6), 3 left
            get p no-ack -> g[x-deduplication-header](7), 2 left
            get p no-ack -> h[x-deduplication-header](8), 1 left
            get p no-ack -> i(9), 0 left
            get p -> empty
        "#]],
    );
}

#[test]
fn a_key_is_remembered_until_so_many_have_come_or_for_so_long() {
    check(
        "declare q x-message-deduplication=true x-cache-size=2; declare p x-message-deduplication=true x-cache-ttl=100
         publish q message-id=1 a; publish q message-id=2 b; publish q message-id=1 no; publish q message-id=3 c
         publish q message-id=1 a2; publish q message-id=3 no; purge q
         publish p message-id=1 a; advance 99; publish p message-id=1 no; advance 1; publish p message-id=1 a2
         publish p message-id=2 x-cache-ttl=10 b; advance 10; publish p message-id=2 b2; publish p message-id=3 x-cache-ttl=5000 c
         advance 1000; publish p message-id=2 b3; publish p message-id=3 no; declare p passive
         2:publish p x-cache-ttl=soon message-id=3 d",
        expect![[r#"
            purge q -> 4 purged
            declare p passive -> p: 6 ready, 0 consumers
            2:publish p x-cache-ttl=soon message-id=3 d -> Channel 406 invalid header 'x-cache-ttl': expected milliseconds, an integer of 0 or more
        "#]],
    );
}

#[test]
fn what_has_left_the_queue_is_still_a_duplicate_until_the_queue_is_deleted() {
    check(
        "declare q x-message-deduplication=true; publish q message-id=1 a; get q no-ack; publish q message-id=1 a
         publish q message-id=2 b; purge q; publish q message-id=2 b; get q
         delete q; declare q x-message-deduplication=true; publish q message-id=1 a; get q",
        expect![[r#"
            get q no-ack -> a(1), 0 left
            purge q -> 1 purged
            get q -> empty
            delete q -> 0 deleted
            get q -> a(2), 0 left
        "#]],
    );
}

#[test]
fn only_the_queue_that_has_seen_it_leaves_a_message_out() {
    check(
        "exchange e fanout; declare q x-message-deduplication=true; declare p; declare r x-message-deduplication=true x-deduplication-header=k
         bind q e k; bind p e k; bind r e k
         publish e/k message-id=1 k=1 a; publish e/k message-id=1 k=2 b; publish e/k message-id=2 k=2 c d
         get q no-ack; get q no-ack; get q; get r no-ack; get r no-ack; get r; declare p passive",
        expect![[r#"
            get q no-ack -> a[k](1), 1 left
            get q no-ack -> c[k](2), 0 left
            get q -> empty
            get r no-ack -> a[k](3), 1 left
            get r no-ack -> b[k](4), 0 left
            get r -> empty
            declare p passive -> p: 4 ready, 0 consumers
        "#]],
    );
}

#[test]
fn an_exchange_takes_a_key_once() {
    check(
        "exchange e topic x-message-deduplication=true; exchange f x-message-deduplication x-cache-size=10 x-cache-persistence=disk
         declare q; declare p; bind q e a; bind p e #; bind q f any; confirm
         publish e/a message-id=1 a; publish e/b message-id=1 no; publish mandatory e/a message-id=1 no; publish e/b message-id=2 b
         publish f/x message-id=1 c; publish f/y message-id=1 no; publish q message-id=1 d; publish q message-id=1 e
         get q no-ack; get q no-ack; get q no-ack; get q no-ack; get q; declare p passive
         delete-exchange f; exchange f x-message-deduplication x-cache-size=10; bind q f any; publish f/x message-id=1 f; get q",
        expect![[r#"
            publish e/a message-id=1 a -> confirmed 1
            publish e/b message-id=1 no -> confirmed 2
            publish mandatory e/a message-id=1 no -> confirmed 3
            publish e/b message-id=2 b -> confirmed 4
            publish f/x message-id=1 c -> confirmed 5
            publish f/y message-id=1 no -> confirmed 6
            publish q message-id=1 d -> confirmed 7
            publish q message-id=1 e -> confirmed 8
            get q no-ack -> a(1), 3 left
            get q no-ack -> c(2), 2 left
            get q no-ack -> d(3), 1 left
            get q no-ack -> e(4), 0 left
            get q -> empty
            declare p passive -> p: 2 ready, 0 consumers
            publish f/x message-id=1 f -> confirmed 9
            get q -> f(5), 0 left
        "#]],
    );
}

#[test]
fn an_exchange_does_not_remember_what_no_queue_took() {
    check(
        "exchange e direct x-message-deduplication=true; publish mandatory e/k message-id=1 a; declare q; bind q e k
         publish mandatory e/k message-id=1 a; publish mandatory e/k message-id=1 a; get q; get q",
        expect![[r#"
            publish mandatory e/k message-id=1 a -> returned a
            get q -> a(1), 0 left
            get q -> empty
        "#]],
    );
}

#[test]
fn a_delayed_message_is_looked_up_where_it_comes() {
    check(
        "exchange e x-delayed-message x-delayed-type=fanout x-message-deduplication=true
         exchange f x-delayed-message x-delayed-type=fanout
         declare q; bind q e k; declare p x-message-deduplication=true; bind p f k
         publish e/k x-delay=10 message-id=1 a; publish e/k x-delay=5 message-id=1 no; publish e/k message-id=1 no
         publish f/k x-delay=10 message-id=1 late; publish f/k x-delay=5 message-id=1 first
         advance 100; get q; get q; get p; get p",
        expect![[r#"
            get q -> a[x-delay -10](1), 0 left
            get q -> empty
            get p -> first[x-delay -5](2), 0 left
            get p -> empty
        "#]],
    );
}

#[test]
fn what_a_queue_refuses_is_not_remembered() {
    check(
        "declare q x-message-deduplication=true x-max-length=1 x-overflow=reject-publish; confirm
         declare dead; declare p x-message-deduplication=true x-max-length=1 x-overflow=reject-publish-dlx x-dead-letter-exchange= x-dead-letter-routing-key=dead
         publish q message-id=1 a; publish q message-id=2 b b; publish q message-id=1 a; get q no-ack; publish q message-id=2 b; get q
         publish p message-id=1 a; publish p message-id=2 b; publish p message-id=1 a; get dead; get dead
         exchange e fanout x-message-deduplication=true; bind q e k; declare r; bind r e k; publish q message-id=8 full
         publish e/k message-id=3 c; declare r passive; purge q; publish e/k message-id=3 c; declare r passive; get q",
        expect![[r#"
            publish q message-id=1 a -> confirmed 1
            publish q message-id=2 b b -> refused 2, refused 3
            publish q message-id=1 a -> confirmed 4
            get q no-ack -> a(1), 0 left
            publish q message-id=2 b -> confirmed 5
            get q -> b(2), 0 left
            publish p message-id=1 a -> confirmed 6
            publish p message-id=2 b -> refused 7
            publish p message-id=1 a -> confirmed 8
            get dead -> b[p maxlen 1](3), 0 left
            get dead -> empty
            publish q message-id=8 full -> confirmed 9
            publish e/k message-id=3 c -> refused 10
            declare r passive -> r: 1 ready, 0 consumers
            purge q -> 1 purged
            publish e/k message-id=3 c -> confirmed 11
            declare r passive -> r: 2 ready, 0 consumers
            get q -> c(4), 0 left
        "#]],
    );
}

#[test]
fn a_transaction_is_looked_up_at_its_commit() {
    check(
        "declare q x-message-deduplication=true; tx; publish q message-id=1 a; publish q message-id=1 twice; publish q message-id=2 b
         2:publish q message-id=2 other; commit; get q no-ack; get q no-ack; get q
         publish q message-id=3 c; rollback; publish q message-id=3 c2; commit; publish q message-id=3 no; commit
         get q no-ack; get q",
        expect![[r#"
            get q no-ack -> other(1), 1 left
            get q no-ack -> a(2), 0 left
            get q -> empty
            get q no-ack -> c2(3), 0 left
            get q -> empty
        "#]],
    );
}

#[test]
fn dead_letters_are_not_looked_up() {
    check(
        "declare q x-message-deduplication=true x-dead-letter-exchange= x-dead-letter-routing-key=q
         publish q message-id=1 a; get q; reject 1; get q",
        expect![[r#"
            get q -> a(1), 0 left
            get q -> a[q rejected 1](2), 0 left
        "#]],
    );
}

#[test]
fn a_producer_numbers_its_messages() {
    check(
        "declare q; declare p; confirm; publish q x-producer=a x-producer-sequence=0 m0; publish p x-producer=a x-producer-sequence=1 m1
         publish q x-producer=a x-producer-sequence=1 no; publish q x-producer=a x-producer-sequence=0 no
         publish q x-producer=b x-producer-sequence=0 other; publish q x-producer=a x-producer-sequence=9 m9
         get q no-ack; get q no-ack; get q no-ack; get q; get p no-ack; get p
         publish mandatory nowhere x-producer=a x-producer-sequence=10 gone; publish mandatory nowhere x-producer=a x-producer-sequence=10 again
         publish q x-producer=a x-producer-sequence=10 no; get q",
        expect![[r#"
            publish q x-producer=a x-producer-sequence=0 m0 -> confirmed 1
            publish p x-producer=a x-producer-sequence=1 m1 -> confirmed 2
            publish q x-producer=a x-producer-sequence=1 no -> confirmed 3
            publish q x-producer=a x-producer-sequence=0 no -> confirmed 4
            publish q x-producer=b x-producer-sequence=0 other -> confirmed 5
            publish q x-producer=a x-producer-sequence=9 m9 -> confirmed 6
            get q no-ack -> m0[x-producer, x-producer-sequence](1), 2 left
            get q no-ack -> other[x-producer, x-producer-sequence](2), 1 left
            get q no-ack -> m9[x-producer, x-producer-sequence](3), 0 left
            get q -> empty
            get p no-ack -> m1[x-producer, x-producer-sequence](4), 0 left
            get p -> empty
            publish mandatory nowhere x-producer=a x-producer-sequence=10 gone -> returned gone, confirmed 7
            publish mandatory nowhere x-producer=a x-producer-sequence=10 again -> confirmed 8
            publish q x-producer=a x-producer-sequence=10 no -> confirmed 9
            get q -> empty
        "#]],
    );
}

#[test]
fn what_a_full_queue_refused_comes_again_before_what_is_behind_it() {
    check(
        "declare q x-max-length=1 x-overflow=reject-publish; declare p; confirm
         publish q x-producer=a x-producer-sequence=0 a; publish q x-producer=a x-producer-sequence=1 b
         publish p x-producer=a x-producer-sequence=2 c; publish nowhere x-producer=a x-producer-sequence=3 d
         2:tx; 2:publish p x-producer=a x-producer-sequence=4 e; 2:commit
         purge q; publish p x-producer=a x-producer-sequence=2 c; publish q x-producer=a x-producer-sequence=1 b
         publish p x-producer=a x-producer-sequence=2 c; publish q x-producer=a x-producer-sequence=1 no; get p; get p",
        expect![[r#"
            publish q x-producer=a x-producer-sequence=0 a -> confirmed 1
            publish q x-producer=a x-producer-sequence=1 b -> refused 2
            publish p x-producer=a x-producer-sequence=2 c -> refused 3
            publish nowhere x-producer=a x-producer-sequence=3 d -> refused 4
            2:commit -> Channel 406 producer 'a' has to send 1 again first: a full queue has refused it
            purge q -> 1 purged
            publish p x-producer=a x-producer-sequence=2 c -> refused 5
            publish q x-producer=a x-producer-sequence=1 b -> confirmed 6
            publish p x-producer=a x-producer-sequence=2 c -> confirmed 7
            publish q x-producer=a x-producer-sequence=1 no -> confirmed 8
            get p -> c[x-producer, x-producer-sequence](1), 0 left
            get p -> empty
        "#]],
    );
}

#[test]
fn a_new_epoch_ends_the_one_before() {
    check(
        "declare q; confirm; publish q x-producer=a x-producer-epoch=3 x-producer-sequence=5 m
         2:confirm; 2:publish q x-producer=a x-producer-epoch=4 x-producer-sequence=0 n
         publish q x-producer=a x-producer-epoch=3 x-producer-sequence=6 no
         3:tx; 3:publish q x-producer=a x-producer-epoch=4 x-producer-sequence=1 o; 3:get q; 3:ack 1
         2:publish q x-producer=a x-producer-epoch=5 x-producer-sequence=0 p; 3:commit; 3:rollback; 3:close
         2:get q no-ack; 2:get q no-ack; 2:get q no-ack; 2:get q
         4:tx; 4:publish q x-producer=b x-producer-epoch=2 x-producer-sequence=0 q; 4:publish q x-producer=b x-producer-epoch=1 x-producer-sequence=0 r; 4:commit
         2:get q",
        expect![[r#"
            publish q x-producer=a x-producer-epoch=3 x-producer-sequence=5 m -> confirmed 1
            2:publish q x-producer=a x-producer-epoch=4 x-producer-sequence=0 n -> confirmed 1
            publish q x-producer=a x-producer-epoch=3 x-producer-sequence=6 no -> Channel 406 producer 'a' with epoch 3 is fenced: epoch 4 has begun
            3:get q -> m[x-producer, x-producer-epoch, x-producer-sequence](1), 1 left
            2:publish q x-producer=a x-producer-epoch=5 x-producer-sequence=0 p -> confirmed 2
            3:commit -> Channel 406 producer 'a' with epoch 4 is fenced: epoch 5 has begun
            2:get q no-ack -> m[x-producer, x-producer-epoch, x-producer-sequence](1)!, 2 left
            2:get q no-ack -> n[x-producer, x-producer-epoch, x-producer-sequence](2), 1 left
            2:get q no-ack -> p[x-producer, x-producer-epoch, x-producer-sequence](3), 0 left
            2:get q -> empty
            4:commit -> Channel 406 producer 'b' with epoch 1 is fenced: epoch 2 has begun
            2:get q -> empty
        "#]],
    );
}

#[test]
fn producers_that_were_silent_are_forgotten() {
    check_with(
        Limits { max_producers: 2, ..Limits::default() },
        "declare q; publish q x-producer=a x-producer-sequence=0 a; publish q x-producer=b x-producer-sequence=0 b
         publish q x-producer=a x-producer-sequence=1 a1; publish q x-producer=c x-producer-sequence=0 c
         publish q x-producer=a x-producer-sequence=1 no; publish q x-producer=c x-producer-sequence=0 no; publish q x-producer=b x-producer-sequence=0 b-again
         declare q passive",
        expect![[r#"
            declare q passive -> q: 5 ready, 0 consumers
        "#]],
    );
}

#[test]
fn headers_of_producers_that_make_no_sense() {
    check(
        "declare q; 2:publish q x-producer=a m; 3:publish q x-producer=5 x-producer-sequence=1 m; 4:publish q x-producer=a x-producer-sequence=-1 m
         5:publish q x-producer=a x-producer-sequence=1 x-producer-epoch=new m; 6:publish q x-producer-sequence=1 m; 7:publish q x-producer-epoch=1 m
         8:publish q x-producer=a x-producer-sequence=1 x-producer-epoch=-1 m; declare q passive",
        expect![[r#"
            2:publish q x-producer=a m -> Channel 406 invalid header 'x-producer-sequence': expected an integer of 0 or more
            3:publish q x-producer=5 x-producer-sequence=1 m -> Channel 406 invalid header 'x-producer': expected a string of 1 to 255 bytes
            4:publish q x-producer=a x-producer-sequence=-1 m -> Channel 406 invalid header 'x-producer-sequence': expected an integer of 0 or more
            5:publish q x-producer=a x-producer-sequence=1 x-producer-epoch=new m -> Channel 406 invalid header 'x-producer-epoch': expected an integer of 0 or more
            6:publish q x-producer-sequence=1 m -> Channel 406 invalid header 'x-producer': expected the name of a producer beside its epoch or sequence
            7:publish q x-producer-epoch=1 m -> Channel 406 invalid header 'x-producer': expected the name of a producer beside its epoch or sequence
            8:publish q x-producer=a x-producer-sequence=1 x-producer-epoch=-1 m -> Channel 406 invalid header 'x-producer-epoch': expected an integer of 0 or more
            declare q passive -> q: 0 ready, 0 consumers
        "#]],
    );
}

#[test]
fn arguments_that_make_no_sense() {
    check(
        "2:declare q x-message-deduplication=yes; 3:declare q x-cache-size=5; 4:declare q x-message-deduplication=true x-cache-size=0
         5:declare q x-message-deduplication=true x-cache-size=10000001; 6:declare q x-message-deduplication=true x-cache-ttl=-5
         7:declare q x-message-deduplication=true x-cache-persistence=tape; 8:declare q x-message-deduplication=true x-deduplication-header=7
         9:declare q x-message-deduplication=false x-cache-ttl=7; 10:declare q x-message-deduplication=true x-cache-size=many
         11:exchange e x-message-deduplication; 12:exchange e topic x-deduplication-header=h
         13:exchange e x-message-deduplication x-cache-size=5 x-message-deduplication=false; 14:exchange e fanout x-message-deduplication=1
         15:exchange e x-message-deduplication x-cache-size=5; 16:exchange e fanout x-cache-size=5; 17:exchange e x-message-deduplication x-cache-size=6",
        expect![[r#"
            2:declare q x-message-deduplication=yes -> Channel 406 invalid arg 'x-message-deduplication' for queue 'q' in vhost '/': {unacceptable_type,longstr}
            3:declare q x-cache-size=5 -> Channel 406 invalid arg 'x-cache-size' for queue 'q' in vhost '/': it needs 'x-message-deduplication'
            4:declare q x-message-deduplication=true x-cache-size=0 -> Channel 406 invalid arg 'x-cache-size' for queue 'q' in vhost '/': {value_zero,0}
            5:declare q x-message-deduplication=true x-cache-size=10000001 -> Channel 406 invalid arg 'x-cache-size' for queue 'q' in vhost '/': {max_value_exceeded,10000001}
            6:declare q x-message-deduplication=true x-cache-ttl=-5 -> Channel 406 invalid arg 'x-cache-ttl' for queue 'q' in vhost '/': {value_negative,-5}
            7:declare q x-message-deduplication=true x-cache-persistence=tape -> Channel 406 invalid arg 'x-cache-persistence' for queue 'q' in vhost '/': {value_not_in_allowed_set,<<"tape">>}
            8:declare q x-message-deduplication=true x-deduplication-header=7 -> Channel 406 invalid arg 'x-deduplication-header' for queue 'q' in vhost '/': {unacceptable_type,long}
            9:declare q x-message-deduplication=false x-cache-ttl=7 -> Channel 406 invalid arg 'x-cache-ttl' for queue 'q' in vhost '/': it needs 'x-message-deduplication'
            10:declare q x-message-deduplication=true x-cache-size=many -> Channel 406 invalid arg 'x-cache-size' for queue 'q' in vhost '/': "expected integer, got longstr"
            11:exchange e x-message-deduplication -> Channel 406 Missing or invalid argument, 'x-cache-size' must be an integer greater than 0
            12:exchange e topic x-deduplication-header=h -> Channel 406 invalid arg 'x-deduplication-header' for exchange 'e' in vhost '/': it needs 'x-message-deduplication'
            13:exchange e x-message-deduplication x-cache-size=5 x-message-deduplication=false -> Channel 406 invalid arg 'x-message-deduplication' for exchange 'e' in vhost '/': the exchange's type asks for it
            14:exchange e fanout x-message-deduplication=1 -> Channel 406 invalid arg 'x-message-deduplication' for exchange 'e' in vhost '/': {unacceptable_type,long}
            16:exchange e fanout x-cache-size=5 -> Channel 406 inequivalent arg 'type' for exchange 'e' in vhost '/': received 'fanout' but current is 'x-message-deduplication'
            17:exchange e x-message-deduplication x-cache-size=6 -> Channel 406 inequivalent arg 'x-cache-size' for exchange 'e' in vhost '/': received '6' but current is '5'
        "#]],
    );
}

#[test]
fn a_queue_remembers_after_a_crash() {
    check_durable(
        "dedup-queue",
        "declare q durable x-message-deduplication=true x-cache-size=3; confirm
         publish persistent q message-id=1 a; publish persistent q message-id=2 b; publish q message-id=t transient
         restart; confirm; publish persistent q message-id=1 no; publish persistent q message-id=2 no; publish persistent q message-id=t t; declare q passive
         tend; publish persistent q message-id=3 c; tend; restart; publish persistent q message-id=2 no; publish persistent q message-id=t no; publish persistent q message-id=1 a2
         restart; publish persistent q message-id=1 no; publish persistent q message-id=2 b2; declare q passive
         delete q; declare q durable x-message-deduplication=true; restart; publish persistent q message-id=1 new; declare q passive",
        expect![[r#"
            publish persistent q message-id=2 b -> confirmed 1
            publish q message-id=t transient -> confirmed 3 multiple
            publish persistent q message-id=1 no -> confirmed 1
            publish persistent q message-id=2 no -> confirmed 2
            declare q passive -> q: 3 ready, 0 consumers, confirmed 3
            declare q passive -> q: 6 ready, 0 consumers
            delete q -> 6 deleted
            declare q passive -> q: 1 ready, 0 consumers
        "#]],
    );
}

#[test]
fn an_exchange_remembers_after_a_crash() {
    check_durable(
        "dedup-exchange",
        "exchange e topic durable x-message-deduplication=true x-cache-ttl=1000; declare q durable; declare p durable x-message-deduplication=true; bind q e #; bind p e #
         publish persistent e/k message-id=1 a; publish persistent p message-id=2 b; restart; publish persistent e/k message-id=1 no; publish persistent e/k message-id=2 c
         restart; publish persistent e/k message-id=2 no; declare q passive; declare p passive; advance 999; tend; restart
         publish persistent e/k message-id=1 no; advance 1; publish persistent e/k message-id=1 a2; declare q passive; declare p passive
         delete-exchange e; exchange e topic durable x-message-deduplication=true; bind q e #; restart; publish persistent e/k message-id=1 a3; restart
         publish persistent e/k message-id=1 no; declare q passive",
        expect![[r#"
            declare q passive -> q: 2 ready, 0 consumers
            declare p passive -> p: 2 ready, 0 consumers
            declare q passive -> q: 3 ready, 0 consumers
            declare p passive -> p: 2 ready, 0 consumers
            declare q passive -> q: 4 ready, 0 consumers
        "#]],
    );
}

#[test]
fn producers_are_known_after_a_crash() {
    check_durable(
        "dedup-producers",
        "declare q durable; confirm; publish persistent q x-producer=a x-producer-sequence=0 a0; publish persistent q x-producer=a x-producer-sequence=1 a1
         publish q x-producer=a x-producer-sequence=2 transient; publish persistent q x-producer=b x-producer-epoch=2 x-producer-sequence=7 b
         publish persistent nowhere x-producer=c x-producer-sequence=0 c
         restart; publish persistent q x-producer=a x-producer-sequence=1 no; publish persistent q x-producer=a x-producer-sequence=2 a2; declare q passive
         tend; restart; publish persistent q x-producer=a x-producer-sequence=2 no; 2:publish persistent q x-producer=b x-producer-epoch=1 x-producer-sequence=8 no
         publish persistent q x-producer=b x-producer-epoch=2 x-producer-sequence=7 no; publish persistent q x-producer=c x-producer-sequence=0 no; declare q passive",
        expect![[r#"
            publish persistent q x-producer=a x-producer-sequence=1 a1 -> confirmed 1
            publish q x-producer=a x-producer-sequence=2 transient -> confirmed 3 multiple
            publish persistent nowhere x-producer=c x-producer-sequence=0 c -> dropped c, confirmed 4
            declare q passive -> q: 4 ready, 0 consumers
            2:publish persistent q x-producer=b x-producer-epoch=1 x-producer-sequence=8 no -> Channel 406 producer 'b' with epoch 1 is fenced: epoch 2 has begun
            declare q passive -> q: 4 ready, 0 consumers
        "#]],
    );
}

#[test]
fn transactions_and_delays_are_remembered_after_a_crash() {
    check_durable(
        "dedup-commit",
        "declare q durable x-message-deduplication=true; exchange e x-delayed-message durable x-delayed-type=fanout; bind q e k
         tx; publish persistent q message-id=1 a; publish persistent q x-producer=a x-producer-sequence=0 b; publish persistent q message-id=1 no; commit
         2:publish persistent e/k x-delay=10 message-id=1 no; 2:publish persistent e/k x-delay=10 message-id=2 c; advance 10; declare q passive
         restart; tx; publish persistent q message-id=1 no; publish persistent q x-producer=a x-producer-sequence=0 no; commit
         2:publish persistent q message-id=2 no; declare q passive; get q; get q; get q; ack 2; commit; restart; declare q passive",
        expect![[r#"
            declare q passive -> q: 3 ready, 0 consumers
            declare q passive -> q: 3 ready, 0 consumers
            get q -> a(1), 2 left
            get q -> b[x-producer, x-producer-sequence](2), 1 left
            get q -> c[x-delay -10](3), 0 left
            declare q passive -> q: 2 ready, 0 consumers
        "#]],
    );
}
