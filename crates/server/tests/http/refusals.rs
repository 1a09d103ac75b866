//! Requests that cannot be fulfilled.

use crate::api::{Api, PATIENCE};
use expect_test::{Expect, expect};
use leveret_server::ServerLimits;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn what_is_not_there() {
    let api = Api::start();
    let missing = [
        "GET /api/nothing",
        "GET /api/queues/%2F/none",
        "GET /api/queues/%2F/%FF",
        "GET /api/queues/none",
        "GET /api/queues/none/x",
        "GET /api/exchanges/%2F/none",
        "GET /api/exchanges/%2F/none/bindings/source",
        "GET /api/vhosts/none",
        "GET /api/users/none",
        "GET /api/users/none/permissions",
        "GET /api/permissions/%2F/none",
        "GET /api/permissions/none/guest",
        "GET /api/topic-permissions/%2F/none",
        "GET /api/policies/%2F/none",
        "GET /api/operator-policies/%2F/none",
        "GET /api/parameters/x/none",
        "GET /api/parameters/x/%2F/none",
        "GET /api/global-parameters/none",
        "GET /api/connections/none",
        "GET /api/connections/none/channels",
        "GET /api/channels/none",
        "GET /api/consumers/none",
        "GET /api/bindings/none",
        "GET /api/bindings/%2F/e/amq.topic/q/none/x",
        "GET /api/nodes/none",
        "GET /api/health/checks/none",
        "GET /api/aliveness-test/none",
        "GET /api/shovels",
        "GET /api/federation-links",
        "GET /api/deprecated-features",
        "DELETE /api/queues/%2F/none",
        "DELETE /api/queues/%2F/none/contents",
        "DELETE /api/exchanges/%2F/none",
        "DELETE /api/vhosts/none",
        "DELETE /api/users/none",
        "DELETE /api/policies/%2F/none",
        "PUT /api/queues/%2F/none/pause",
        "POST /api/queues/%2F/none/redrive",
        "GET /api/queues/%2F/none/browse",
        "GET /api/exchanges/%2F/none/tail",
    ];
    for what in missing {
        let answer = api.ask(what);
        let expected = r#"{"error":"Object Not Found","reason":"Not Found"}"#;
        assert_eq!((answer.status, answer.body.as_str()), (404, expected), "{what}");
    }
}

/// Also to clients that send the body behind the head, and read behind that.
#[test]
fn a_refusal_reaches_who_is_still_sending() {
    let api = Api::start();
    let mut stream = TcpStream::connect(api.http).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    for (path, status) in [("PUT /api/queues/%2F/q", 401), ("PUT /api/nothing", 404), ("PUT /api/overview", 405)] {
        write!(stream, "{path} HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\n").expect("sent");
        for part in ["{\"a\"", ": 1}"] {
            std::thread::sleep(Duration::from_millis(50));
            stream.write_all(part.as_bytes()).expect("sent");
        }
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"), "{path}");
        // The connection is as good as before.
        write!(stream, "GET /api/auth HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
        let mut rest = Vec::new();
        while !rest.ends_with(b"}") || !rest.windows(12).any(|at| at == b"HTTP/1.1 200") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("the rest of it");
            rest.push(byte[0]);
        }
    }
}

/// As RabbitMQ, except that two of them are no error.
#[test]
fn a_slash_at_the_end_says_nothing() {
    let api = Api::start();
    api.must("PUT /api/queues/%2F/q/", "", 201);
    for path in ["/api/queues/%2F", "/api/queues", "/api/permissions", "/api/overview"] {
        let answer = api.must(&format!("GET {path}/?columns=name,user"), "", 200);
        assert_eq!(answer.body, api.must(&format!("GET {path}?columns=name,user"), "", 200).body, "{path}");
    }
    assert_eq!(api.ask_as("", "GET /api/queues//", "").status, 401);
    assert_eq!(api.must("GET /api/queues//?columns=name", "", 200).body, r#"[{"name":"q"}]"#);
    for missing in ["/", "/metrics/", "/api/none/", "/api//", "/api/queues/%2F/none/"] {
        assert_ne!(api.ask(&format!("DELETE {missing}")).status, 200, "{missing}");
    }
    assert_eq!(api.ask("GET /api/none/").status, 404);
    api.must("DELETE /api/queues/%2F/q/", "", 204);
}

#[test]
fn what_is_always_on_can_be_turned_on() {
    let api = Api::start();
    api.must("PUT /api/feature-flags/quorum_queue/enable", "{}", 204);
    api.must("PUT /api/feature-flags/none/enable", "{}", 404);
}

#[test]
fn methods() {
    let api = Api::start();
    for (what, status, allow) in [
        ("POST /api/overview", 405, "HEAD, GET, OPTIONS"),
        ("PATCH /api/whoami", 405, "HEAD, GET, OPTIONS"),
        ("OPTIONS /api/whoami", 200, "HEAD, GET, OPTIONS"),
        ("POST /api/queues/%2F/q", 405, "HEAD, GET, PUT, DELETE, OPTIONS"),
        ("GET /api/queues/%2F/q/get", 405, "POST, OPTIONS"),
        ("GET /api/queues/%2F/q/contents", 405, "DELETE, OPTIONS"),
        ("GET /api/queues/%2F/q/pause", 405, "PUT, OPTIONS"),
    ] {
        let answer = api.ask(what);
        assert_eq!((answer.status, answer.header("allow"), answer.body.as_str()), (status, Some(allow), ""), "{what}");
    }
    let answer = api.ask("HEAD /api/overview");
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
}

#[test]
fn bodies() {
    let api = Api::start();
    let check = |what: &str, body: &str, expected: Expect| {
        let answer = api.send(what, body);
        let reason = answer.json()["reason"].as_str().map(str::to_string).unwrap_or_default();
        expected.assert_eq(&format!("{} {reason}", answer.status));
    };
    check("PUT /api/queues/%2F/q", "x", expect!["400 not_json"]);
    check("PUT /api/queues/%2F/q", "[]", expect!["400 not_json"]);
    check("PUT /api/queues/%2F/q", r#"{"durable":"x"}"#, expect![[r#"400 durable: expected true or false, got "x""#]]);
    check("PUT /api/queues/%2F/q", r#"{"arguments":5}"#, expect!["400 arguments: expected an object, got 5"]);
    check(
        "PUT /api/queues/%2F/q",
        r#"{"arguments":{"x-message-ttl":-1}}"#,
        expect!["400 invalid arg 'x-message-ttl' for queue 'q' in vhost '/': {value_negative,-1}"],
    );
    let deep = format!(r#"{{"arguments":{}1{}}}"#, r#"{"a":"#.repeat(70), "}".repeat(70));
    check("PUT /api/queues/%2F/q", &deep, expect!["400 arguments: it is nested too deep"]);
    let long = "n".repeat(256);
    check(
        &format!("PUT /api/queues/%2F/{long}"),
        "",
        expect!["400 name: it has 256 bytes, and at most 255 are possible"],
    );
    check("PUT /api/queues/none/q", "", expect!["404 vhost_not_found"]);
    check("PUT /api/queues/%2F/amq.q", "", expect!["401 Access refused."]);
    check("PUT /api/exchanges/%2F/e", r#"{"type":"nope"}"#, expect!["400 unknown exchange type 'nope'"]);
    check("PUT /api/exchanges/%2F/e", r#"{"type":5}"#, expect!["400 type: expected a text, got 5"]);
    check("POST /api/bindings/%2F/e/amq.topic/q/none", "", expect!["404 no queue 'none' in vhost '/'"]);
    check("POST /api/bindings/%2F/e/none/e/amq.topic", "", expect!["404 no exchange 'none' in vhost '/'"]);
    check("PUT /api/users/u", "{}", expect!["400 tags_not_present"]);
    check(
        "PUT /api/users/u",
        r#"{"tags":[5]}"#,
        expect!["400 tags: expected a list of texts, or a text with commas, got 5"],
    );
    check(
        "PUT /api/users/u",
        r#"{"tags":"","password":"a","password_hash":"b"}"#,
        expect!["400 both_password_and_password_hash_are_provided"],
    );
    check(
        "PUT /api/users/u",
        r#"{"tags":"","password_hash":"b"}"#,
        expect!["400 password_hash: it is not one of rabbit_password_hashing_sha256, which is a salt and a hash"],
    );
    check(
        "PUT /api/permissions/%2F/guest",
        r#"{"configure":""}"#,
        expect!["400 [{key_missing,write},{key_missing,read}]"],
    );
    check(
        "PUT /api/permissions/%2F/none",
        r#"{"configure":"","write":"","read":""}"#,
        expect!["400 vhost_or_user_not_found"],
    );
    check(
        "PUT /api/vhosts/v",
        r#"{"default_queue_type":"x"}"#,
        expect![[r#"400 default_queue_type: expected classic or quorum, got "x""#]],
    );
    check(
        "POST /api/queues/%2F/q/get",
        "{}",
        expect!["400 [{key_missing,ackmode},{key_missing,count},{key_missing,encoding}]"],
    );
    check(
        "POST /api/users/bulk-delete",
        r#"{"users":["none"]}"#,
        expect!["400 users: there is no user 'none'; none was deleted"],
    );
    check(
        "PUT /api/vhost-limits/%2F/max-queues",
        r#"{"value":5}"#,
        expect!["501 limits of virtual hosts and users are not supported by this version"],
    );
    check(
        "PUT /api/parameters/shovel/%2F/s",
        r#"{"value":{}}"#,
        expect![[r#"
        400 Validation failed

        component shovel not found
    "#]],
    );
}

#[test]
fn parameters() {
    let api = Api::start();
    api.must("PUT /api/queues/%2F/q", "", 201);
    for (what, named) in [
        ("GET /api/queues?page=0", "page number 0"),
        ("GET /api/queues?page=x", "Pagination"),
        ("GET /api/queues?page=1&page_size=501", "page size 501"),
        ("GET /api/queues?page=2", "Page out of range"),
        ("GET /api/queues?page=1&use_regex=true&name=%5B", "name:"),
        ("GET /api/overview?lengths_age=x&lengths_incr=1", "lengths_age:"),
        ("GET /api/overview?msg_rates_age=86400&msg_rates_incr=1", "msg_rates_age:"),
        ("GET /api/history?range=5", "range:"),
        ("GET /api/costs?limit=0", "limit:"),
        ("GET /api/queues/%2F/q/browse?count=0", "count:"),
        ("GET /api/queues/%2F/q/browse?filter=%28", "filter:"),
        ("GET /api/queues/%2F/q/browse?state=x", "state:"),
        ("GET /api/stream", "get:"),
        ("GET /api/stream?get=/x", "get:"),
        ("GET /api/stream?get=/api/stream", "get:"),
        ("GET /api/stream?every=0&get=/api/overview", "every:"),
        ("GET /api/exchanges/%2F/amq.default/tail", "name:"),
        ("GET /api/health/checks/port-listener/x", "Invalid port"),
    ] {
        let answer = api.ask(what);
        assert!(answer.status == 400 && answer.body.contains(named), "{what}: {} {}", answer.status, answer.body);
    }
}

#[test]
fn sizes() {
    let api = Api::with(ServerLimits { http_body: 1000, http_streams: 0, ..ServerLimits::default() });
    let body = format!(r#"{{"arguments":{{"a":"{}"}}}}"#, "x".repeat(1000));
    api.check(
        "PUT /api/queues/%2F/q",
        &body,
        expect![[r#"
        413
        {
          "error": "payload_too_large",
          "reason": "the request's body has more than 1000 bytes, which is the limit"
        }"#]],
    );
    let head = format!("GET /api/whoami HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(500_000));
    assert_eq!(api.raw(&head).status, 431);
    assert_eq!(api.ask("GET /api/stream?get=/api/whoami").status, 503);
    assert_eq!(api.raw("nonsense\r\n\r\n").status, 400);
}

#[test]
fn names_are_only_names() {
    let api = Api::start();
    let name = "%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%0D%0Ax%3A%20y";
    api.must(&format!("PUT /api/queues/%2F/{name}"), "", 201);
    let answer = api.must("GET /api/queues/%2F?columns=name", "", 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.json()[0]["name"], "<script>alert(1)</script>\"\r\nx: y");
    let made = api.must(&format!("POST /api/bindings/%2F/e/amq.topic/q/{name}"), r#"{"routing_key":"a\r\nb: c"}"#, 201);
    assert!(made.header("location").is_some() && made.header("b").is_none() && made.header("x").is_none());
}
