//! Virtual hosts, exchanges, queues and bindings: made, seen, changed and deleted.

use crate::api::Api;
use expect_test::expect;

#[test]
fn queues() {
    let api = Api::start();
    let arguments = r#"{"durable":true,"arguments":{"x-message-ttl":60000,"x-dead-letter-exchange":"","x-dead-letter-routing-key":"dead"}}"#;
    api.must("PUT /api/queues/%2F/q", arguments, 201);
    api.must("PUT /api/queues/%2F/q", arguments, 204);
    api.check(
        "PUT /api/queues/%2F/q",
        r#"{"durable":false}"#,
        expect![[r#"
        400
        {
          "error": "bad_request",
          "reason": "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'"
        }"#]],
    );
    api.check(
        "GET /api/queues/%2F/q?columns=name,durable,arguments,type,auto_delete,exclusive",
        "",
        expect![[r#"
        200
        {
          "arguments": {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "dead",
            "x-message-ttl": 60000
          },
          "auto_delete": false,
          "durable": true,
          "exclusive": false,
          "name": "q",
          "type": "classic"
        }"#]],
    );
    api.must(
        "POST /api/exchanges/%2F/amq.default/publish",
        r#"{"routing_key":"q","payload":"x","payload_encoding":"string","properties":{}}"#,
        200,
    );
    api.check(
        "DELETE /api/queues/%2F/q?if-empty=true",
        "",
        expect![[r#"
        400
        {
          "error": "bad_request",
          "reason": "queue 'q' in vhost '/' not empty"
        }"#]],
    );
    api.must("DELETE /api/queues/%2F/q/contents", "", 204);
    api.must("POST /api/queues/%2F/q/actions", r#"{"action":"sync"}"#, 204);
    let subscription = api.client().subscribe("q", 1).expect("a consumer");
    api.check(
        "DELETE /api/queues/%2F/q?if-unused=true",
        "",
        expect![[r#"
        400
        {
          "error": "bad_request",
          "reason": "queue 'q' in vhost '/' in use"
        }"#]],
    );
    drop(subscription);
    api.must("DELETE /api/queues/%2F/q?if-unused=true&if-empty=true", "", 204);
    api.must("GET /api/queues/%2F/q", "", 404);
}

#[test]
fn exchanges() {
    let api = Api::start();
    let asked = r#"{"type":"topic","durable":true,"auto_delete":false,"internal":true,"arguments":{"alternate-exchange":"amq.fanout"}}"#;
    api.must("PUT /api/exchanges/%2F/e", asked, 201);
    api.must("PUT /api/exchanges/%2F/e", asked, 204);
    api.check(
        "PUT /api/exchanges/%2F/e",
        r#"{"type":"direct"}"#,
        expect![[r#"
        400
        {
          "error": "bad_request",
          "reason": "inequivalent arg 'type' for exchange 'e' in vhost '/': received 'direct' but current is 'topic'"
        }"#]],
    );
    api.check(
        "GET /api/exchanges/%2F/e",
        "",
        expect![[r#"
        200
        {
          "arguments": {
            "alternate-exchange": "amq.fanout"
          },
          "auto_delete": false,
          "durable": true,
          "incoming": [],
          "internal": true,
          "leveret": {
            "unroutable": 0,
            "waiting": null
          },
          "name": "e",
          "outgoing": [],
          "type": "topic",
          "user_who_performed_action": "guest",
          "vhost": "/"
        }"#]],
    );
    api.must("GET /api/exchanges/%2F/amq.default", "", 200);
    api.must("DELETE /api/exchanges/%2F/amq.topic", "", 401);
    api.must("DELETE /api/exchanges/%2F/amq.default", "", 401);
    api.must("POST /api/bindings/%2F/e/e/e/amq.fanout", r#"{"routing_key":"k"}"#, 201);
    api.must("DELETE /api/exchanges/%2F/e?if-unused=true", "", 400);
    api.must("DELETE /api/exchanges/%2F/e", "", 204);
}

#[test]
fn bindings() {
    let api = Api::start();
    api.must("PUT /api/queues/%2F/q", "", 201);
    let between = "/api/bindings/%2F/e/amq.topic/q/q";
    for (body, place) in [
        ("{}", "q/~"),
        (r#"{"routing_key":"a/b c"}"#, "q/a%252Fb%2Bc"),
        (r#"{"routing_key":"~"}"#, "q/%257E"),
        (r#"{"routing_key":"uk.*"}"#, "q/uk.%252A"),
        (r#"{"routing_key":5}"#, "q/5"),
    ] {
        let made = api.must(&format!("POST {between}"), body, 201);
        assert_eq!(made.header("location"), Some(place), "{body}");
        // Where the place leads to, from where it was posted.
        let path = format!("{}/{}", between, place.trim_start_matches("q/"));
        api.must(&format!("GET {path}"), "", 200);
        api.must(&format!("DELETE {path}"), "", 204);
        api.must(&format!("GET {path}"), "", 404);
    }
    let made = api.must(&format!("POST {between}"), r#"{"routing_key":"k","arguments":{"n":1}}"#, 201);
    let place = made.header("location").and_then(|place| place.strip_prefix("q/")).expect("a place").to_string();
    assert!(place.starts_with("k~") && place.len() == 8, "{place}");
    let found = api.must(&format!("GET {between}/{place}"), "", 200).json();
    assert_eq!((&found["properties_key"], &found["arguments"]["n"]), (&place.clone().into(), &1.into()));
    api.check(
        "GET /api/queues/%2F/q/bindings?columns=source,routing_key,properties_key,destination_type&sort=source",
        "",
        expect![[r#"
            200
            [
              {
                "destination_type": "queue",
                "properties_key": "q",
                "routing_key": "q",
                "source": ""
              },
              {
                "destination_type": "queue",
                "properties_key": "k~N1VD3A",
                "routing_key": "k",
                "source": "amq.topic"
              }
            ]"#]],
    );
    api.must("POST /api/bindings/%2F/e/amq.topic/e/amq.fanout", r#"{"routing_key":"x"}"#, 201);
    let seen = |what: &str| api.must(&format!("GET /api/{what}"), "", 200).json().as_array().map_or(0, Vec::len);
    assert_eq!(seen("exchanges/%2F/amq.topic/bindings/source"), 2);
    assert_eq!(seen("exchanges/%2F/amq.fanout/bindings/destination"), 1);
    assert_eq!(seen("bindings/%2F/e/amq.topic/e/amq.fanout"), 1);
    assert_eq!(seen("exchanges/%2F/amq.default/bindings/source"), 1);
    assert_eq!((seen("bindings"), seen("bindings/%2F"), seen("bindings/%2F/e/amq.topic/q/none")), (3, 3, 0));
    api.must("POST /api/bindings/%2F/e/amq.default/q/q", "{}", 401);
}

#[test]
fn vhosts() {
    let api = Api::start();
    api.must(
        "PUT /api/vhosts/v",
        r#"{"description":"d","tags":"a,b","default_queue_type":"quorum","tracing":true}"#,
        201,
    );
    api.check(
        "GET /api/vhosts/v?columns=name,description,tags,default_queue_type,tracing,metadata",
        "",
        expect![[r#"
        200
        {
          "default_queue_type": "quorum",
          "description": "d",
          "metadata": {
            "description": "d",
            "tags": [
              "a",
              "b"
            ]
          },
          "name": "v",
          "tags": [
            "a",
            "b"
          ],
          "tracing": true
        }"#]],
    );
    // Who makes it may use it.
    api.check(
        "GET /api/vhosts/v/permissions",
        "",
        expect![[r#"
        200
        [
          {
            "configure": ".*",
            "read": ".*",
            "user": "guest",
            "vhost": "v",
            "write": ".*"
          }
        ]"#]],
    );
    api.must("PUT /api/vhosts/v", "", 204);
    let tracing = api.must("GET /api/vhosts/v?columns=tracing", "", 200).json();
    assert_eq!(tracing["tracing"], false);
    let node = api.must("GET /api/overview", "", 200).json()["node"].as_str().expect("a name").to_string();
    api.must(&format!("POST /api/vhosts/v/start/{node}"), "", 204);
    api.must("PUT /api/queues/v/q", "", 201);
    api.must("DELETE /api/vhosts/v", "", 204);
    api.must("GET /api/queues/v", "", 404);
    api.must("PUT /api/vhosts/v", "", 201);
    assert_eq!(api.must("GET /api/queues/v", "", 200).body, "[]");
}

#[test]
fn small_things() {
    let api = Api::start();
    api.must("PUT /api/cluster-name", r#"{"name":"hares"}"#, 204);
    assert_eq!(api.must("GET /api/overview", "", 200).json()["cluster_name"], "hares");
    api.must("PUT /api/global-parameters/p", r#"{"value":{"a":[1]}}"#, 201);
    api.must("PUT /api/global-parameters/p", r#"{"value":5}"#, 204);
    api.check(
        "GET /api/global-parameters",
        "",
        expect![[r#"
        200
        [
          {
            "name": "cluster_name",
            "value": "hares"
          },
          {
            "name": "p",
            "value": 5
          }
        ]"#]],
    );
    api.must("DELETE /api/global-parameters/p", "", 204);
    for check in [
        "alarms",
        "local-alarms",
        "virtual-hosts",
        "ready-to-serve-clients",
        "is-in-service",
        "node-is-quorum-critical",
        "node-is-mirror-sync-critical",
        "certificate-expiration/1/weeks",
        "protocol-listener/amqp091",
        &format!("port-listener/{}", api.amqp.port()),
    ] {
        assert_eq!(api.must(&format!("GET /api/health/checks/{check}"), "", 200).json()["status"], "ok", "{check}");
    }
    api.must("GET /api/health/checks/port-listener/1", "", 503);
    api.check(
        "GET /api/health/checks/protocol-listener/mqtt",
        "",
        expect![[r#"
        503
        {
          "missing": "mqtt",
          "protocols": [
            "amqp",
            "http"
          ],
          "reason": "No active listener",
          "status": "failed"
        }"#]],
    );
    api.must("GET /api/aliveness-test/%2F", "", 200);
}
