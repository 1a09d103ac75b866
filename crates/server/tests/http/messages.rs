//! Messages: published, got, browsed, moved, and queues that are paused.

use crate::api::{Api, eventually};
use expect_test::expect;
use leveret_broker::Wait;

fn publish(api: &Api, queue: &str, body: &str) {
    api.client().publish("", queue, body).wait().expect("it is there");
}

#[test]
fn published_and_got() {
    let api = Api::start();
    api.must("PUT /api/queues/%2F/q", "", 201);
    let message = r#"{"routing_key":"q","payload":"aGk=","payload_encoding":"base64","properties":{"delivery_mode":2,
        "headers":{"a":1,"b":"x","c":[1,2],"d":{"e":1.5}},"timestamp":5,"message_id":"m","priority":1,
        "content_type":"text/plain","type":"t","app_id":"a","user_id":"guest","expiration":"1000000","reply_to":"r",
        "correlation_id":"c","content_encoding":"e","cluster_id":"cl","nothing":1}}"#;
    let to = "POST /api/exchanges/%2F/amq.default/publish";
    assert_eq!(api.must(to, message, 200).body, r#"{"routed":true}"#);
    let nowhere = r#"{"routing_key":"none","payload":"x","payload_encoding":"string","properties":[]}"#;
    assert_eq!(api.must(to, nowhere, 200).body, r#"{"routed":false}"#);
    api.check(
        "POST /api/queues/%2F/q/get",
        r#"{"count":1,"ackmode":"ack_requeue_true","encoding":"auto"}"#,
        expect![[r#"
        200
        [
          {
            "exchange": "",
            "message_count": 0,
            "payload": "hi",
            "payload_bytes": 2,
            "payload_encoding": "string",
            "properties": {
              "app_id": "a",
              "cluster_id": "cl",
              "content_encoding": "e",
              "content_type": "text/plain",
              "correlation_id": "c",
              "delivery_mode": 2,
              "expiration": "1000000",
              "headers": {
                "a": 1,
                "b": "x",
                "c": [
                  1,
                  2
                ],
                "d": {
                  "e": 1.5
                }
              },
              "message_id": "m",
              "priority": 1,
              "reply_to": "r",
              "timestamp": 5,
              "type": "t",
              "user_id": "guest"
            },
            "redelivered": false,
            "routing_key": "q"
          }
        ]"#]],
    );
    let got = |mode: &str, more: &str| {
        let body = format!(r#"{{"count":10,"ackmode":"{mode}","encoding":"auto"{more}}}"#);
        api.must("POST /api/queues/%2F/q/get", &body, 200).json()
    };
    let got_once = got("reject_requeue_true", r#","truncate":1"#);
    assert_eq!((&got_once[0]["payload"], &got_once[0]["payload_bytes"]), (&"h".into(), &2.into()));
    assert_eq!(got("ack_requeue_false", "")[0]["redelivered"], true);
    assert_eq!(got("ack_requeue_false", "").as_array().map(Vec::len), Some(0));
}

#[test]
fn refused() {
    let api = Api::start();
    let to = "POST /api/exchanges/%2F/amq.default/publish";
    let send = |body: &str| api.must(to, body, 400).json()["reason"].as_str().map(str::to_string).unwrap_or_default();
    expect![
        "[{key_missing,routing_key},{key_missing,properties},{key_missing,payload},{key_missing,payload_encoding}]"
    ]
    .assert_eq(&send("{}"));
    let message = |more: &str| format!(r#"{{"routing_key":"q","payload":"*",{more}}}"#);
    expect![[r#"payload: expected base64, got "*""#]]
        .assert_eq(&send(&message(r#""payload_encoding":"base64","properties":{}"#)));
    expect![[r#"payload_encoding: expected string or base64, got "x""#]]
        .assert_eq(&send(&message(r#""payload_encoding":"x","properties":{}"#)));
    expect![[r#"priority: expected a whole number from 0 to 255, got "x""#]]
        .assert_eq(&send(&message(r#""payload_encoding":"string","properties":{"priority":"x"}"#)));
    expect!["406 PRECONDITION_FAILED - user_id property set to 'man' but authenticated user was 'guest'"]
        .assert_eq(&send(&message(r#""payload_encoding":"string","properties":{"user_id":"man"}"#)));
    let answer = api.must(
        "POST /api/exchanges/%2F/none/publish",
        &message(r#""payload_encoding":"string","properties":{}"#),
        400,
    );
    expect!["404 NOT_FOUND - no exchange 'none' in vhost '/'"]
        .assert_eq(answer.json()["reason"].as_str().unwrap_or_default());
    api.check(
        "POST /api/queues/%2F/none/get",
        r#"{"count":1,"ackmode":"ack_requeue_true","encoding":"auto"}"#,
        expect![[r#"
        404
        {
          "error": "not_found",
          "reason": "NOT_FOUND - no queue 'none' in vhost '/'"
        }"#]],
    );
}

#[test]
fn browsed() {
    let api = Api::start();
    api.must("PUT /api/queues/%2F/q", "", 201);
    for body in ["one", "two", "three"] {
        publish(&api, "q", body);
    }
    let browse = |query: &str| {
        let found = api.must(&format!("GET /api/queues/%2F/q/browse?{query}"), "", 200).json();
        let payloads = found["messages"].as_array().expect("messages").iter();
        let payloads: Vec<_> = payloads.map(|it| it["payload"].as_str().expect("text").to_string()).collect();
        (payloads.join(" "), found)
    };
    assert_eq!(browse("").0, "one two three");
    assert_eq!(browse("contains=w").0, "two");
    assert_eq!(browse("offset=1&count=1").0, "two");
    let (_, first) = browse("count=1");
    assert_eq!(browse(&format!("from={}", first["next"])).0, "two three");
    assert_eq!(browse("truncate=1").0, "o t t");
    assert_eq!(browse("key=nothing").0, "");
    // Nobody notices.
    let queue = api.must("GET /api/queues/%2F/q", "", 200).json();
    assert_eq!((&queue["messages_ready"], &queue["message_stats"]["deliver_get"]), (&3.into(), &0.into()));
}

#[test]
fn paused_and_moved() {
    let api = Api::start();
    for queue in ["q", "other"] {
        api.must(&format!("PUT /api/queues/%2F/{queue}"), r#"{"durable":true}"#, 201);
    }
    for body in ["one", "two", "three"] {
        publish(&api, "q", body);
    }
    api.must("PUT /api/queues/%2F/q/pause", "", 204);
    assert_eq!(api.must("GET /api/queues/%2F/q", "", 200).json()["state"], "paused");
    assert!(api.client().get("q").expect("it is there").is_none());
    api.must("PUT /api/queues/%2F/q/resume", "", 204);
    let moved = api.must("POST /api/queues/%2F/q/move", r#"{"queue":"other","count":2}"#, 200);
    assert_eq!(moved.body, r#"{"kept":0,"left":1,"moved":2}"#);
    let moved = api.must("POST /api/queues/%2F/q/move", r#"{"exchange":"","routing_key":"other"}"#, 200);
    assert_eq!(moved.body, r#"{"kept":0,"left":0,"moved":1}"#);
    eventually("all are there", || api.must("GET /api/queues/%2F/other", "", 200).json()["messages_ready"] == 3);
    api.must("POST /api/queues/%2F/q/move", "{}", 400);
    api.must("POST /api/queues/%2F/q/move", r#"{"queue":"none"}"#, 404);
}

#[test]
fn died_and_redriven() {
    let api = Api::start();
    api.must("PUT /api/queues/%2F/dead", r#"{"durable":true}"#, 201);
    let arguments = r#"{"durable":true,"arguments":{"x-dead-letter-exchange":"","x-dead-letter-routing-key":"dead"}}"#;
    api.must("PUT /api/queues/%2F/q", arguments, 201);
    publish(&api, "q", "letter");
    api.must("POST /api/queues/%2F/q/get", r#"{"count":1,"ackmode":"reject_requeue_false","encoding":"auto"}"#, 200);
    eventually("it is dead", || api.must("GET /api/queues/%2F/dead", "", 200).json()["messages"] == 1);
    let found = api.must("GET /api/dead-letters?vhost=%2F", "", 200).json();
    assert_eq!(
        (&found[0]["queue"], &found[0]["messages"], &found[0]["sampled"]),
        (&"dead".into(), &1.into(), &1.into())
    );
    let reasons = serde_json::json!([{ "reason": "rejected", "queue": "q", "count": 1 }]);
    assert_eq!(found[0]["reasons"], reasons);
    let redriven = api.must("POST /api/queues/%2F/dead/redrive", "", 200);
    assert_eq!(redriven.body, r#"{"kept":0,"left":0,"moved":1}"#);
    let back = api.client().get("q").expect("it is there").expect("the letter");
    assert_eq!(back.body(), b"letter");
    back.ack().expect("it is ours");
}

#[test]
fn what_things_cost_and_who_uses_topics() {
    let api = Api::start();
    api.must("PUT /api/exchanges/%2F/signups", r#"{"type":"fanout","durable":true}"#, 201);
    for queue in ["signups.mail", "signups.mail.dead"] {
        api.must(&format!("PUT /api/queues/%2F/{queue}"), r#"{"durable":true}"#, 201);
    }
    api.must("POST /api/bindings/%2F/e/signups/q/signups.mail", "", 201);
    let client = api.client();
    let _handler = client.subscribe("signups.mail", 1).expect("a consumer");
    client.publish("signups", "", "0123456789").wait().expect("it is there");
    let costs = api.must("GET /api/costs", "", 200).json();
    let topic = costs["topics"].as_array().expect("a list").iter().find(|it| it["name"] == "signups").cloned();
    let topic = topic.expect("the topic");
    assert_eq!((&topic["bytes_in"], &topic["messages_in"]), (&10.into(), &1.into()));
    let apps = api.must("GET /api/apps", "", 200).json();
    let seen = |list: &str, field: &str| -> Vec<String> {
        apps[list].as_array().expect("a list").iter().map(|it| it[field].as_str().expect("text").to_string()).collect()
    };
    assert_eq!(seen("nodes", "kind"), ["topic", "subscription", "dead", "consumer"]);
    assert_eq!(seen("edges", "kind"), ["delivers to", "dead letters", "is handled by"]);
}
