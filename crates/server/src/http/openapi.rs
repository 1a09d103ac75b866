//! The API described in OpenAPI 3.1, from the table that the router is made of.

use super::answer::{Answer, ok};
use super::call::Call;
use super::endpoint::{Endpoint, Field, Gives, Kind, Param};
use super::{node, routes};
use serde_json::{Map, Value, json};

/// `GET /api/openapi.json`
pub fn document(_: &Call) -> Answer {
    ok(&describe(&routes::all()))
}

/// The document for these endpoints.
pub fn describe(endpoints: &[Endpoint]) -> Value {
    let mut paths = Map::new();
    for endpoint in endpoints {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.as_str().to_lowercase()] = operation(endpoint);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Leveret",
            "version": node::VERSION,
            "description": "Management of a Leveret broker. What RabbitMQ has as well is as there.",
        },
        "security": [{ "basic": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "basic": { "type": "http", "scheme": "basic" } },
            "schemas": {
                "Refusal": {
                    "type": "object",
                    "required": ["error", "reason"],
                    "properties": { "error": { "type": "string" }, "reason": { "type": "string" } },
                },
                "Page": {
                    "type": "object",
                    "required": [
                        "filtered_count", "item_count", "items", "page", "page_count", "page_size", "total_count"
                    ],
                    "properties": {
                        "filtered_count": { "type": "integer" },
                        "item_count": { "type": "integer" },
                        "items": { "type": "array" },
                        "page": { "type": "integer" },
                        "page_count": { "type": "integer" },
                        "page_size": { "type": "integer" },
                        "total_count": { "type": "integer" },
                    },
                },
            },
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut parameters: Vec<Value> = names_in(endpoint.path).map(path_parameter).collect();
    parameters.extend(endpoint.query.iter().map(query_parameter));
    let mut operation = json!({
        "operationId": operation_id(endpoint),
        "summary": endpoint.summary,
        "tags": [endpoint.path.split('/').nth(2).unwrap_or_default()],
        "parameters": parameters,
        "responses": responses(endpoint),
    });
    if !endpoint.body.is_empty() {
        operation["requestBody"] = json!({
            "required": endpoint.body.iter().any(|field| field.needed),
            "content": { "application/json": { "schema": body(endpoint.body) } },
        });
    }
    operation
}

fn operation_id(endpoint: &Endpoint) -> String {
    let path: String = endpoint.path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("{}{path}", endpoint.method.as_str().to_lowercase())
}

fn names_in(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn path_parameter(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
}

fn query_parameter(param: &Param) -> Value {
    json!({
        "name": param.name,
        "in": "query",
        "required": false,
        "description": param.about,
        "schema": schema(param.kind),
    })
}

fn schema(kind: Kind) -> Value {
    match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Number(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Object => json!({ "type": "object" }),
        Kind::Texts => json!({ "type": ["string", "array"], "items": { "type": "string" } }),
        Kind::Objects => json!({ "type": "array", "items": { "type": "object" } }),
        Kind::Any => json!({}),
    }
}

fn body(fields: &[Field]) -> Value {
    let properties: Map<String, Value> =
        fields.iter().map(|field| (field.name.to_string(), schema(field.kind))).collect();
    let required: Vec<&str> = fields.iter().filter(|field| field.needed).map(|field| field.name).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

fn responses(endpoint: &Endpoint) -> Value {
    let content = |schema: Value| json!({ "application/json": { "schema": schema } });
    let list = || json!({ "type": "array" });
    // An object of which no column was asked for is an empty list, as in RabbitMQ.
    let object = || json!({ "type": ["object", "array"] });
    let page = || json!({ "anyOf": [list(), { "$ref": "#/components/schemas/Page" }] });
    let good = |schema: Value| json!({ "description": "Here it is", "content": content(schema) });
    let mut responses = match endpoint.gives {
        Gives::Object => json!({ "200": good(object()) }),
        Gives::List => json!({ "200": good(list()) }),
        Gives::Pages => json!({ "200": good(page()) }),
        Gives::Put => json!({ "201": { "description": "Made" }, "204": { "description": "Changed" } }),
        Gives::Made => json!({ "201": {
            "description": "Made",
            "headers": { "location": { "description": "Where", "schema": { "type": "string" } } },
        } }),
        Gives::Done => json!({ "204": { "description": "Done" } }),
        Gives::Imported => json!({ "200": good(object()), "204": { "description": "Done" } }),
        Gives::Health => json!({ "200": good(object()) }),
        Gives::Text => json!({ "200": {
            "description": "Metrics in Prometheus' text format",
            "content": { "text/plain": { "schema": { "type": "string" } } },
        } }),
        Gives::Events => json!({ "200": {
            "description": "Events, until one of both ends it",
            "content": { "text/event-stream": { "schema": { "type": "string" } } },
        } }),
    };
    let refused = |why: &str| json!({ "description": why, "content": content(json!({ "$ref": "#/components/schemas/Refusal" })) });
    responses["400"] = refused("Something in the request is wrong; the reason names it");
    responses["401"] = refused("Not logged in, or not allowed to");
    responses["404"] = refused("It does not exist");
    // Without the last part, which may have been empty, it is another path.
    responses["405"] = json!({ "description": "That path is there, but not for this" });
    if endpoint.summary == routes::NOT_SUPPORTED {
        responses["501"] = refused("It is not built");
    }
    responses["413"] = refused("The body is too large");
    responses["503"] = match endpoint.gives {
        Gives::Health => json!({ "description": "It is not healthy, and why", "content": content(object()) }),
        _ => refused("It cannot be done now"),
    };
    responses
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_described_once() {
        let all = routes::all();
        let document = describe(&all);
        let ids: BTreeSet<String> = all.iter().map(operation_id).collect();
        assert_eq!(ids.len(), all.len(), "ids are unique");
        for endpoint in &all {
            let operation = &document["paths"][endpoint.path][endpoint.method.as_str().to_lowercase()];
            assert_eq!(operation["operationId"], operation_id(endpoint), "{} {}", endpoint.method, endpoint.path);
            assert_eq!(
                operation["parameters"].as_array().map(Vec::len),
                Some(names_in(endpoint.path).count() + endpoint.query.len())
            );
        }
    }
}
