//! Routing: exchange types, bindings, and the exchanges' own life.

use crate::script::check;
use expect_test::expect;

#[test]
fn default_exchange() {
    check(
        "declare q; publish q a b c; get q; publish other lost; publish mandatory other back",
        expect![[r#"
        get q -> a(1), 2 left
        publish other lost -> dropped lost
        publish mandatory other back -> returned back
    "#]],
    );
    check(
        "declare q; bind q '' k; unbind q '' k; exchange '' direct; delete-exchange ''; exchange '' direct passive",
        expect![[r#"
        bind q '' k -> Channel 403 operation not permitted on the default exchange
        unbind q '' k -> Channel 403 operation not permitted on the default exchange
        exchange '' direct -> Channel 403 operation not permitted on the default exchange
        delete-exchange '' -> Channel 403 operation not permitted on the default exchange
        exchange '' direct passive -> Channel 403 operation not permitted on the default exchange
    "#]],
    );
}

#[test]
fn direct() {
    check(
        "exchange e direct; declare q; declare r; bind q e k; bind r e k; bind r e other; bind q e k
         publish e/k a; publish e/other b; publish e/K c; get q; get q; get r; get r; get r
         unbind q e k; unbind q e k; publish e/k d; get q; get r",
        expect![[r#"
            publish e/K c -> dropped c
            get q -> a(1), 0 left
            get q -> empty
            get r -> a(2), 1 left
            get r -> b(3), 0 left
            get r -> empty
            get q -> empty
            get r -> d(4), 0 left
        "#]],
    );
}

#[test]
fn fanout() {
    check(
        "declare q; declare r; bind q amq.fanout x; bind q amq.fanout y; bind r amq.fanout ''
         publish amq.fanout/any a; get q; get q; get r
         unbind q amq.fanout x; publish amq.fanout/any b; get q; unbind q amq.fanout y; publish amq.fanout/any c; get q",
        expect![[r#"
            get q -> a(1), 0 left
            get q -> empty
            get r -> a(2), 0 left
            get q -> b(3), 0 left
            get q -> empty
        "#]],
    );
}

#[test]
fn topic() {
    check(
        "declare all; bind all amq.topic #; declare eu; bind eu amq.topic orders.eu.*; declare paid; bind paid amq.topic #.paid
         publish amq.topic/ping a; publish amq.topic/orders.eu.paid b; publish amq.topic/orders.eu c; publish amq.topic/ d
         get all; get all; get all; get all; get all; get eu; get eu; get paid; get paid",
        expect![[r#"
            get all -> a(1), 3 left
            get all -> b(2), 2 left
            get all -> c(3), 1 left
            get all -> d(4), 0 left
            get all -> empty
            get eu -> b(5), 0 left
            get eu -> empty
            get paid -> b(6), 0 left
            get paid -> empty
        "#]],
    );
}

#[test]
fn headers() {
    check(
        "exchange e headers; declare all; declare any; declare x; declare void
         bind all e '' type=pdf pages=2; bind any e '' x-match=any type=pdf pages=2
         bind x e '' x-match=all-with-x x-kind=1; bind void e '' type=void
         publish e/k type=pdf pages=2 a; publish e/k type=pdf b; publish e/k x-kind=1 c; publish e/k pages=3 d
         get all; get all; get any; get any; get any; get x; get x; get void; get void; get void
         bind all e '' x-match=most",
        expect![[r#"
            publish e/k pages=3 d -> dropped d
            get all -> a[type, pages](1), 0 left
            get all -> empty
            get any -> a[type, pages](2), 1 left
            get any -> b[type](3), 0 left
            get any -> empty
            get x -> c[x-kind](4), 0 left
            get x -> empty
            get void -> a[type, pages](5), 1 left
            get void -> b[type](6), 0 left
            get void -> empty
            bind all e '' x-match=most -> Channel 406 Invalid x-match field value "most"; expected all, any, all-with-x, or any-with-x
        "#]],
    );
}

#[test]
fn the_cache_of_routes_sees_every_change() {
    check(
        "declare q; declare r; bind q amq.topic k; publish amq.topic/k a; bind r amq.topic #; publish amq.topic/k b
         2: unbind q amq.topic k; publish amq.topic/k c; 2: delete r; publish amq.topic/k d
         2: declare r; 2: bind r amq.topic k; publish amq.topic/k e; get q; get q; get q; get r; get r",
        expect![[r#"
            2: delete r -> 2 deleted
            publish amq.topic/k d -> dropped d
            get q -> a(1), 1 left
            get q -> b(2), 0 left
            get q -> empty
            get r -> e(3), 0 left
            get r -> empty
        "#]],
    );
}

#[test]
fn alternate_exchange() {
    check(
        "exchange lost fanout; declare bin; bind bin lost ''
         exchange e direct alternate-exchange=lost; declare q; bind q e k
         publish e/k a; publish e/x b; get q; get q; get bin; get bin",
        expect![[r#"
            get q -> a(1), 0 left
            get q -> empty
            get bin -> b(2), 0 left
            get bin -> empty
        "#]],
    );
    // The alternate of an alternate, a missing one, one that leads in a circle, and one that is no name.
    check(
        "exchange a direct alternate-exchange=b; exchange b direct alternate-exchange=c; publish mandatory a/k 1
         exchange c fanout alternate-exchange=a; publish mandatory a/k 2; declare q; bind q c ''; publish a/k 3; get q
         exchange d direct alternate-exchange=1",
        expect![[r#"
            publish mandatory a/k 1 -> returned 1
            publish mandatory a/k 2 -> returned 2
            get q -> 3(1), 0 left
            exchange d direct alternate-exchange=1 -> Channel 406 invalid arg 'alternate-exchange': expected a string that names an exchange
        "#]],
    );
}

#[test]
fn internal() {
    check(
        "exchange inner fanout internal; exchange outer fanout; bind-exchange inner outer ''; declare q; bind q inner ''
         publish inner/k a; publish outer/k b; get q",
        expect![[r#"
            publish inner/k a -> Channel 403 cannot publish to internal exchange 'inner' in vhost '/'
            get q -> b(1), 0 left
        "#]],
    );
}

#[test]
fn exchange_to_exchange() {
    check(
        "exchange a fanout; exchange b topic; exchange c direct; declare q; declare r
         bind-exchange b a ''; bind-exchange c b orders.*; bind q c orders.eu; bind r b #
         publish a/orders.eu 1; publish a/orders 2; publish b/orders.eu 3; get q; get q; get q; get r; get r; get r; get r
         unbind-exchange c b orders.*; publish a/orders.eu 4; get q; get r
         bind-exchange a missing ''; bind-exchange missing a ''; bind-exchange '' a ''; bind-exchange a '' ''",
        expect![[r#"
            get q -> 1(1), 1 left
            get q -> 3(2), 0 left
            get q -> empty
            get r -> 1(3), 2 left
            get r -> 2(4), 1 left
            get r -> 3(5), 0 left
            get r -> empty
            get q -> empty
            get r -> 4(6), 0 left
            bind-exchange a missing '' -> Channel 404 no exchange 'missing' in vhost '/'
            bind-exchange missing a '' -> Channel 404 no exchange 'missing' in vhost '/'
            bind-exchange '' a '' -> Channel 403 operation not permitted on the default exchange
            bind-exchange a '' '' -> Channel 403 operation not permitted on the default exchange
        "#]],
    );
}

#[test]
fn exchange_bindings_may_lead_in_circles() {
    check(
        "exchange a fanout; exchange b fanout; bind-exchange a b ''; bind-exchange b a ''; bind-exchange a a ''
         declare q; bind q a ''; bind q b ''; publish a/k 1; publish b/k 2; get q; get q; get q
         delete-exchange a; publish b/k 3; get q; publish a/k 4",
        expect![[r#"
            get q -> 1(1), 1 left
            get q -> 2(2), 0 left
            get q -> empty
            get q -> 3(3), 0 left
            publish a/k 4 -> Channel 404 no exchange 'a' in vhost '/'
        "#]],
    );
}

#[test]
fn auto_delete_exchange() {
    check(
        "exchange e fanout auto-delete; exchange e passive; exchange e fanout auto-delete; declare q; bind q e ''
         unbind q e ''; exchange e passive",
        expect![[r#"
            exchange e passive -> Channel 404 no exchange 'e' in vhost '/'
        "#]],
    );
    // The queue's end takes the whole chain with it, but not what is bound to it or lives on.
    check(
        "exchange a fanout auto-delete; exchange b fanout auto-delete; exchange c fanout; declare q
         bind-exchange b a ''; bind-exchange c b ''; bind-exchange b c ''; bind q b ''
         delete q; exchange b passive; delete-exchange c; exchange a passive; exchange b passive",
        expect![[r#"
            delete q -> 0 deleted
            exchange a passive -> Channel 404 no exchange 'a' in vhost '/'
            exchange b passive -> Channel 404 no exchange 'b' in vhost '/'
        "#]],
    );
    check(
        "exchange a fanout auto-delete; exchange b fanout auto-delete; declare q; bind-exchange b a ''; bind q b ''
         delete q; exchange a passive; exchange b passive",
        expect![[r#"
            delete q -> 0 deleted
            exchange a passive -> Channel 404 no exchange 'a' in vhost '/'
            exchange b passive -> Channel 404 no exchange 'b' in vhost '/'
        "#]],
    );
}

#[test]
fn cc_and_bcc() {
    check(
        "declare a; declare b; declare c; publish a cc=b,a bcc=c,missing n=1 m; get a; get a; get b; get c
         publish missing bcc=a m; get a; publish a bcc=a m; get a; get a
         publish a CC=text m; publish a BCC=1 m",
        expect![[r#"
            get a -> m[n, CC](1), 0 left
            get a -> empty
            get b -> m[n, CC](2), 0 left
            get c -> m[n, CC](3), 0 left
            get a -> m[](4), 0 left
            get a -> m[](5), 0 left
            get a -> empty
            publish a CC=text m -> Channel 406 invalid message: {unacceptable_type_in_header,"CC",longstr}
            publish a BCC=1 m -> Channel 406 invalid message: {unacceptable_type_in_header,"BCC",long}
        "#]],
    );
}

#[test]
fn mandatory() {
    check(
        "declare q; publish mandatory q a; publish mandatory missing b; publish mandatory amq.topic/k c
         publish nowhere/k d; publish mandatory nowhere/k e",
        expect![[r#"
            publish mandatory missing b -> returned b
            publish mandatory amq.topic/k c -> returned c
            publish nowhere/k d -> Channel 404 no exchange 'nowhere' in vhost '/'
            publish mandatory nowhere/k e -> Channel 404 no exchange 'nowhere' in vhost '/'
        "#]],
    );
    check(
        "confirm; declare q; publish mandatory q a; publish mandatory missing b c; publish q d",
        expect![[r#"
        publish mandatory q a -> confirmed 1
        publish mandatory missing b c -> returned b, returned c, confirmed 3 multiple
        publish q d -> confirmed 4
    "#]],
    );
}

#[test]
fn redeclaring_and_names() {
    check(
        "exchange e topic durable; exchange e topic durable; exchange e topic; exchange e direct durable
         exchange e topic durable auto-delete; exchange e topic durable internal; exchange e topic durable alternate-exchange=a
         exchange amq.mine direct; exchange amq.topic topic durable; exchange amq.topic topic; exchange amq.none passive
         exchange f strange; exchange missing passive; delete-exchange amq.topic; delete-exchange missing",
        expect![[r#"
            exchange e topic -> Channel 406 inequivalent arg 'durable' for exchange 'e' in vhost '/': received 'false' but current is 'true'
            exchange e direct durable -> Channel 406 inequivalent arg 'type' for exchange 'e' in vhost '/': received 'direct' but current is 'topic'
            exchange e topic durable auto-delete -> Channel 406 inequivalent arg 'auto_delete' for exchange 'e' in vhost '/': received 'true' but current is 'false'
            exchange e topic durable internal -> Channel 406 inequivalent arg 'internal' for exchange 'e' in vhost '/': received 'true' but current is 'false'
            exchange e topic durable alternate-exchange=a -> Channel 406 inequivalent arg 'alternate-exchange' for exchange 'e' in vhost '/': received the value 'a' of type 'longstr' but current is none
            exchange amq.mine direct -> Channel 403 exchange name 'amq.mine' contains reserved prefix 'amq.*'
            exchange amq.topic topic -> Channel 406 inequivalent arg 'durable' for exchange 'amq.topic' in vhost '/': received 'false' but current is 'true'
            exchange amq.none passive -> Channel 404 no exchange 'amq.none' in vhost '/'
            exchange f strange -> Channel 406 unknown exchange type 'strange'
            exchange missing passive -> Channel 404 no exchange 'missing' in vhost '/'
            delete-exchange amq.topic -> Channel 403 deletion of system exchange 'amq.topic' in vhost '/' not allowed
        "#]],
    );
}

#[test]
fn deleting_exchanges() {
    check(
        "exchange e direct; declare q; bind q e k; delete-exchange e if-unused; unbind q e k
         delete-exchange e if-unused; exchange e passive
         exchange e direct; bind q e k; publish e/k a; delete-exchange e; publish e/k b; exchange e direct; publish mandatory e/k c",
        expect![[r#"
            delete-exchange e if-unused -> Channel 406 exchange 'e' in vhost '/' in use
            exchange e passive -> Channel 404 no exchange 'e' in vhost '/'
            publish e/k b -> Channel 404 no exchange 'e' in vhost '/'
            publish mandatory e/k c -> returned c
        "#]],
    );
}

#[test]
fn bindings_need_both_ends() {
    check(
        "bind q amq.topic k; declare q; bind q e k; unbind q e k; unbind missing amq.topic k; unbind q amq.topic k",
        expect![[r#"
        bind q amq.topic k -> Channel 404 no queue 'q' in vhost '/'
        bind q e k -> Channel 404 no exchange 'e' in vhost '/'
        unbind q e k -> Channel 404 no exchange 'e' in vhost '/'
        unbind missing amq.topic k -> Channel 404 no queue 'missing' in vhost '/'
    "#]],
    );
}

/// A chain as long as the limit allows ends without a deep recursion: a worker's stack is 2 MiB.
#[test]
fn a_long_chain_of_auto_delete_exchanges_ends_at_once() {
    let mut script = String::from("declare q\n");
    for i in 0..9_000 {
        script += &format!("exchange e{i} fanout auto-delete\n");
    }
    for i in 1..9_000 {
        script += &format!("bind-exchange e{i} e{} ''\n", i - 1);
    }
    script += "bind q e8999 ''; publish e0/k a; delete q; exchange e0 passive";
    check(
        &script,
        expect![[r#"
        delete q -> 1 deleted
        exchange e0 passive -> Channel 404 no exchange 'e0' in vhost '/'
    "#]],
    );
}

#[test]
fn an_alternate_gets_what_none_of_the_keys_matched() {
    check(
        "exchange lost fanout; declare bin; bind bin lost ''
         exchange e direct alternate-exchange=lost; declare q; bind q e k
         publish e/k cc=nowhere a; publish e/nowhere cc=k b; publish e/nowhere cc=neither c
         get q; get q; get q; get bin; get bin",
        expect![[r#"
            get q -> a[CC](1), 1 left
            get q -> b[CC](2), 0 left
            get q -> empty
            get bin -> c[CC](3), 0 left
            get bin -> empty
        "#]],
    );
}
