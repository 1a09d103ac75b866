//! What there is in a broker, as tables: a [`Resource`] for each kind of thing.

use super::api::Api;
use crate::cli::table::{Column, number, table, text};
use anyhow::Result;
use serde_json::Value;

/// A kind of thing that can be listed.
pub struct Resource {
    /// Its path below `/api`.
    pub path: &'static str,
    /// The API gives it in pages.
    paged: bool,
    /// It belongs to a virtual host, so that one can be chosen.
    in_vhost: bool,
    columns: &'static [(Column, Cell)],
}

/// How a cell is made of an item.
#[derive(Clone, Copy)]
enum Cell {
    /// What is at a path of names, separated by dots.
    At(&'static str),
    /// As `At`, a rate per second.
    Rate(&'static str),
    /// As `At`, bytes.
    Bytes(&'static str),
    /// What is true of it, in letters: the names of flags, and what they are shown as.
    Flags(&'static [(&'static str, &'static str)]),
}

use Cell::{At, Bytes, Flags, Rate};

const DECLARED: Cell = Flags(&[("durable", "D"), ("auto_delete", "AD"), ("exclusive", "E"), ("internal", "I")]);
const VHOST: (Column, Cell) = (text("VHOST"), At("vhost"));
const NAME: (Column, Cell) = (text("NAME"), At("name"));

/// The queues of a broker.
pub const QUEUES: Resource = Resource {
    path: "queues",
    paged: true,
    in_vhost: true,
    columns: &[
        VHOST,
        NAME,
        (text("IS"), DECLARED),
        (text("STATE"), At("state")),
        (number("READY"), At("messages_ready")),
        (number("UNACKED"), At("messages_unacknowledged")),
        (number("CONSUMERS"), At("consumers")),
        (number("IN/S"), Rate("message_stats.publish_details.rate")),
        (number("OUT/S"), Rate("message_stats.deliver_get_details.rate")),
        (number("SIZE"), Bytes("message_bytes")),
        (text("POLICY"), At("policy")),
    ],
};

/// Its exchanges.
pub const EXCHANGES: Resource = Resource {
    path: "exchanges",
    paged: true,
    in_vhost: true,
    columns: &[
        VHOST,
        NAME,
        (text("TYPE"), At("type")),
        (text("IS"), DECLARED),
        (number("IN/S"), Rate("message_stats.publish_in_details.rate")),
        (number("OUT/S"), Rate("message_stats.publish_out_details.rate")),
        (text("POLICY"), At("policy")),
    ],
};

/// Its bindings.
pub const BINDINGS: Resource = Resource {
    path: "bindings",
    paged: false,
    in_vhost: true,
    columns: &[
        VHOST,
        (text("SOURCE"), At("source")),
        (text("TO"), At("destination_type")),
        (text("DESTINATION"), At("destination")),
        (text("KEY"), At("routing_key")),
        (text("ARGUMENTS"), At("arguments")),
    ],
};

/// Clients that are connected.
pub const CONNECTIONS: Resource = Resource {
    path: "connections",
    paged: true,
    in_vhost: true,
    columns: &[
        VHOST,
        NAME,
        (text("USER"), At("user")),
        (text("STATE"), At("state")),
        (number("CHANNELS"), At("channels")),
        (text("CLIENT"), At("client_properties.product")),
        (text("VERSION"), At("client_properties.version")),
        (number("RECEIVED/S"), Bytes("recv_oct_details.rate")),
        (number("SENT/S"), Bytes("send_oct_details.rate")),
    ],
};

/// Their channels.
pub const CHANNELS: Resource = Resource {
    path: "channels",
    paged: true,
    in_vhost: true,
    columns: &[
        VHOST,
        NAME,
        (text("USER"), At("user")),
        (text("MODE"), Flags(&[("confirm", "confirm"), ("transactional", "tx")])),
        (number("CONSUMERS"), At("consumer_count")),
        (number("PREFETCH"), At("prefetch_count")),
        (number("UNACKED"), At("messages_unacknowledged")),
        (number("UNCONFIRMED"), At("messages_unconfirmed")),
        (number("IN/S"), Rate("message_stats.publish_details.rate")),
        (number("OUT/S"), Rate("message_stats.deliver_get_details.rate")),
    ],
};

/// Who consumes from what.
pub const CONSUMERS: Resource = Resource {
    path: "consumers",
    paged: false,
    in_vhost: true,
    columns: &[
        (text("VHOST"), At("queue.vhost")),
        (text("QUEUE"), At("queue.name")),
        (text("TAG"), At("consumer_tag")),
        (text("CHANNEL"), At("channel_details.name")),
        (text("IS"), Flags(&[("ack_required", "acks"), ("exclusive", "exclusive"), ("active", "active")])),
        (number("PREFETCH"), At("prefetch_count")),
        (text("ARGUMENTS"), At("arguments")),
    ],
};

/// Who may log in.
pub const USERS: Resource =
    Resource { path: "users", paged: false, in_vhost: false, columns: &[NAME, (text("TAGS"), At("tags"))] };

/// Virtual hosts.
pub const VHOSTS: Resource = Resource {
    path: "vhosts",
    paged: false,
    in_vhost: false,
    columns: &[
        NAME,
        (text("DESCRIPTION"), At("description")),
        (text("TAGS"), At("tags")),
        (number("READY"), At("messages_ready")),
        (number("UNACKED"), At("messages_unacknowledged")),
    ],
};

/// What users may do where.
pub const PERMISSIONS: Resource = Resource {
    path: "permissions",
    paged: false,
    in_vhost: false,
    columns: &[
        VHOST,
        (text("USER"), At("user")),
        (text("CONFIGURE"), At("configure")),
        (text("WRITE"), At("write")),
        (text("READ"), At("read")),
    ],
};

/// What applies to queues and exchanges by their names.
pub const POLICIES: Resource = Resource {
    path: "policies",
    paged: false,
    in_vhost: true,
    columns: &[
        VHOST,
        NAME,
        (text("PATTERN"), At("pattern")),
        (text("APPLIES TO"), At("apply-to")),
        (number("PRIORITY"), At("priority")),
        (text("DEFINITION"), At("definition")),
    ],
};

/// What limits policies and arguments.
pub const OPERATOR_POLICIES: Resource = Resource { path: "operator-policies", ..POLICIES };

impl Resource {
    /// All of them, or those of one virtual host.
    ///
    /// # Errors
    /// With what the broker says, or why it cannot be reached.
    pub fn fetch(&self, api: &Api, vhost: Option<&str>) -> Result<Vec<Value>> {
        let path: Vec<&str> = [self.path].into_iter().chain(vhost.filter(|_| self.in_vhost)).collect();
        let mut items = api.list(&path, self.paged, &[])?;
        if let Some(vhost) = vhost.filter(|_| !self.in_vhost) {
            items.retain(|item| item.get("vhost").is_none_or(|it| it == vhost));
        }
        Ok(items)
    }

    /// Items as a table for people. Columns in which nothing has anything are left out.
    pub fn table(&self, items: &[Value]) -> String {
        let cells = |item: &Value| self.columns.iter().map(|(_, cell)| cell.of(item)).collect();
        let rows: Vec<Vec<String>> = items.iter().map(cells).collect();
        let is_used = |at: usize| rows.is_empty() || rows.iter().any(|row| !row[at].is_empty());
        let used: Vec<usize> = (0..self.columns.len()).filter(|&at| is_used(at)).collect();
        let columns: Vec<Column> = used.iter().map(|&at| self.columns[at].0).collect();
        let rows: Vec<Vec<String>> = rows.iter().map(|row| used.iter().map(|&at| row[at].clone()).collect()).collect();
        table(&columns, &rows)
    }
}

impl Cell {
    fn of(self, item: &Value) -> String {
        match self {
            At(path) => plain(at(item, path)),
            Rate(path) => at(item, path).as_f64().map_or_else(String::new, rate),
            Bytes(path) => at(item, path).as_f64().map_or_else(String::new, bytes),
            Flags(flags) => {
                let set = flags.iter().filter(|(name, _)| item[*name] == true).map(|(_, shown)| *shown);
                set.collect::<Vec<_>>().join(" ")
            }
        }
    }
}

/// What is in an item at a path of names, separated by dots.
pub fn at<'a>(item: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(item, |item, name| &item[name])
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        Value::Object(map) if map.is_empty() => String::new(),
        other => other.to_string(),
    }
}

/// Events per second, short.
pub fn rate(value: f64) -> String {
    match value {
        0.0..10.0 => format!("{value:.1}"),
        10.0..100_000.0 => format!("{value:.0}"),
        100_000.0..10_000_000.0 => format!("{:.0}k", value / 1e3),
        _ => format!("{:.1}M", value / 1e6),
    }
}

/// Bytes, short.
pub fn bytes(value: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (value, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let digits = usize::from(unit > 0 && value < 100.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn queues_as_a_table() {
        let items = [
            json!({"vhost": "/", "name": "orders", "durable": true, "auto_delete": false, "state": "running",
                "messages_ready": 1200, "messages_unacknowledged": 3, "consumers": 2, "message_bytes": 1536,
                "message_stats": {"publish_details": {"rate": 123_456.0}, "deliver_get_details": {"rate": 0.2}}}),
            json!({"vhost": "shop", "name": "\u{1b}[2J", "auto_delete": true, "exclusive": true, "state": "idle"}),
        ];
        expect![[r#"
            VHOST  NAME       IS    STATE    READY  UNACKED  CONSUMERS  IN/S  OUT/S     SIZE
            /      orders     D     running   1200        3          2  123k    0.2  1.5 KiB
            shop   \u{1b}[2J  AD E  idle
        "#]]
        .assert_eq(&QUEUES.table(&items));
        assert_eq!(PERMISSIONS.table(&[]), "VHOST  USER  CONFIGURE  WRITE  READ\n");
    }

    #[test]
    fn numbers_are_short() {
        let rates = [0.0, 9.96, 99.4, 99_999.4, 1_234_567.0, 12_345_678.0].map(rate);
        assert_eq!(rates, ["0.0", "10.0", "99", "99999", "1235k", "12.3M"]);
        assert_eq!([0.0, 1023.0, 1024.0, 1e9, 1e15].map(bytes), ["0 B", "1023 B", "1.0 KiB", "954 MiB", "909 TiB"]);
    }
}
