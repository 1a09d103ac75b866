//! Filters of subscriptions on RabbitMQ, which has none in the broker's grammar: what does not match is forgotten here.

use super::engine::Engine;
use super::receiver::Source;
use crate::error::Result;
use lapin::BasicProperties;

#[cfg(feature = "local")]
pub(super) use grammar::Selection;
#[cfg(not(feature = "local"))]
pub(super) use nothing::Selection;

#[cfg(feature = "local")]
mod grammar {
    use super::{BasicProperties, Engine, Result, Source};
    use crate::amqp::message::{as_number, as_text};
    use crate::error::Error;
    use lapin::types::{AMQPValue, ShortString};
    use leveret_broker::table::FieldTable;
    use leveret_broker::{Filter, Properties};

    /// Which messages a receiver hands out.
    pub(in crate::amqp) struct Selection(Option<Filter>);

    impl Selection {
        /// # Errors
        /// [`Error::Configuration`] if it is not in the grammar.
        pub(in crate::amqp) fn of(engine: Engine, source: &Source) -> Result<Selection> {
            let spec = match source {
                Source::Subscription(spec) if engine == Engine::RabbitMq => spec,
                _ => return Ok(Selection(None)),
            };
            let parse = |text| Filter::parse(text).map_err(|error| refused(&spec.queue(), &error.to_string()));
            Ok(Selection(spec.filter.map(parse).transpose()?))
        }

        pub(in crate::amqp) fn wants(&self, properties: &BasicProperties) -> bool {
            let Some(filter) = &self.0 else { return true };
            let mut headers = FieldTable::new();
            for (name, value) in properties.headers().iter().flatten() {
                insert(&mut headers, name.as_str(), value);
            }
            let text = |text: &Option<ShortString>| text.as_ref().map(|text| text.as_str().to_string());
            let (content_type, kind) = (text(properties.content_type()), text(properties.kind()));
            let (id, correlation) = (text(properties.message_id()), text(properties.correlation_id()));
            let (app, user) = (text(properties.app_id()), text(properties.user_id()));
            filter.matches(&Properties {
                headers: Some(headers.as_table()),
                content_type: content_type.as_deref(),
                r#type: kind.as_deref(),
                message_id: id.as_deref().map(str::as_bytes),
                correlation_id: correlation.as_deref().map(str::as_bytes),
                app_id: app.as_deref(),
                user_id: user.as_deref(),
                priority: *properties.priority(),
                timestamp: *properties.timestamp(),
                ..Properties::EMPTY
            })
        }
    }

    fn insert(headers: &mut FieldTable, name: &str, value: &AMQPValue) {
        match value {
            AMQPValue::Boolean(value) => headers.insert(name, *value),
            AMQPValue::Double(value) => headers.insert(name, *value),
            value => match (as_text(value), as_number(value)) {
                (Some(text), _) => headers.insert(name, text),
                (_, Some(number)) => headers.insert(name, number),
                (None, None) => {}
            },
        }
    }

    fn refused(queue: &str, why: &str) -> Error {
        Error::Configuration(format!("subscription '{queue}': its filter is not valid: {why}"))
    }
}

#[cfg(not(feature = "local"))]
mod nothing {
    use super::{BasicProperties, Engine, Result, Source};

    /// Without the broker's grammar there are no filters, see [`Engine::capabilities`].
    pub(in crate::amqp) struct Selection;

    impl Selection {
        pub(in crate::amqp) fn of(_: Engine, _: &Source) -> Result<Selection> {
            Ok(Selection)
        }

        pub(in crate::amqp) fn wants(&self, _: &BasicProperties) -> bool {
            true
        }
    }
}
