//! Queues: declaration, ownership, their end, and limits.

use crate::script::{check, check_with};
use expect_test::expect;
use leveret_broker::Limits;

#[test]
fn declare_and_passive() {
    check(
        "declare q; publish q a b; consume q as c; declare q passive; declare missing passive; declare q",
        expect![[r#"
        declare q passive -> q: 2 ready, 1 consumers
        declare missing passive -> Channel 404 no queue 'missing' in vhost '/'
    "#]],
    );
}

#[test]
fn server_named() {
    check(
        "declare -; publish amq.gen-BAAAAAAAAAAAAAAAAAAAAA a; get ''; declare -; get ''; 1.2: get ''; 1.2: purge ''; 1.2: delete ''; 1.2: consume ''; 1.2: declare - passive",
        expect![[r#"
            declare - -> amq.gen-BAAAAAAAAAAAAAAAAAAAAA
            get '' -> a(1), 0 left
            declare - -> amq.gen-CAAAAAAAAAAAAAAAAAAAAA
            get '' -> empty
            1.2: get '' -> Channel 404 no previously declared queue
            1.2: purge '' -> Channel 404 no previously declared queue
            1.2: delete '' -> Channel 404 no previously declared queue
            1.2: consume '' -> Channel 404 no previously declared queue
            1.2: declare - passive -> Channel 404 no previously declared queue
        "#]],
    );
}

#[test]
fn redeclaring() {
    check(
        "declare q durable x-max-length=5; declare q durable x-max-length=5; declare q x-max-length=5; declare q durable
         declare q durable auto-delete x-max-length=5; declare q durable x-max-length=6; declare q durable exclusive x-max-length=5
         declare q durable x-max-length=5 x-queue-type=classic; declare q durable x-max-length=5 x-other=1
         declare r x-max-length=-1; declare r x-overflow=sometimes; declare r x-queue-type=stream; declare r passive",
        expect![[r#"
            declare q x-max-length=5 -> Channel 406 inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'
            declare q durable -> Channel 406 inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received none but current is the value '5' of type 'long'
            declare q durable auto-delete x-max-length=5 -> Channel 406 inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'
            declare q durable x-max-length=6 -> Channel 406 inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received '6' but current is '5'
            declare q durable exclusive x-max-length=5 -> Channel 405 cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.
            declare q durable x-max-length=5 x-other=1 -> Channel 406 inequivalent arg 'x-other' for queue 'q' in vhost '/': received the value '1' of type 'long' but current is none
            declare r x-max-length=-1 -> Channel 406 invalid arg 'x-max-length' for queue 'r' in vhost '/': {value_negative,-1}
            declare r x-overflow=sometimes -> Channel 406 invalid arg 'x-overflow' for queue 'r' in vhost '/': invalid_overflow
            declare r x-queue-type=stream -> Channel 406 invalid arg 'x-queue-type' for queue 'r' in vhost '/': streams are not supported by this version
            declare r passive -> Channel 404 no queue 'r' in vhost '/'
        "#]],
    );
}

#[test]
fn reserved_names() {
    check(
        "declare amq.mine; declare amq.mine passive; declare amq.gen-mine; declare amq.rabbitmq.reply-to passive",
        expect![[r#"
        declare amq.mine -> Channel 403 queue name 'amq.mine' contains reserved prefix 'amq.*'
        declare amq.mine passive -> Channel 404 no queue 'amq.mine' in vhost '/'
        declare amq.gen-mine -> Channel 403 queue name 'amq.gen-mine' contains reserved prefix 'amq.*'
        declare amq.rabbitmq.reply-to passive -> amq.rabbitmq.reply-to: 0 ready, 1 consumers
    "#]],
    );
}

#[test]
fn exclusive() {
    check(
        "declare q exclusive; declare q exclusive; declare q; publish q a b c
         2: declare q exclusive; 2: declare q passive; 2: get q; 2: consume q; 2: purge q; 2: delete q; 2: bind q amq.topic k; 2: unbind q amq.topic k
         2: publish q d; 1.2: get q; declare q passive; disconnect; 2: declare q passive; 2: declare q",
        expect![[r#"
            declare q -> Channel 405 cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.
            2: declare q exclusive -> Channel 405 cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.
            2: declare q passive -> Channel 405 cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.
            2: get q -> Channel 405 cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.
            2: consume q -> Channel 405 cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.
            2: purge q -> Channel 405 cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.
            2: delete q -> Channel 405 cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.
            2: bind q amq.topic k -> Channel 405 cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.
            2: unbind q amq.topic k -> Channel 405 cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.
            1.2: get q -> a(1), 3 left
            declare q passive -> q: 3 ready, 0 consumers
            2: declare q passive -> Channel 404 no queue 'q' in vhost '/'
        "#]],
    );
}

#[test]
fn auto_delete() {
    check(
        "declare q auto-delete; get q; declare q passive; consume q as a; consume q as b; cancel a; declare q passive; cancel b; declare q passive",
        expect![[r#"
        get q -> empty
        declare q passive -> q: 0 ready, 0 consumers
        declare q passive -> q: 0 ready, 1 consumers
        declare q passive -> Channel 404 no queue 'q' in vhost '/'
    "#]],
    );
    check(
        "declare q auto-delete; consume q as a; disconnect; 2: declare q passive",
        expect![[r#"
        2: declare q passive -> Channel 404 no queue 'q' in vhost '/'
    "#]],
    );
    check(
        "declare q auto-delete; 1.2: consume q as a; 1.2: close; declare q passive",
        expect![[r#"
        declare q passive -> Channel 404 no queue 'q' in vhost '/'
    "#]],
    );
    check(
        "declare q auto-delete; publish q a; consume q as c; pull; cancel c; unacked; ack 1; unacked",
        expect![[r#"
        pull -> c: a(1)
        unacked -> 1
        unacked -> 0
    "#]],
    );
}

#[test]
fn purge_and_delete() {
    check(
        "declare q; publish q a b c d; consume q as c prefetch 1; pull; purge q; declare q passive; nack 1 requeue; pull
         publish q e; delete q if-unused; cancel c; delete q if-empty; delete q if-unused; delete q; purge q; declare q passive",
        expect![[r#"
            pull -> c: a(1)
            purge q -> 3 purged
            declare q passive -> q: 0 ready, 1 consumers
            pull -> c: a(2)!
            delete q if-unused -> Channel 406 queue 'q' in vhost '/' in use
            delete q if-empty -> Channel 406 queue 'q' in vhost '/' not empty
            delete q if-unused -> 1 deleted
            delete q -> 0 deleted
            purge q -> Channel 404 no queue 'q' in vhost '/'
            declare q passive -> Channel 404 no queue 'q' in vhost '/'
        "#]],
    );
    check(
        "declare q; declare q2; publish q a; delete q if-empty; delete q2 if-empty; delete q2",
        expect![[r#"
        delete q if-empty -> Channel 406 queue 'q' in vhost '/' not empty
        delete q2 if-empty -> 0 deleted
        delete q2 -> 0 deleted
    "#]],
    );
}

#[test]
fn settling_after_the_queues_end() {
    check(
        "declare q; publish q a b c; get q; get q; delete q; ack 1; nack 2 requeue; declare q; get q; unacked; memory",
        expect![[r#"
        get q -> a(1), 2 left
        get q -> b(2), 1 left
        delete q -> 1 deleted
        get q -> empty
        unacked -> 0
        memory -> 0 bytes
    "#]],
    );
    check(
        "declare q; publish q a b; get q; get q; purge q; nack 1 requeue; declare q passive; nack 2 requeue; get q; get q",
        expect![[r#"
        get q -> a(1), 1 left
        get q -> b(2), 0 left
        purge q -> 0 purged
        declare q passive -> q: 1 ready, 0 consumers
        get q -> a(3)!, 1 left
        get q -> b(4)!, 0 left
    "#]],
    );
}

#[test]
fn get() {
    check(
        "declare q; get q; publish q a b c; get q no-ack; get q; get q; get q; unacked; ack 1; ack 2; ack 3; get missing; close; get q",
        expect![[r#"
        get q -> empty
        get q no-ack -> a(1), 2 left
        get q -> b(2), 1 left
        get q -> c(3), 0 left
        get q -> empty
        unacked -> 2
        ack 1 -> Channel 406 unknown delivery tag 1
        get missing -> Channel 404 no queue 'missing' in vhost '/'
        get q -> empty
    "#]],
    );
}

#[test]
fn limits() {
    let limits = Limits { max_queues: 2, max_exchanges: 7, max_bindings: 1, max_consumers: 1, ..Limits::default() };
    check_with(
        limits,
        "declare a; declare b; declare c; declare a; declare -; delete a; declare c
         exchange e direct; exchange f direct; exchange e direct; delete-exchange e; exchange f direct
         bind b amq.topic k; bind b amq.topic l; bind b amq.topic k; unbind b amq.topic k; bind b amq.topic l
         consume b as x; consume c as y; cancel x; consume c as y; 1.2: consume c as z",
        expect![[r#"
            declare c -> Channel 406 cannot have more than 2 queues; the broker's limit is max_queues
            declare - -> Channel 406 cannot have more than 2 queues; the broker's limit is max_queues
            delete a -> 0 deleted
            exchange f direct -> Channel 406 cannot have more than 7 exchanges; the broker's limit is max_exchanges
            bind b amq.topic l -> Channel 406 cannot have more than 1 bindings; the broker's limit is max_bindings
            consume c as y -> Channel 406 cannot have more than 1 consumers on a channel; the broker's limit is max_consumers
        "#]],
    );
}

#[test]
fn limits_of_transactions() {
    let limits = Limits { max_transaction_messages: 2, ..Limits::default() };
    check_with(
        limits,
        "declare q; tx; publish q a b; commit; publish q c d; publish q e; close; declare q passive",
        expect![[r#"
        publish q e -> Channel 406 transaction is larger than configured max size: 2 messages, 67108864 bytes
        declare q passive -> q: 2 ready, 0 consumers
    "#]],
    );
    let limits = Limits { max_transaction_bytes: 10, ..Limits::default() };
    check_with(
        limits,
        "declare q; tx; publish q 123456; commit; publish q 123456; publish q 123; close; declare q passive",
        expect![[r#"
        publish q 123 -> Channel 406 transaction is larger than configured max size: 100000 messages, 10 bytes
        declare q passive -> q: 1 ready, 0 consumers
    "#]],
    );
}

#[test]
fn memory_limit() {
    let limits = Limits { max_memory: 8192, ..Limits::default() };
    let large = "x".repeat(9000);
    check_with(
        limits,
        &format!(
            "2: pull; declare q; publish q small; pull; publish q {large}; pull; publish q small; pull; 3: pull
             purge q; check-memory; pull; 4: pull; memory"
        ),
        expect![[r#"
            2: pull -> nothing
            pull -> nothing
            pull -> Blocked, 2:Blocked
            pull -> nothing
            3: pull -> 3:Blocked
            purge q -> 3 purged
            pull -> Unblocked, 2:Unblocked, 3:Unblocked
            4: pull -> nothing
            memory -> 0 bytes
        "#]],
    );
}

/// A queue that ends itself leaves its name free: whoever declares it next keeps it.
#[test]
fn an_ended_exclusive_queue_is_nobodys() {
    check(
        "declare q exclusive auto-delete; consume q as c; cancel c
         2: declare q durable; 2: publish q a; disconnect; 2: declare q passive",
        expect![[r#"
            2: declare q passive -> q: 1 ready, 0 consumers
        "#]],
    );
    check(
        "declare q exclusive auto-delete; consume q as c; cancel c; declare q durable; publish q a; disconnect; 2: declare q passive",
        expect![[r#"
            2: declare q passive -> q: 1 ready, 0 consumers
        "#]],
    );
}
