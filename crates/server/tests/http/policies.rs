//! Policies and operator policies.

use crate::api::Api;
use expect_test::{Expect, expect};

#[test]
fn policies_come_and_go() {
    let api = Api::start();
    api.must("PUT /api/queues/%2F/q", r#"{"durable":true}"#, 201);
    let policy =
        r#"{"pattern":"^q","definition":{"max-length":5,"message-ttl":1000},"apply-to":"queues","priority":3}"#;
    api.must("PUT /api/policies/%2F/p", policy, 201);
    api.must("PUT /api/policies/%2F/p", policy, 204);
    api.must("PUT /api/operator-policies/%2F/cap", r#"{"pattern":"","definition":{"max-length":3}}"#, 201);
    api.check(
        "GET /api/policies/%2F/p",
        "",
        expect![[r#"
        200
        {
          "apply-to": "queues",
          "definition": {
            "max-length": 5,
            "message-ttl": 1000
          },
          "name": "p",
          "pattern": "^q",
          "priority": 3,
          "vhost": "/"
        }"#]],
    );
    api.check(
        "GET /api/queues/%2F/q?columns=policy,operator_policy,effective_policy_definition",
        "",
        expect![[r#"
        200
        {
          "effective_policy_definition": {
            "max-length": 3,
            "message-ttl": 1000
          },
          "operator_policy": "cap",
          "policy": "p"
        }"#]],
    );
    api.check(
        "GET /api/parameters/operator_policy",
        "",
        expect![[r#"
        200
        [
          {
            "component": "operator_policy",
            "name": "cap",
            "value": {
              "apply-to": "all",
              "definition": {
                "max-length": 3
              },
              "pattern": "",
              "priority": 0
            },
            "vhost": "/"
          }
        ]"#]],
    );
    api.must("DELETE /api/policies/%2F/p", "", 204);
    api.must("DELETE /api/policies/%2F/p", "", 404);
    api.must("DELETE /api/operator-policies/%2F/cap", "", 204);
    assert_eq!(api.must("GET /api/policies", "", 200).body, "[]");
}

#[test]
fn refused() {
    let api = Api::start();
    let check = |path: &str, body: &str, expected: Expect| {
        let answer = api.must(&format!("PUT /api/{path}"), body, 400);
        expected.assert_eq(answer.json()["reason"].as_str().unwrap_or_default());
    };
    check("policies/%2F/p", r#"{"definition":{"max-length":5}}"#, expect!["[{key_missing,pattern}]"]);
    check("policies/%2F/p", r#"{"pattern":"^p"}"#, expect!["[{key_missing,definition}]"]);
    check(
        "policies/%2F/p",
        r#"{"pattern":"^p","definition":{}}"#,
        expect![[r#"
        Validation failed

        no policy provided
    "#]],
    );
    check(
        "policies/%2F/p",
        r#"{"pattern":"^p","definition":{"nope":1}}"#,
        expect![[r#"
        Validation failed

        [{<<"nope">>,1}] are not recognised policy settings
    "#]],
    );
    check(
        "policies/%2F/p",
        r#"{"pattern":"^p","definition":{"max-length":-1}}"#,
        expect![[r#"
        Validation failed

        -1 is not a valid maximum length
    "#]],
    );
    check(
        "policies/%2F/p",
        r#"{"pattern":"^p","definition":{"max-length":1},"priority":"x"}"#,
        expect![[r#"
        Validation failed

        priority should be a number, actually was <<"x">>
    "#]],
    );
}
