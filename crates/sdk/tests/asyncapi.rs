//! The document of an application.

use leveret::{App, Bus, Rpc, Subscription, Topic};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Somebody is new.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Signup {
    email: String,
    plan: Plan,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Plan {
    Free,
    Pro,
}

static SIGNUPS: Topic<Signup> = Topic::new("signups").attributes(&["plan"]).schema();
static MAILS: Topic<Vec<u8>> = Topic::with_codec("mails", leveret::Codec::bytes());
static EMAIL: Subscription<Signup> = SIGNUPS.subscription("email");
static QUOTE: Rpc<u64, f64> = Rpc::new("quote").schema();

#[tokio::test]
async fn it_tells_of_topics_subscriptions_and_requests() {
    let bus = Bus::open("local:").await.expect("it opens");
    let app = App::new(&bus).publishes(&MAILS).handle(&EMAIL, async |_: Signup| {});
    let app = app.respond(&QUOTE, async |number: u64| Ok::<_, String>(number as f64));
    let found = app.asyncapi("Shop", "1.0.0");
    let expected = json!({
        "asyncapi": "3.0.0",
        "info": { "title": "Shop", "version": "1.0.0" },
        "channels": {
            "mails": {
                "address": "mails",
                "messages": { "event": { "name": "mails", "contentType": "application/octet-stream" } }
            },
            "signups": {
                "address": "signups",
                "messages": { "event": {
                    "name": "signups",
                    "contentType": "application/json",
                    "payload": { "$ref": "#/components/schemas/Signup" },
                    "headers": { "type": "object", "properties": { "plan": { "type": "string" } } }
                } }
            },
            "leveret.rpc.quote": {
                "address": "leveret.rpc.quote",
                "messages": { "event": {
                    "name": "quote",
                    "contentType": "application/json",
                    "payload": { "type": "integer", "format": "uint64", "minimum": 0 }
                } }
            },
            "leveret.rpc.quote.reply": {
                "address": null,
                "messages": { "event": {
                    "name": "quote",
                    "contentType": "application/json",
                    "payload": { "type": "number", "format": "double" }
                } }
            }
        },
        "operations": {
            "send-mails": { "action": "send", "channel": { "$ref": "#/channels/mails" }, "title": "mails" },
            "receive-signups.email": {
                "action": "receive",
                "channel": { "$ref": "#/channels/signups" },
                "title": "signups.email"
            },
            "respond-quote": {
                "action": "receive",
                "channel": { "$ref": "#/channels/leveret.rpc.quote" },
                "title": "quote",
                "reply": { "channel": { "$ref": "#/channels/leveret.rpc.quote.reply" } }
            }
        },
        "components": { "schemas": {
            "Signup": {
                "description": "Somebody is new.",
                "type": "object",
                "properties": { "email": { "type": "string" }, "plan": { "$ref": "#/components/schemas/Plan" } },
                "required": ["email", "plan"]
            },
            "Plan": { "type": "string", "enum": ["free", "pro"] }
        } }
    });
    assert_eq!(found, expected, "{found:#}");
}
