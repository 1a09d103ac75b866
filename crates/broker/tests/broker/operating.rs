//! Operating a broker: what is listed and counted, browsing, pausing, moving and purging.

use crate::script::{check, check_durable};
use expect_test::expect;

#[test]
fn a_queue_tells_what_it_holds_and_what_happened() {
    check(
        "declare q; publish q one; advance 1500; publish q four; publish q fifteen
         info q; consume q as c prefetch 2; pull; info q; counters q
         ack 1; nack 2 requeue; info q; counters q; pull; get q no-ack; get q; counters q; channel-counters; info q
         purge-queue q; info nowhere",
        expect![[r#"
            info q -> Running: 3 ready of 14 bytes, 0 unacked of 0 bytes, 0 waiting, 0 persistent, 0 consumers, oldest 0, last 1500
            pull -> c: one(1) four(2)
            info q -> Running: 1 ready of 7 bytes, 2 unacked of 7 bytes, 0 waiting, 0 persistent, 1 consumers, oldest 0, last 1500
            counters q -> published 3, published_bytes 14, delivered 2, delivered_bytes 7
            info q -> Running: 2 ready of 11 bytes, 0 unacked of 0 bytes, 0 waiting, 0 persistent, 1 consumers, oldest 1500, last 1500
            counters q -> published 3, published_bytes 14, delivered 2, delivered_bytes 7, acked 1, returned 1
            pull -> c: four(3)! fifteen(4)
            get q no-ack -> empty
            get q -> empty
            counters q -> published 3, published_bytes 14, delivered 4, get_empty 2, redelivered 1, delivered_bytes 18, acked 1, returned 1
            channel-counters -> publish 3, deliver 4, get_empty 2, redeliver 1, ack 1
            info q -> Running: 0 ready of 0 bytes, 2 unacked of 11 bytes, 0 waiting, 0 persistent, 1 consumers, oldest 1500, last 1500
            purge-queue q -> 0 purged
            info nowhere -> no such queue
        "#]],
    );
}

#[test]
fn what_died_is_counted_by_the_reason_and_what_of_it_became_a_letter() {
    check(
        "declare dead; declare q x-dead-letter-exchange= x-dead-letter-routing-key=dead x-max-length=3 x-message-ttl=1000
         publish q a b c d; consume q as c prefetch 1; pull; reject 1; cancel c; advance 1000; counters q; counters dead; info q
         declare lost x-message-ttl=10 x-delivery-limit=1; publish lost a b; get lost; reject 2; advance 10; counters lost
         publish lost c; get lost; reject 3 requeue; get lost; reject 4 requeue; counters lost; info lost
         declare full x-max-length=1 x-overflow=reject-publish; publish full a b c; counters full",
        expect![[r#"
            pull -> c: b(1)
            counters q -> published 4, published_bytes 4, delivered 1, delivered_bytes 1, died.expired 2, died.rejected 1, died.max_length 1, dead_lettered.expired 2, dead_lettered.rejected 1, dead_lettered.max_length 1
            counters dead -> published 4, published_bytes 4
            info q -> Running: 0 ready of 0 bytes, 0 unacked of 0 bytes, 0 waiting, 0 persistent, 0 consumers, oldest -, last 0
            get lost -> a(2), 1 left
            counters lost -> published 2, published_bytes 2, got 1, delivered_bytes 1, died.expired 1, died.rejected 1
            get lost -> c(3), 0 left
            get lost -> c[x-delivery-count 1](4)!, 0 left
            counters lost -> published 3, published_bytes 3, got 3, redelivered 1, delivered_bytes 3, returned 1, died.expired 1, died.rejected 1, died.delivery_limit 1
            info lost -> Running: 0 ready of 0 bytes, 0 unacked of 0 bytes, 0 waiting, 0 persistent, 0 consumers, oldest -, last 1010
            counters full -> published 1, published_bytes 1, refused 2
        "#]],
    );
}

#[test]
fn transactions_count_as_what_they_are() {
    check_durable(
        "counted-transactions",
        "declare dead durable; declare q durable x-dead-letter-exchange= x-dead-letter-routing-key=dead
         publish persistent q a b c; get q; get q; tx; ack 1; reject 2; publish persistent q d; commit; counters q
         counters dead; get q; ack 3; rollback; counters q; info q",
        expect![[r#"
            get q -> a(1), 2 left
            get q -> b(2), 1 left
            counters q -> published 4, published_bytes 4, got 2, delivered_bytes 2, acked 1, died.rejected 1, dead_lettered.rejected 1
            counters dead -> published 1, published_bytes 1
            get q -> c(3), 1 left
            counters q -> published 4, published_bytes 4, got 3, delivered_bytes 3, acked 1, died.rejected 1, dead_lettered.rejected 1
            info q -> Running: 1 ready of 1 bytes, 1 unacked of 1 bytes, 0 waiting, 2 persistent, 0 consumers, oldest 0, last 0
        "#]],
    );
}

#[test]
fn what_survives_a_restart_is_told_and_ages_begin_anew() {
    check_durable(
        "operated-restart",
        "declare q durable; publish q t1; publish persistent q one; advance 5000; publish persistent q three
         info q; browse q; advance 500; restart; info q; browse q; counters q; get q; info q
         advance 2000; publish persistent q four; info q; ack 1; browse q; info q",
        expect![[r#"
            info q -> Running: 3 ready of 10 bytes, 0 unacked of 0 bytes, 0 waiting, 2 persistent, 0 consumers, oldest 0, last 5000
            browse q -> 0:t1 1:one 2:three
            info q -> Running: 2 ready of 156 bytes, 0 unacked of 0 bytes, 0 waiting, 2 persistent, 0 consumers, oldest 5500, last -
            browse q -> 1:one 2:three
            get q -> one(1), 1 left
            info q -> Running: 1 ready of 78 bytes, 1 unacked of 3 bytes, 0 waiting, 2 persistent, 0 consumers, oldest 5500, last -
            info q -> Running: 2 ready of 82 bytes, 1 unacked of 3 bytes, 0 waiting, 3 persistent, 0 consumers, oldest 5500, last 7500
            browse q -> 2:three 3:four
            info q -> Running: 2 ready of 82 bytes, 0 unacked of 0 bytes, 0 waiting, 2 persistent, 0 consumers, oldest 5500, last 7500
        "#]],
    );
}

#[test]
fn exchanges_and_channels_count_what_is_published() {
    check(
        "exchange e topic; declare a; declare b; bind a e x.*; bind b e x.1; publish e/x.1 1 2; publish e/x.2 3
         publish e/nowhere 4; publish mandatory e/nowhere 5; publish a 6; publish nobody 7
         exchange-info e; exchange-info ''; exchange-info amq.topic; exchange-info nowhere; channel-counters
         confirm; publish e/x.1 8; channel-counters; exchange-info e
         exchange d x-delayed-message x-delayed-type=direct; bind a d k; publish d/k x-delay=50 9; exchange-info d
         delete-exchange e; counters a",
        expect![[r#"
            publish e/nowhere 4 -> dropped 4
            publish mandatory e/nowhere 5 -> returned 5
            publish nobody 7 -> dropped 7
            exchange-info e -> topic durable=false published_in 5, published_out 5, unroutable 2
            exchange-info '' -> direct durable=true published_in 2, published_out 1, unroutable 1
            exchange-info amq.topic -> topic durable=true 
            exchange-info nowhere -> no such exchange
            channel-counters -> publish 7, return_unroutable 1, drop_unroutable 2
            publish e/x.1 8 -> confirmed 1
            channel-counters -> publish 8, confirm 1, return_unroutable 1, drop_unroutable 2
            exchange-info e -> topic durable=false published_in 6, published_out 7, unroutable 2
            publish d/k x-delay=50 9 -> confirmed 2
            exchange-info d -> x-delayed-message durable=false published_in 1, published_out 1, 1 delayed
            counters a -> published 5, published_bytes 5
        "#]],
    );
}

#[test]
fn bindings_and_consumers_are_listed() {
    check(
        "exchange e topic; exchange f fanout; declare a; declare b x-single-active-consumer=true; bind a e x.*; bind b e y
         bind-exchange f e z; bind a amq.headers '' x-match=any; bindings; bindings-to a; bindings-from e; bindings-from nothing
         consume a as c1 no-ack; consume a as c2 prefetch 7 x-priority=3; 2.4:consume b as s1; 2:consume b as s2; consumers a; consumers b
         consumers nowhere; info b; publish b 1 2; 2:pull; consumers b; 2.4:ack 1; consumers b; 2.4:cancel s1; info b
         declare x exclusive; consume x as e exclusive; consumers x; live-prefetch; qos 9; consumers a",
        expect![[r#"
            bindings -> amq.headers --> a x-match=any, e -x.*-> a, e -y-> b, e -z-> exchange f
            bindings-to a -> amq.headers --> a x-match=any, e -x.*-> a
            bindings-from e -> e -x.*-> a, e -y-> b, e -z-> exchange f
            consumers a -> c2 on 1: prefetch 7, priority 3, 0 unacked, c1 on 1: prefetch 0, priority 0, 0 unacked, no-ack
            consumers b -> s1 on 4: prefetch 0, priority 0, 0 unacked, s2 on 1: prefetch 0, priority 0, 0 unacked, inactive
            info b -> Running: 0 ready of 0 bytes, 0 unacked of 0 bytes, 0 waiting, 0 persistent, 2 consumers, oldest -, last -, active s1
            2:pull -> 2:s1: 1(1) 2(2)
            consumers b -> s1 on 4: prefetch 0, priority 0, 2 unacked, s2 on 1: prefetch 0, priority 0, 0 unacked, inactive
            consumers b -> s1 on 4: prefetch 0, priority 0, 1 unacked, s2 on 1: prefetch 0, priority 0, 0 unacked, inactive
            info b -> Running: 0 ready of 0 bytes, 1 unacked of 1 bytes, 0 waiting, 0 persistent, 1 consumers, oldest 0, last 0, active s2
            consumers x -> e on 1: prefetch 7, priority 0, 0 unacked, exclusive
            consumers a -> c2 on 1: prefetch 9, priority 3, 0 unacked, c1 on 1: prefetch 9, priority 0, 0 unacked, no-ack
        "#]],
    );
}

#[test]
fn browsing_shows_every_message_and_changes_nothing() {
    check(
        "declare q x-delivery-limit=9; publish q a k=v b; publish q c d; get q; get q; nack 1 requeue; browse q; info q
         browse q count=1; browse q offset=2; browse q from=2 count=1; browse q state=unacked; browse q state=ready count=1
         browse q state=waiting; browse q filter=attributes.k=\"v\"; browse q contains=c; browse q key=q; browse q key=z; browse q body=0
         browse q scan=2 contains=d; browse q from=2 contains=d; get q no-ack; get q no-ack; browse q; counters q; browse nowhere",
        expect![[r#"
            get q -> a[k](1), 3 left
            get q -> b[k](2), 2 left
            browse q -> 0:a[k]! 1:b[k](unacked) 2:c 3:d
            info q -> Running: 3 ready of 3 bytes, 1 unacked of 1 bytes, 0 waiting, 0 persistent, 0 consumers, oldest 0, last 0
            browse q count=1 -> 0:a[k]! next 1
            browse q offset=2 -> 2:c 3:d
            browse q from=2 count=1 -> 2:c next 3
            browse q state=unacked -> 1:b[k](unacked)
            browse q state=ready count=1 -> 0:a[k]! next 2
            browse q state=waiting -> nothing
            browse q filter=attributes.k="v" -> 0:a[k]! 1:b[k](unacked)
            browse q contains=c -> 2:c
            browse q key=q -> 0:a[k]! 1:b[k](unacked) 2:c 3:d
            browse q key=z -> nothing
            browse q body=0 -> 0:[k]...! 1:[k]...(unacked) 2:... 3:...
            browse q scan=2 contains=d -> go on at 2
            browse q from=2 contains=d -> 3:d
            get q no-ack -> a[k, x-delivery-count 1](3)!, 2 left
            get q no-ack -> c(4), 1 left
            browse q -> 1:b[k](unacked) 3:d
            counters q -> published 4, published_bytes 4, got 2, got_no_ack 2, redelivered 1, delivered_bytes 4, returned 1
            browse nowhere -> Channel 404 no queue 'nowhere' in vhost '/'
        "#]],
    );
}

#[test]
fn browsing_tells_what_waits_for_its_next_attempt() {
    check(
        "declare q x-delayed-retry-min=100; publish q a b c; get q; reject 1 requeue; browse q; browse q state=waiting
         advance 100; browse q; declare g x-group-header=k; publish g k=1 a1; publish g k=2 b1; publish g k=1 a2; get g
         consume g as c prefetch 1; pull; browse g; ack 3; pull; browse g",
        expect![[r#"
            get q -> a(1), 2 left
            browse q -> 0:a(waiting)! 1:b 2:c
            browse q state=waiting -> 0:a(waiting)!
            browse q -> 0:a! 1:b 2:c
            get g -> a1[k](2), 2 left
            pull -> c: b1[k](3)
            browse g -> 0:a1[k](unacked) 1:b1[k](unacked) 2:a2[k]
            pull -> nothing
            browse g -> 0:a1[k](unacked) 2:a2[k]
        "#]],
    );
}

#[test]
fn browsing_reads_what_is_on_the_disk() {
    let many: Vec<String> =
        (0..200).map(|number| format!("publish persistent q {}{number}", "x".repeat(2000))).collect();
    let script = format!(
        "declare q durable; {}; tend; restart; tend; browse q offset=3 count=2 body=1; browse q contains=x77 body=1
         browse q offset=2 count=1 contains=x19 body=1; get q no-ack; get q; browse q count=2 body=1; browse q bytes=9000 count=99 body=1
         browse q from=199 body=1; restart; browse q count=2 body=1; info q",
        many.join(";")
    );
    let said = crate::script::said_durable("browse-disk", &script);
    expect![[r#"
        browse q offset=3 count=2 body=1 -> 3:x... 4:x... next 5
        browse q contains=x77 body=1 -> 77:x...
        browse q offset=2 count=1 contains=x19 body=1 -> 191:x... next 192
        get q no-ack -> X0(1), 199 left
        get q -> X1(2), 198 left
        browse q count=2 body=1 -> 1:x...(unacked) 2:x... next 3
        browse q bytes=9000 count=99 body=1 -> 1:x...(unacked) 2:x... 3:x... 4:x... 5:x... go on at 6
        browse q from=199 body=1 -> 199:x...
        browse q count=2 body=1 -> 1:x...! 2:x...! next 3
        info q -> Running: 199 ready of 413214 bytes, 0 unacked of 0 bytes, 0 waiting, 199 persistent, 0 consumers, oldest 0, last -
    "#]].assert_eq(&said.replace(&"x".repeat(2000), "X"));
}

#[test]
fn a_paused_queue_takes_messages_and_gives_none() {
    check(
        "declare q; consume q as c; publish q a; pull; pause-queue q; publish q b c; pull; get q; info q; 2:consume q as d; 2:pull
         ack 1; info q; pause-queue q; resume-queue q; pull; 2:pull; info q; resume-queue q; pause-queue nowhere
         pause-queue q; publish q e; cancel c; pull; browse q; purge-queue q; info q; resume-queue q; publish q f; pull; 2:pull",
        expect![[r#"
            pull -> c: a(1)
            pull -> nothing
            get q -> empty
            info q -> Paused: 2 ready of 2 bytes, 1 unacked of 1 bytes, 0 waiting, 0 persistent, 1 consumers, oldest 0, last 0
            2:pull -> nothing
            info q -> Paused: 2 ready of 2 bytes, 0 unacked of 0 bytes, 0 waiting, 0 persistent, 2 consumers, oldest 0, last 0
            pull -> c: b(2), 2:d: c(1)
            2:pull -> nothing
            info q -> Running: 0 ready of 0 bytes, 2 unacked of 2 bytes, 0 waiting, 0 persistent, 2 consumers, oldest 0, last 0
            pause-queue nowhere -> Channel 404 no queue 'nowhere' in vhost '/'
            pull -> nothing
            browse q -> 1:b(unacked) 2:c(unacked) 3:e
            purge-queue q -> 1 purged
            info q -> Paused: 0 ready of 0 bytes, 2 unacked of 2 bytes, 0 waiting, 0 persistent, 1 consumers, oldest 0, last 0
            pull -> 2:d: f(2)
            2:pull -> nothing
        "#]],
    );
}

#[test]
fn a_durable_queue_is_paused_until_it_is_resumed_or_gone() {
    check_durable(
        "paused",
        "declare q durable; declare p durable; declare t; publish persistent q a; pause-queue q; pause-queue p; pause-queue t
         restart; get q; info q; info p; tend; restart; info q; resume-queue q; get q no-ack; delete p; declare p durable; info p
         restart; info p; info q; info t",
        expect![[r#"
            get q -> empty
            info q -> Paused: 1 ready of 75 bytes, 0 unacked of 0 bytes, 0 waiting, 1 persistent, 0 consumers, oldest 0, last -
            info p -> Paused: 0 ready of 0 bytes, 0 unacked of 0 bytes, 0 waiting, 0 persistent, 0 consumers, oldest -, last -
            info q -> Paused: 1 ready of 75 bytes, 0 unacked of 0 bytes, 0 waiting, 1 persistent, 0 consumers, oldest 0, last -
            get q no-ack -> a(1), 0 left
            delete p -> 0 deleted
            info p -> Running: 0 ready of 0 bytes, 0 unacked of 0 bytes, 0 waiting, 0 persistent, 0 consumers, oldest -, last -
            info p -> Running: 0 ready of 0 bytes, 0 unacked of 0 bytes, 0 waiting, 0 persistent, 0 consumers, oldest -, last -
            info q -> Running: 0 ready of 0 bytes, 0 unacked of 0 bytes, 0 waiting, 0 persistent, 0 consumers, oldest -, last -
            info t -> no such queue
        "#]],
    );
}

#[test]
fn a_paused_queue_with_groups_gives_none_either() {
    check(
        "declare q x-group-header=k; consume q as c; pause-queue q; publish q k=1 a; publish q k=2 b; pull; get q; browse q
         resume-queue q; pull; info q",
        expect![[r#"
            pull -> nothing
            get q -> empty
            browse q -> 0:a[k] 1:b[k]
            pull -> c: a[k](1) b[k](2)
            info q -> Running: 0 ready of 0 bytes, 2 unacked of 2 bytes, 0 waiting, 0 persistent, 1 consumers, oldest 0, last 0
        "#]],
    );
}

#[test]
fn messages_are_moved_to_a_queue_as_if_they_had_been_published_there() {
    check_durable(
        "moved",
        "declare a durable; declare b durable; publish persistent a k=v 1 2 3; publish a t; get a; move a b 2; browse a; browse b
         counters a; move a b 99; browse b; info a; ack 1; restart; browse a; browse b; move a a 1; move a nowhere 1
         2:declare own exclusive; move own b 1; move b own 1; publish amq.fanout/x lost",
        expect![[r#"
            get a -> 1[k](1), 3 left
            move a b 2 -> 2 moved, 0 kept
            browse a -> 0:1[k](unacked) 3:t
            browse b -> 0:2[k] 1:3[k]
            counters a -> published 4, published_bytes 4, got 1, delivered_bytes 1, moved 2
            move a b 99 -> 1 moved, 0 kept
            browse b -> 0:2[k] 1:3[k] 2:t
            info a -> Running: 0 ready of 0 bytes, 1 unacked of 1 bytes, 0 waiting, 1 persistent, 0 consumers, oldest 0, last 0
            browse a -> nothing
            browse b -> 0:2[k] 1:3[k]
            move a a 1 -> Channel 406 queue 'a' cannot be moved to itself
            move a nowhere 1 -> Channel 404 no queue 'nowhere' in vhost '/'
            move own b 1 -> Channel 405 cannot obtain exclusive access to locked queue 'own' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.
            move b own 1 -> Channel 405 cannot obtain exclusive access to locked queue 'own' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.
            publish amq.fanout/x lost -> dropped lost
        "#]],
    );
}

#[test]
fn messages_are_moved_through_an_exchange_and_those_that_lead_nowhere_stay() {
    check(
        "declare a; declare b; declare c; exchange e topic; bind b e x.#; bind c e x.2; bind a e self; publish a ''
         publish e/self own; exchange i fanout internal; bind a amq.fanout k; publish amq.fanout/x.1 1; publish amq.fanout/x.2 2
         move a e/ 10; browse a; browse b; browse c; move a e/x.9 1; browse b; move a i/ 1; move a gone/ 1; counters a
         publish a expiration=100 brief; move a e/x.3 5; browse b; advance 100; browse b",
        expect![[r#"
            move a e/ 10 -> 2 moved, 2 kept
            browse a -> 0:''! 1:own!
            browse b -> 0:1 1:2
            browse c -> 0:2
            move a e/x.9 1 -> 1 moved, 0 kept
            browse b -> 0:1 1:2 2:''
            move a i/ 1 -> Channel 403 cannot publish to internal exchange 'i' in vhost '/'
            move a gone/ 1 -> Channel 404 no exchange 'gone' in vhost '/'
            counters a -> published 4, published_bytes 7, moved 3
            move a e/x.3 5 -> 2 moved, 0 kept
            browse b -> 0:1 1:2 2:'' 3:own 4:brief<expires 100>
            browse b -> 0:1 1:2 2:'' 3:own
        "#]],
    );
}
