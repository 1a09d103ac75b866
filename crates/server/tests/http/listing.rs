//! Lists: pages, order, columns, and speeds.

use crate::api::{Api, eventually};
use expect_test::expect;
use leveret_broker::Wait;

/// Five queues with 0 to 4 messages.
fn five() -> Api {
    let api = Api::start();
    let client = api.client();
    for (at, name) in ["e", "d", "c", "b", "Ab"].into_iter().enumerate() {
        client.declare_queue(name).expect("a new queue");
        for _ in 0..at {
            client.publish("", name, "x").wait().expect("it is there");
        }
    }
    api
}

fn names(api: &Api, query: &str) -> String {
    let found = api.must(&format!("GET /api/queues?columns=name,messages&{query}"), "", 200).json();
    let items = found.get("items").unwrap_or(&found).as_array().expect("a list").clone();
    let names: Vec<_> =
        items.iter().map(|item| format!("{} {}", item["name"].as_str().expect("a name"), item["messages"])).collect();
    names.join(", ")
}

#[test]
fn order() {
    let api = five();
    expect!["Ab 4, b 3, c 2, d 1, e 0"].assert_eq(&names(&api, ""));
    expect!["e 0, d 1, c 2, b 3, Ab 4"].assert_eq(&names(&api, "sort=messages"));
    expect!["Ab 4, b 3, c 2, d 1, e 0"].assert_eq(&names(&api, "sort=messages&sort_reverse=true"));
    expect!["e 0, d 1, c 2, b 3, Ab 4"].assert_eq(&names(&api, "sort_reverse=true"));
    // Those without messages have no statistics, and stay in the order of names.
    expect!["e 0, d 1, c 2, b 3, Ab 4"].assert_eq(&names(&api, "sort=message_stats.publish"));
    expect!["Ab 4, b 3, c 2, d 1, e 0"].assert_eq(&names(&api, "sort=nothing"));
}

#[test]
fn pages() {
    let api = five();
    api.check(
        "GET /api/queues/%2F?page=2&page_size=2&columns=name",
        "",
        expect![[r#"
        200
        {
          "filtered_count": 5,
          "item_count": 2,
          "items": [
            {
              "name": "c"
            },
            {
              "name": "d"
            }
          ],
          "page": 2,
          "page_count": 3,
          "page_size": 2,
          "total_count": 5
        }"#]],
    );
    expect!["Ab 4, b 3"].assert_eq(&names(&api, "page=1&name=B"));
    expect!["b 3"].assert_eq(&names(&api, "page=1&name=%5Eb&use_regex=true"));
    expect![""].assert_eq(&names(&api, "page=1&name=none"));
    // Only pages are filtered, as in RabbitMQ.
    expect!["Ab 4, b 3, c 2, d 1, e 0"].assert_eq(&names(&api, "name=b"));
    expect!["Ab 4, b 3"].assert_eq(&names(&api, "page=1&page_size=2&sort=messages&sort_reverse=true"));
}

#[test]
fn columns() {
    let api = five();
    api.check(
        "GET /api/queues/%2F/b?columns=name,leveret.waiting,message_stats.publish,nothing",
        "",
        expect![[r#"
        200
        {
          "leveret": {
            "waiting": 0
          },
          "message_stats": {
            "publish": 3
          },
          "name": "b"
        }"#]],
    );
    api.check(
        "GET /api/queues/%2F/b?columns=nothing",
        "",
        expect![[r#"
        200
        []"#]],
    );
    let keys = |query: &str| {
        let found = api.must(&format!("GET /api/queues/%2F/b?{query}"), "", 200).json();
        found.as_object().expect("an object").keys().filter(|key| key.contains("message")).cloned().collect::<Vec<_>>()
    };
    assert!(keys("disable_stats=true").is_empty());
    let totals = ["messages", "messages_ready", "messages_unacknowledged"];
    assert_eq!(keys("disable_stats=true&enable_queue_totals=true"), totals);
}

#[test]
fn speeds_and_the_past() {
    let api = Api::start();
    let client = api.client();
    client.declare_queue("q").expect("a new queue");
    // Its past is kept from now on.
    api.must("GET /api/queues/%2F/q/history", "", 200);
    let stats = || api.must("GET /api/queues/%2F/q", "", 200).json()["message_stats"]["publish_details"].clone();
    eventually("publishing has a rate", || {
        client.publish("", "q", "x").wait().expect("it is there");
        stats()["rate"].as_f64().is_some_and(|rate| rate > 0.0)
    });
    let overview = api.must("GET /api/overview", "", 200).json();
    assert!(overview["queue_totals"]["messages"].as_u64().is_some_and(|messages| messages > 0), "{overview}");
    let samples = api.must("GET /api/overview?lengths_age=60&lengths_incr=5", "", 200).json();
    let samples = samples["queue_totals"]["messages_details"]["samples"].as_array().expect("samples").clone();
    assert!(
        !samples.is_empty()
            && samples.iter().all(|sample| sample["timestamp"].as_u64().is_some_and(|at| at % 5000 == 0))
    );
    let past = api.must("GET /api/history?range=600", "", 200).json();
    let points = past["at"].as_array().expect("points").len();
    assert!(points > 0 && past["values"]["publish"].as_array().is_some_and(|list| list.len() == points), "{past}");
    eventually("its past has points", || {
        let past = api.must("GET /api/queues/%2F/q/history", "", 200).json();
        past["values"]["ready"].as_array().is_some_and(|list| !list.is_empty())
    });
}
