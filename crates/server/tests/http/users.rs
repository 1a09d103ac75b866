//! Users and permissions.

use crate::api::Api;
use expect_test::expect;

#[test]
fn users_come_and_go() {
    let api = Api::start();
    let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
    let body = format!(r#"{{"password_hash":"{hash}","tags":["monitoring","x"]}}"#);
    api.must("PUT /api/users/ann", &body, 201);
    api.check(
        "GET /api/users/ann",
        "",
        expect![[r#"
        200
        {
          "hashing_algorithm": "rabbit_password_hashing_sha256",
          "limits": {},
          "name": "ann",
          "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
          "tags": [
            "monitoring",
            "x"
          ]
        }"#]],
    );
    // The password of RabbitMQ's documentation.
    assert_eq!(api.ask_as("ann:test12", "GET /api/whoami", "").status, 200);
    api.must("PUT /api/users/ann", r#"{"password":"other","tags":"administrator"}"#, 204);
    assert_eq!(api.ask_as("ann:test12", "GET /api/whoami", "").status, 401);
    assert_eq!(api.ask_as("ann:other", "GET /api/users", "").status, 200);
    assert_eq!(api.must("GET /api/users/ann", "", 200).json()["hashing_algorithm"], "argon2id");
    // Without a password nobody can log in.
    api.must("PUT /api/users/ann", r#"{"tags":"administrator"}"#, 204);
    for password in ["other", ""] {
        assert_eq!(api.ask_as(&format!("ann:{password}"), "GET /api/whoami", "").status, 401);
    }
    assert_eq!(api.must("GET /api/users/without-permissions?columns=name", "", 200).body, r#"[{"name":"ann"}]"#);
    assert_eq!(api.must("GET /api/users/?columns=name", "", 200).json().as_array().map_or(0, Vec::len), 2);
    api.must("DELETE /api/users/ann", "", 204);
    api.must("PUT /api/users/bob", r#"{"tags":""}"#, 201);
    api.must("POST /api/users/bulk-delete", r#"{"users":["bob"]}"#, 204);
    api.must("GET /api/users/bob", "", 404);
}

#[test]
fn permissions_come_and_go() {
    let api = Api::start();
    api.must("PUT /api/users/ann", r#"{"password":"ann","tags":""}"#, 201);
    let body = r#"{"configure":"^a","write":".*","read":""}"#;
    api.must("PUT /api/permissions/%2F/ann", body, 201);
    api.must("PUT /api/permissions/%2F/ann", body, 204);
    api.check(
        "GET /api/users/ann/permissions",
        "",
        expect![[r#"
        200
        [
          {
            "configure": "^a",
            "read": "",
            "user": "ann",
            "vhost": "/",
            "write": ".*"
          }
        ]"#]],
    );
    let wrong = api.must("PUT /api/permissions/%2F/ann", r#"{"configure":"[","write":"","read":""}"#, 400);
    assert!(wrong.body.contains("configure: '[' is not a valid pattern"), "{}", wrong.body);
    let topic = |exchange: &str| format!(r#"{{"exchange":"{exchange}","write":"^{{username}}","read":".*"}}"#);
    api.must("PUT /api/topic-permissions/%2F/ann", &topic("amq.topic"), 201);
    api.must("PUT /api/topic-permissions/%2F/ann", &topic("other"), 204);
    api.check(
        "GET /api/topic-permissions/%2F/ann",
        "",
        expect![[r#"
        200
        [
          {
            "exchange": "amq.topic",
            "read": ".*",
            "user": "ann",
            "vhost": "/",
            "write": "^{username}"
          },
          {
            "exchange": "other",
            "read": ".*",
            "user": "ann",
            "vhost": "/",
            "write": "^{username}"
          }
        ]"#]],
    );
    api.must("DELETE /api/topic-permissions/%2F/ann/other", "", 204);
    api.must("DELETE /api/topic-permissions/%2F/ann", "", 204);
    api.must("DELETE /api/topic-permissions/%2F/ann", "", 404);
    api.must("DELETE /api/permissions/%2F/ann", "", 204);
    api.must("DELETE /api/permissions/%2F/ann", "", 404);
}
