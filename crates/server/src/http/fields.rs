//! The fields of an object that is answered: only those that were asked for are worked out.

use super::query::Query;
use serde_json::{Map, Value};

/// Which fields are asked for, by `columns=a,b.c`.
#[derive(Clone, Debug, Default)]
pub struct Columns(Option<Vec<String>>);

impl Columns {
    /// All of them.
    pub const ALL: Columns = Columns(None);

    /// What the request asks for.
    pub fn of(query: &Query) -> Columns {
        Columns(query.get("columns").map(|text| text.split(',').map(str::to_string).collect()))
    }

    /// The field at this path, and no other.
    pub fn only(path: &str) -> Columns {
        Columns(Some(vec![path.to_string()]))
    }

    /// Whether anything of a top-level field is asked for.
    pub fn wants(&self, field: &str) -> bool {
        match &self.0 {
            None => true,
            Some(paths) => paths.iter().any(|path| path.split('.').next() == Some(field)),
        }
    }

    /// Leaves what is asked for.
    fn prune(&self, map: Map<String, Value>) -> Value {
        let Some(paths) = &self.0 else { return Value::Object(map) };
        let mut kept = Map::new();
        for path in paths {
            copy(&map, &mut kept, path);
        }
        match kept.is_empty() {
            // RabbitMQ's JSON library makes this of an object without fields.
            true => Value::Array(Vec::new()),
            false => Value::Object(kept),
        }
    }
}

fn copy(from: &Map<String, Value>, to: &mut Map<String, Value>, path: &str) {
    match path.split_once('.') {
        None => {
            if let Some(value) = from.get(path) {
                to.insert(path.to_string(), value.clone());
            }
        }
        Some((field, rest)) => {
            let Some(Value::Object(inner)) = from.get(field) else { return };
            let mut kept = match to.remove(field) {
                Some(Value::Object(kept)) => kept,
                _ => Map::new(),
            };
            copy(inner, &mut kept, rest);
            if !kept.is_empty() {
                to.insert(field.to_string(), Value::Object(kept));
            }
        }
    }
}

/// An object that is being put together.
#[derive(Debug)]
pub struct Fields<'a> {
    columns: &'a Columns,
    map: Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// An object without fields.
    pub fn new(columns: &'a Columns) -> Fields<'a> {
        Fields { columns, map: Map::new() }
    }

    /// Whether anything of this field is asked for.
    pub fn wants(&self, field: &str) -> bool {
        self.columns.wants(field)
    }

    /// Adds a field.
    pub fn put(&mut self, field: &str, value: impl Into<Value>) {
        if self.columns.wants(field) {
            self.map.insert(field.to_string(), value.into());
        }
    }

    /// Adds a field that costs something to work out.
    pub fn put_with<V: Into<Value>>(&mut self, field: &str, value: impl FnOnce() -> V) {
        if self.columns.wants(field) {
            self.map.insert(field.to_string(), value().into());
        }
    }

    /// The object, without what was not asked for.
    pub fn finish(self) -> Value {
        self.columns.prune(self.map)
    }

    /// The value at a path, for sorting.
    pub fn into_value_at(self, path: &str) -> Value {
        let mut at = Value::Object(self.map);
        for field in path.split('.') {
            at = match at {
                Value::Object(mut map) => map.remove(field).unwrap_or_default(),
                _ => Value::Null,
            };
        }
        at
    }
}
