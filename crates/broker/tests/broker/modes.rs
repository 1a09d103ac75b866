//! Publisher confirms and transactions.

use crate::script::check;
use expect_test::expect;

#[test]
fn confirms() {
    check(
        "declare q; publish q a; confirm; publish q b; publish q c d e; confirm; publish missing f; publish mandatory missing g; 1.2: publish q h",
        expect![[r#"
        publish q b -> confirmed 1
        publish q c d e -> confirmed 4 multiple
        publish missing f -> dropped f, confirmed 5
        publish mandatory missing g -> returned g, confirmed 6
    "#]],
    );
}

#[test]
fn a_channel_has_one_mode() {
    check(
        "confirm; tx; 1.2: tx; 1.2: tx; 1.2: confirm; 1.3: commit; 1.3: rollback; commit",
        expect![[r#"
        tx -> Channel 406 cannot switch from confirm to tx mode
        1.2: confirm -> Channel 406 cannot switch from tx to confirm mode
        1.3: commit -> Channel 406 channel is not transactional
        1.3: rollback -> Channel 406 channel is not transactional
        commit -> Channel 406 channel is not transactional
    "#]],
    );
}

#[test]
fn commit_makes_it_all_happen() {
    check(
        "declare q; declare r; publish q in; tx; get q; ack 1; publish q a; publish r b c; publish q d; declare q passive; declare r passive; unacked
         2: get q; commit; unacked; get q; get q; get r; get r; 2: get q; 2: get r",
        expect![[r#"
            get q -> in(1), 0 left
            declare q passive -> q: 0 ready, 0 consumers
            declare r passive -> r: 0 ready, 0 consumers
            unacked -> 0
            2: get q -> empty
            unacked -> 0
            get q -> a(2), 1 left
            get q -> d(3), 0 left
            get r -> b(4), 1 left
            get r -> c(5), 0 left
            2: get q -> empty
            2: get r -> empty
        "#]],
    );
}

#[test]
fn rollback_makes_nothing_happen() {
    check(
        "declare q; publish q in; tx; get q; ack 1; publish q a; rollback; unacked; declare q passive; ack 1; ack 1; commit; unacked; close; 2: get q",
        expect![[r#"
            get q -> in(1), 0 left
            unacked -> 1
            declare q passive -> q: 0 ready, 0 consumers
            ack 1 -> Channel 406 unknown delivery tag 1
            unacked -> 0
            2: get q -> empty
        "#]],
    );
    check(
        "declare q; publish q x y; tx; get q; get q; nack 1 requeue; reject 2; rollback; unacked; close; get q; get q",
        expect![[r#"
        get q -> x(1), 1 left
        get q -> y(2), 0 left
        unacked -> 2
        get q -> x(1)!, 1 left
        get q -> y(2)!, 0 left
    "#]],
    );
}

#[test]
fn nacks_and_rejects_wait_for_the_commit() {
    check(
        "declare q; publish q x y z; tx; get q; get q; get q; nack 1 requeue; reject 2; ack 3; declare q passive; commit; get q; get q",
        expect![[r#"
        get q -> x(1), 2 left
        get q -> y(2), 1 left
        get q -> z(3), 0 left
        declare q passive -> q: 0 ready, 0 consumers
        get q -> x(4)!, 0 left
        get q -> empty
    "#]],
    );
}

#[test]
fn an_open_transaction_ends_with_its_channel() {
    check(
        "declare q; publish q in; tx; get q; ack 1; publish q a; close; get q; get q",
        expect![[r#"
        get q -> in(1), 0 left
        get q -> in(1)!, 0 left
        get q -> empty
    "#]],
    );
    check(
        "declare q; publish q in; tx; get q; ack 1; publish q a; disconnect; 2: get q; 2: get q",
        expect![[r#"
        get q -> in(1), 0 left
        2: get q -> in(1)!, 0 left
        2: get q -> empty
    "#]],
    );
}

#[test]
fn returns_come_at_the_commit() {
    check(
        "tx; publish mandatory missing a; publish missing b; publish mandatory amq.topic/k c; commit; commit; publish mandatory missing d; rollback; commit",
        expect![[r#"
        commit -> returned a, returned c
    "#]],
    );
}

#[test]
fn an_unknown_tag_in_a_transaction() {
    check(
        "declare q; publish q x; tx; get q; ack 1; ack 1; ack 2; commit; unacked",
        expect![[r#"
        get q -> x(1), 0 left
        ack 1 -> Channel 406 unknown delivery tag 1
        ack 2 -> Channel 406 unknown delivery tag 2
        unacked -> 0
    "#]],
    );
}

#[test]
fn prefetch_in_a_transaction() {
    check(
        "declare q; publish q a b c d e f; tx; consume q as x prefetch 2; pull; ack 1; ack 2; pull; publish q g; pull; commit; pull",
        expect![[r#"
            pull -> x: a(1) b(2)
            pull -> nothing
            pull -> nothing
            pull -> nothing
        "#]],
    );
    // What was acked counts again after a rollback.
    check(
        "declare q; publish q a b c d e f; tx; consume q as x prefetch 2; pull; ack 1; ack 2; rollback; publish q g; pull; unacked; ack 0 multiple; commit; pull",
        expect![[r#"
            pull -> x: a(1) b(2)
            pull -> nothing
            unacked -> 2
            pull -> nothing
        "#]],
    );
}

#[test]
fn cancel_within_a_transaction() {
    check(
        "declare q; publish q a b; tx; consume q as x; pull; ack 1; cancel x; rollback; unacked; nack 2 multiple requeue; commit; get q; get q",
        expect![[r#"
        pull -> x: a(1) b(2)
        unacked -> 2
        get q -> a(3)!, 1 left
        get q -> b(4)!, 0 left
    "#]],
    );
}
