//! Bindings with `x-filter`: which messages they apply to, and that they are bindings like others.

use crate::script::check;
use expect_test::expect;

#[test]
fn a_binding_applies_to_the_messages_that_match() {
    check(
        r#"
        declare direct; 1: bind direct amq.direct k x-filter=attributes.colour="red"
        declare fanout; 1: bind fanout amq.fanout '' x-filter=attributes.weight>=10
        declare topic; 1: bind topic amq.topic #.eu x-filter=(attributes.colour!="red")AND(properties:reply_to)
        publish amq.direct/k colour=red 1; publish amq.direct/k colour=blue 2; publish amq.direct/other colour=red 3
        publish amq.direct/k 4; publish amq.direct/k colour=red 5; get direct; get direct; get direct
        publish amq.fanout/k weight=9 1; publish amq.fanout/k weight=10 2; get fanout; get fanout
        publish amq.topic/orders.eu 1; publish amq.topic/orders.eu reply-to=r colour=red 2
        publish amq.topic/orders.eu reply-to=r 3; publish amq.topic/orders reply-to=r 4; get topic; get topic
        publish mandatory amq.direct/k colour=green back
        "#,
        expect![[r#"
            publish amq.direct/k colour=blue 2 -> dropped 2
            publish amq.direct/other colour=red 3 -> dropped 3
            publish amq.direct/k 4 -> dropped 4
            get direct -> 1[colour](1), 1 left
            get direct -> 5[colour](2), 0 left
            get direct -> empty
            publish amq.fanout/k weight=9 1 -> dropped 1
            get fanout -> 2[weight](3), 0 left
            get fanout -> empty
            publish amq.topic/orders.eu 1 -> dropped 1
            publish amq.topic/orders.eu reply-to=r colour=red 2 -> dropped 2
            publish amq.topic/orders reply-to=r 4 -> dropped 4
            get topic -> 3<r>(4), 0 left
            get topic -> empty
            publish mandatory amq.direct/k colour=green back -> returned back
        "#]],
    );
}

#[test]
fn on_a_headers_exchange_the_filter_is_one_more_condition() {
    check(
        r#"
        declare q; 1: bind q amq.headers '' type=pdf x-filter=attributes.pages<5
        publish amq.headers/k type=pdf pages=4 1; publish amq.headers/k type=pdf pages=5 2; publish amq.headers/k pages=4 3
        get q; get q
        declare x; 1: bind x amq.headers '' x-match=all-with-x x-kind=1 x-filter=attributes:pages
        publish amq.headers/k x-kind=1 pages=1 4; publish amq.headers/k x-kind=1 5; get x; get x
        "#,
        expect![[r#"
            publish amq.headers/k type=pdf pages=5 2 -> dropped 2
            publish amq.headers/k pages=4 3 -> dropped 3
            get q -> 1[type, pages](1), 0 left
            get q -> empty
            publish amq.headers/k x-kind=1 5 -> dropped 5
            get x -> 4[x-kind, pages](2), 0 left
            get x -> empty
        "#]],
    );
}

/// What a filter let pass says nothing about the next message with the same key, nor the other way round.
#[test]
fn a_route_with_a_filter_is_looked_up_for_every_message() {
    check(
        r#"
        declare q; publish amq.direct/k a=1 lost; bind q amq.direct k; publish amq.direct/k a=1 1; publish amq.direct/k 2
        unbind q amq.direct k; 1: bind q amq.direct k x-filter=attributes:a
        publish amq.direct/k a=1 3; publish amq.direct/k 4; publish amq.direct/k 5; publish amq.direct/k a=1 6
        2: bind q amq.direct k; publish amq.direct/k 7; publish amq.direct/k 8; get q; get q; get q; get q; get q; get q; get q
        "#,
        expect![[r#"
            publish amq.direct/k a=1 lost -> dropped lost
            publish amq.direct/k 4 -> dropped 4
            publish amq.direct/k 5 -> dropped 5
            get q -> 1[a](1), 5 left
            get q -> 2(2), 4 left
            get q -> 3[a](3), 3 left
            get q -> 6[a](4), 2 left
            get q -> 7(5), 1 left
            get q -> 8(6), 0 left
            get q -> empty
        "#]],
    );
}

#[test]
fn bindings_that_differ_in_the_filter_are_two_and_give_a_message_once() {
    check(
        r#"
        declare q; 1: bind q amq.direct k x-filter=attributes:a; 1: bind q amq.direct k x-filter=attributes:b
        1: bind q amq.direct k x-filter=attributes:a
        publish amq.direct/k a=1 b=1 1; get q; get q
        1: unbind q amq.direct k x-filter=attributes:a; publish amq.direct/k a=1 2; publish amq.direct/k b=1 3; get q; get q
        1: unbind q amq.direct k x-filter=attributes:none; unbind q amq.direct k; publish amq.direct/k b=1 4; get q
        1: unbind q amq.direct k x-filter=attributes:b; publish amq.direct/k b=1 5
        "#,
        expect![[r#"
            get q -> 1[a, b](1), 0 left
            get q -> empty
            publish amq.direct/k a=1 2 -> dropped 2
            get q -> 3[b](2), 0 left
            get q -> empty
            get q -> 4[b](3), 0 left
            publish amq.direct/k b=1 5 -> dropped 5
        "#]],
    );
}

#[test]
fn what_no_filter_lets_pass_goes_to_the_alternate_exchange() {
    check(
        r#"
        exchange lost fanout; declare bin; bind bin lost ''; exchange e direct alternate-exchange=lost; declare q
        1: bind q e k x-filter=attributes:a; publish e/k a=1 1; publish e/k 2; get q; get q; get bin; get bin
        "#,
        expect![[r#"
            get q -> 1[a](1), 0 left
            get q -> empty
            get bin -> 2(2), 0 left
            get bin -> empty
        "#]],
    );
}

#[test]
fn exchanges_are_bound_with_filters_too() {
    check(
        r#"
        exchange red fanout; 1: bind-exchange red amq.topic # x-filter=hasPrefix(attributes.colour,"r"); declare q; bind q red ''
        publish amq.topic/k colour=ruby 1; publish amq.topic/k colour=blue 2; publish amq.topic/k colour=red 3
        get q; get q; get q; 1: unbind-exchange red amq.topic # x-filter=hasPrefix(attributes.colour,"r")
        publish amq.topic/k colour=ruby 4
        "#,
        expect![[r#"
            publish amq.topic/k colour=blue 2 -> dropped 2
            get q -> 1[colour](1), 1 left
            get q -> 3[colour](2), 0 left
            get q -> empty
            publish amq.topic/k colour=ruby 4 -> dropped 4
        "#]],
    );
}

#[test]
fn each_message_goes_by_its_own_answers_also_when_others_went_before() {
    // Three filters, one of them asked only by those that meet another. Each combination twice, in different orders, then
    // with a binding less.
    let all = "publish amq.direct/k a=1 b=1 c=1 abc; publish amq.direct/k a=1 b=1 ab; publish amq.direct/k a=1 c=1 ac
        publish amq.direct/k a=1 a; publish amq.direct/k b=1 c=1 bc; publish amq.direct/k b=1 b; publish amq.direct/k c=1 c";
    let again = "publish amq.direct/k b=1 b; publish amq.direct/k a=1 c=1 ac; publish amq.direct/k a=1 b=1 c=1 abc
        publish amq.direct/k c=1 c; publish amq.direct/k b=1 c=1 bc; publish amq.direct/k a=1 a; publish amq.direct/k a=1 b=1 ab";
    let script = format!(
        "exchange e fanout; 1: bind-exchange e amq.direct k x-filter=attributes:a; declare p; 1: bind p amq.direct k x-filter=attributes:b
        declare q; 1: bind q e '' x-filter=attributes:c
        {all}; {again}; {}; {}
        1: unbind q e '' x-filter=attributes:c; {all}",
        ["get p"; 9].join(";"),
        ["get q"; 5].join(";"),
    );
    check(
        &script,
        expect![[r#"
            publish amq.direct/k a=1 a -> dropped a
            publish amq.direct/k c=1 c -> dropped c
            publish amq.direct/k c=1 c -> dropped c
            publish amq.direct/k a=1 a -> dropped a
            get p -> abc[a, b, c](1), 7 left
            get p -> ab[a, b](2), 6 left
            get p -> bc[b, c](3), 5 left
            get p -> b[b](4), 4 left
            get p -> b[b](5), 3 left
            get p -> abc[a, b, c](6), 2 left
            get p -> bc[b, c](7), 1 left
            get p -> ab[a, b](8), 0 left
            get p -> empty
            get q -> abc[a, b, c](9), 3 left
            get q -> ac[a, c](10), 2 left
            get q -> ac[a, c](11), 1 left
            get q -> abc[a, b, c](12), 0 left
            get q -> empty
            publish amq.direct/k a=1 c=1 ac -> dropped ac
            publish amq.direct/k a=1 a -> dropped a
            publish amq.direct/k c=1 c -> dropped c
        "#]],
    );
}

#[test]
fn dead_letters_are_filtered_by_what_they_say_when_they_arrive() {
    check(
        r#"
        exchange dead fanout; declare q x-dead-letter-exchange=dead; declare bin
        1: bind bin dead '' x-filter=(attributes.x-first-death-queue="q")AND(properties.reply_to="r")
        publish q reply-to=r 1; publish q 2; get q; get q; reject 1; reject 2; get bin; get bin
        "#,
        expect![[r#"
            get q -> 1<r>(1), 1 left
            get q -> 2(2), 0 left
            get bin -> 1[q rejected 1]<r>(3), 0 left
            get bin -> empty
        "#]],
    );
}

#[test]
fn copies_to_several_keys_are_filtered_like_the_message() {
    check(
        r#"
        declare q; declare r; 1: bind q amq.direct a x-filter=attributes:n; 1: bind r amq.direct b x-filter=attributes:n
        publish amq.direct/a cc=b n=1 1; publish amq.direct/a cc=b 2; get q; get q; get r; get r
        "#,
        expect![[r#"
            publish amq.direct/a cc=b 2 -> dropped 2
            get q -> 1[n, CC](1), 0 left
            get q -> empty
            get r -> 1[n, CC](2), 0 left
            get r -> empty
        "#]],
    );
}

#[test]
fn a_bad_filter_is_refused_and_binds_nothing() {
    check(
        r#"
        declare q; exchange e fanout
        1: bind q amq.direct k x-filter=attributes.a; 1: bind q amq.headers k x-filter=5; bind q amq.topic k x-filter=true
        1: bind-exchange e amq.fanout '' x-filter=attributes:a,b; 1: bind q amq.fanout '' x-filter=
        publish mandatory amq.direct/k back; publish mandatory amq.fanout/k back
        1: unbind q amq.direct k x-filter=attributes.a
        "#,
        expect![[r#"
            1: bind q amq.direct k x-filter=attributes.a -> Channel 406 invalid arg 'x-filter': expected '=', '!=', '<', '<=', '>' or '>=' at byte 12, found the end (binding from exchange 'amq.direct' to queue 'q' in vhost '/')
            1: bind q amq.headers k x-filter=5 -> Channel 406 invalid arg 'x-filter': expected a string, received one of type 'long' (binding from exchange 'amq.headers' to queue 'q' in vhost '/')
            bind q amq.topic k x-filter=true -> Channel 406 invalid arg 'x-filter': expected a string, received one of type 'bool' (binding from exchange 'amq.topic' to queue 'q' in vhost '/')
            1: bind-exchange e amq.fanout '' x-filter=attributes:a,b -> Channel 406 invalid arg 'x-filter': expected 'AND', 'OR' or the end at byte 12, found ',' (binding from exchange 'amq.fanout' to exchange 'e' in vhost '/')
            1: bind q amq.fanout '' x-filter= -> Channel 406 invalid arg 'x-filter': expected 'attributes', 'properties', 'hasPrefix', 'NOT', '-' or '(' at byte 0, found the end (binding from exchange 'amq.fanout' to queue 'q' in vhost '/')
            publish mandatory amq.direct/k back -> returned back
            publish mandatory amq.fanout/k back -> returned back
        "#]],
    );
}
