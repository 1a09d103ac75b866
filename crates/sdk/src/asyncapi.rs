//! The AsyncAPI 3 document of an application: <https://www.asyncapi.com/docs/reference/specification/v3.0.0>.

use crate::contract::requests;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// Makes the schema of a payload, with what it refers to in the generator.
pub(crate) type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

/// Of a type.
pub(crate) fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// What a document says of a topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TopicPage {
    pub(crate) name: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) attributes: Option<&'static [&'static str]>,
    pub(crate) schema: Option<MakeSchema>,
}

/// What a document says of an application's part in a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Page {
    /// It publishes to a topic.
    Send(TopicPage),
    /// It handles a subscription of this name.
    Receive(TopicPage, &'static str),
    /// It responds to requests: what these are, and the replies.
    Respond(TopicPage, TopicPage),
}

/// The document. A topic that is there twice is written once.
pub(crate) fn document(title: &str, version: &str, pages: &[Page]) -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let (mut channels, mut operations) = (Map::new(), Map::new());
    for page in pages {
        match page {
            Page::Send(topic) => {
                channels.insert(topic.name.to_string(), channel(topic, topic.name, &mut generator));
                operations.insert(format!("send-{}", topic.name), operation("send", topic.name, topic.name));
            }
            Page::Receive(topic, subscription) => {
                channels.insert(topic.name.to_string(), channel(topic, topic.name, &mut generator));
                let name = format!("{}.{subscription}", topic.name);
                operations.insert(format!("receive-{name}"), operation("receive", topic.name, &name));
            }
            Page::Respond(request, reply) => {
                let (address, replies) = (requests(request.name), format!("{}.reply", requests(request.name)));
                channels.insert(address.clone(), channel(request, &address, &mut generator));
                let mut of_reply = channel(reply, "", &mut generator);
                // Whoever asks says where.
                of_reply["address"] = Value::Null;
                channels.insert(replies.clone(), of_reply);
                let mut operation = operation("receive", &address, request.name);
                operation["reply"] = json!({ "channel": reference("channels", &replies) });
                operations.insert(format!("respond-{}", request.name), operation);
            }
        }
    }
    json!({
        "asyncapi": "3.0.0",
        "info": { "title": title, "version": version },
        "channels": channels,
        "operations": operations,
        "components": { "schemas": generator.take_definitions(true) },
    })
}

fn channel(topic: &TopicPage, address: &str, generator: &mut SchemaGenerator) -> Value {
    let mut message = json!({ "name": topic.name, "contentType": topic.content_type });
    if let Some(schema) = topic.schema {
        message["payload"] = schema(generator).to_value();
    }
    if let Some(names) = topic.attributes {
        let properties: Map<String, Value> =
            names.iter().map(|name| (name.to_string(), json!({ "type": "string" }))).collect();
        message["headers"] = json!({ "type": "object", "properties": properties });
    }
    json!({ "address": address, "messages": { "event": message } })
}

fn operation(action: &str, channel: &str, title: &str) -> Value {
    json!({ "action": action, "channel": reference("channels", channel), "title": title })
}

/// Names have no characters that a JSON pointer would escape.
fn reference(of: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/{of}/{name}") })
}
