//! Who may log in, and who may do what.

use crate::api::Api;
use expect_test::expect;

/// One user with each tag, and one without; `man` may use names that begin with `man-` in the virtual host `shop`.
fn staff() -> Api {
    let api = Api::start();
    api.must("PUT /api/vhosts/shop", "", 201);
    for (user, tags) in [("man", "management"), ("mon", "monitoring"), ("pol", "policymaker"), ("none", "")] {
        api.must(&format!("PUT /api/users/{user}"), &format!(r#"{{"password":"{user}","tags":"{tags}"}}"#), 201);
    }
    let rights = |configure: &str| format!(r#"{{"configure":"{configure}","write":".*","read":".*"}}"#);
    api.must("PUT /api/permissions/shop/man", &rights("^man-"), 201);
    api.must("PUT /api/permissions/shop/pol", &rights(""), 201);
    api
}

#[test]
fn logins() {
    let api = staff();
    let answer = api.ask_as("", "GET /api/overview", "");
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Basic realm=\"RabbitMQ Management\"")));
    api.check_as(
        "guest:wrong",
        "GET /api/overview",
        "",
        expect![[r#"
        401
        {
          "error": "not_authorized",
          "reason": "Login failed"
        }"#]],
    );
    api.check_as(
        "none:none",
        "GET /api/whoami",
        "",
        expect![[r#"
        401
        {
          "error": "not_authorised",
          "reason": "Not management user"
        }"#]],
    );
    api.check_as(
        "man:man",
        "GET /api/whoami",
        "",
        expect![[r#"
        200
        {
          "name": "man",
          "tags": [
            "management"
          ]
        }"#]],
    );
    assert_eq!(api.ask_as("", "GET /api/auth", "").status, 200);
    // Neither is one.
    for header in ["Bearer x", "Basic !!!", "Basic eA==", "Basic"] {
        let request =
            format!("GET /api/whoami HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: {header}\r\n\r\n");
        assert_eq!(api.raw(&request).status, 401, "{header}");
    }
}

#[test]
fn tags_open_endpoints() {
    let api = staff();
    let table = [
        ("GET /api/overview", [200, 200, 200]),
        ("GET /api/nodes", [401, 401, 200]),
        ("GET /api/vhosts", [200, 200, 200]),
        ("GET /api/vhosts/shop", [401, 401, 401]),
        ("GET /api/queues", [200, 200, 200]),
        ("GET /api/queues/shop", [200, 200, 401]),
        ("GET /api/queues/%2F", [401, 401, 401]),
        ("GET /api/queues/none", [404, 404, 404]),
        ("GET /api/connections", [200, 200, 200]),
        ("GET /api/users", [401, 401, 401]),
        ("GET /api/users/man", [401, 401, 401]),
        ("GET /api/permissions", [401, 401, 401]),
        ("GET /api/policies", [200, 200, 200]),
        ("GET /api/policies/shop", [200, 200, 401]),
        ("GET /api/operator-policies", [200, 200, 200]),
        ("GET /api/parameters", [401, 200, 401]),
        ("GET /api/global-parameters", [401, 200, 401]),
        ("GET /api/definitions", [401, 401, 401]),
        ("GET /api/definitions/shop", [401, 401, 401]),
        ("GET /api/feature-flags", [401, 401, 401]),
        ("GET /api/vhost-limits", [200, 200, 200]),
        ("GET /api/consumers", [200, 200, 200]),
        ("GET /api/whoami", [200, 200, 200]),
        ("GET /api/health/checks/alarms", [200, 200, 200]),
        ("GET /api/history", [200, 200, 200]),
        ("PUT /api/vhosts/new", [401, 401, 401]),
        ("PUT /api/users/new", [401, 401, 401]),
    ];
    for (what, statuses) in table {
        let seen = ["man", "pol", "mon"].map(|user| api.ask_as(&format!("{user}:{user}"), what, "").status);
        assert_eq!(seen, statuses, "{what} as man, pol and mon");
    }
}

#[test]
fn permissions_hold_over_http_as_over_amqp() {
    let api = staff();
    assert_eq!(api.ask_as("man:man", "PUT /api/queues/shop/man-1", "").status, 201);
    api.check_as(
        "man:man",
        "PUT /api/queues/shop/other",
        "",
        expect![[r#"
        401
        {
          "error": "not_authorised",
          "reason": "Access refused."
        }"#]],
    );
    let message = r#"{"routing_key":"man-1","payload":"x","payload_encoding":"string","properties":{}}"#;
    assert_eq!(api.ask_as("man:man", "POST /api/exchanges/shop/amq.default/publish", message).status, 200);
    let message = r#"{"routing_key":"b.x","payload":"x","payload_encoding":"string","properties":{}}"#;
    api.must("PUT /api/topic-permissions/shop/man", r#"{"exchange":"amq.topic","write":"^a","read":"^a"}"#, 201);
    api.check_as("man:man", "POST /api/exchanges/shop/amq.topic/publish", message, expect![[r#"
        400
        {
          "error": "bad_request",
          "reason": "403 ACCESS_REFUSED - write access to topic 'b.x' in exchange 'amq.topic' in vhost 'shop' refused for user 'man'"
        }"#]]);
    let bind = "POST /api/bindings/shop/e/amq.topic/q/man-1";
    assert_eq!(api.ask_as("man:man", bind, r#"{"routing_key":"b.#"}"#).status, 401);
    assert_eq!(api.ask_as("man:man", bind, r#"{"routing_key":"a.#"}"#).status, 201);
    assert_eq!(api.ask_as("man:man", "GET /api/exchanges/shop/amq.topic/tail?key=b", "").status, 401);
}

#[test]
fn what_nobody_may_see_is_in_no_list() {
    let api = staff();
    api.must("PUT /api/queues/%2F/secret", "", 201);
    for what in ["queues", "exchanges", "bindings", "costs", "apps", "dead-letters", "alarms"] {
        let answer = api.ask_as("man:man", &format!("GET /api/{what}"), "");
        assert!(answer.status == 200 && !answer.body.contains("\"/\"") && !answer.body.contains("secret"), "{what}");
    }
}
