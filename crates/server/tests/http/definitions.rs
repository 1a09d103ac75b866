//! Definitions: a file of RabbitMQ 3.10 in and out again.

use crate::api::Api;
use expect_test::expect;
use serde_json::{Map, Value};

/// Exported by Debian's RabbitMQ: fifty queues, policies, users and what it has limits for.
const OF_RABBITMQ: &str = include_str!("rabbitmq/definitions.json");

/// The lists of definitions, each sorted.
fn lists(definitions: &Value) -> Map<String, Value> {
    let lists = definitions.as_object().expect("an object").iter().filter_map(|(name, list)| {
        let mut list = list.as_array()?.clone();
        list.sort_by_cached_key(Value::to_string);
        Some((name.clone(), Value::Array(list)))
    });
    lists.collect()
}

#[test]
fn a_file_of_rabbitmq_survives() {
    let api = Api::start();
    let given: Value = serde_json::from_str(OF_RABBITMQ).expect("JSON");
    let idle = api.must("POST /api/definitions", OF_RABBITMQ, 200).json();
    let idle: Vec<&str> = idle["without_effect"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let mut idle = idle;
    idle.sort_unstable();
    expect![[r#"
        argument x-max-priority of queue 'queue 15' in vhost 'fifty'
        argument x-max-priority of queue 'queue 25' in vhost 'fifty'
        argument x-max-priority of queue 'queue 35' in vhost 'fifty'
        argument x-max-priority of queue 'queue 45' in vhost 'fifty'
        argument x-max-priority of queue 'queue 5' in vhost 'fifty'
        argument x-queue-mode of queue 'queue 16' in vhost 'fifty'
        argument x-queue-mode of queue 'queue 26' in vhost 'fifty'
        argument x-queue-mode of queue 'queue 36' in vhost 'fifty'
        argument x-queue-mode of queue 'queue 46' in vhost 'fifty'
        argument x-queue-mode of queue 'queue 6' in vhost 'fifty'
        ha-mode of policy 'ha' in vhost 'fifty'
        ha-sync-mode of policy 'ha' in vhost 'fifty'
        limit max-connections of user 'ann'
        parameter 'limits' of component vhost-limits in vhost 'fifty'"#]]
    .assert_eq(&idle.join("\n"));
    // The administrator's password became what the file says.
    let taken = api.must("GET /api/definitions", "", 200).json();
    let (given, taken) = (lists(&given), lists(&taken));
    for (name, list) in &given {
        match name.as_str() {
            // Every virtual host has a description here.
            "vhosts" => assert_eq!(taken[name].as_array().map(Vec::len), list.as_array().map(Vec::len)),
            _ => assert_eq!(taken[name], *list, "{name}"),
        }
    }
    // And once more: nothing changes.
    let answer = api.send("POST /api/definitions", OF_RABBITMQ);
    assert!(matches!(answer.status, 200 | 204), "{}", answer.body);
    assert_eq!(lists(&api.must("GET /api/definitions", "", 200).json()), taken);
}

#[test]
fn of_one_virtual_host() {
    let api = Api::start();
    api.send("POST /api/definitions", OF_RABBITMQ);
    let answer = api.must("GET /api/definitions/fifty?download=fifty.json", "", 200);
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=fifty.json"));
    api.must("PUT /api/vhosts/copy", "", 201);
    api.send("POST /api/definitions/copy", &answer.body);
    let named = |vhost: &str| {
        let mut found = lists(&api.must(&format!("GET /api/definitions/{vhost}"), "", 200).json());
        for name in ["policies", "parameters"] {
            found
                .get_mut(name)
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
                .for_each(|it| it["vhost"] = "".into());
        }
        found
    };
    assert_eq!(named("copy"), named("fifty"));
}

#[test]
fn mistakes_are_named() {
    let api = Api::start();
    let check = |body: &str, expected: expect_test::Expect| {
        let answer = api.must("POST /api/definitions", body, 400);
        expected.assert_eq(answer.json()["reason"].as_str().unwrap_or_default());
    };
    check("x", expect!["failed_to_parse_json"]);
    check(r#"{"users":5}"#, expect!["users: expected a list, got 5"]);
    check(r#"{"queues":[5]}"#, expect!["queues[0]: expected an object, got 5"]);
    check(r#"{"queues":[{"name":"q"}]}"#, expect!["queues[0] 'q': [{key_missing,vhost}]"]);
    check(
        r#"{"queues":[{"name":"q","vhost":"none"}]}"#,
        expect!["queues[0] 'q': vhost: there is no virtual host 'none'"],
    );
    check(
        r#"{"queues":[{"name":"q","vhost":"/","arguments":{"x-queue-type":"stream"}}]}"#,
        expect![
            "queues[0] 'q': invalid arg 'x-queue-type' for queue 'q' in vhost '/': streams are not supported by this version"
        ],
    );
    check(
        r#"{"permissions":[{"user":"none","vhost":"/","configure":"","write":"","read":""}]}"#,
        expect!["permissions[0]: user: there is no user 'none'"],
    );
    api.must("POST /api/definitions/none", "{}", 404);
    api.must("POST /api/definitions", "{}", 204);
}
