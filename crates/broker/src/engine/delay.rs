//! Messages that wait before they are routed: each exchange of type `x-delayed-message` has a queue for them.

use super::dead::push;
use super::durable::limits_too_low;
use super::{QueueDeclare, SharedQueue, VirtualHost};
use crate::delay::{DELAYED_TYPE, negate};
use crate::error::Result;
use crate::log::OpenError;
use crate::message::Message;
use crate::publisher::{Held, life};
use crate::settings::DELAYS_FOR;
use crate::topology::{ExchangeDeclare, delay_queue};
use leveret_wire::properties::Properties;
use leveret_wire::table::{FieldTable, Value};
use std::sync::Arc;

impl VirtualHost {
    /// Gives an exchange that delays messages a queue for them, unless it has one.
    pub(super) fn declare_delay_queue(&self, declare: &ExchangeDeclare<'_>) -> Result<()> {
        match declare.kind {
            DELAYED_TYPE => self.make_delay_queue(declare.name, declare.durable),
            _ => Ok(()),
        }
    }

    /// Of a queue that a start has found: it belongs to an exchange that is gone, and a crash came before its own end.
    pub(super) fn has_lost_exchange(&self, arguments: &FieldTable) -> bool {
        let Some(exchange) = arguments.get(DELAYS_FOR) else { return false };
        let is_there =
            |name: &str| self.topology.read().exchange(name).is_ok_and(|exchange| exchange.delayed && exchange.durable);
        !exchange.as_str().is_some_and(is_there)
    }

    /// Gives queues to exchanges that a start has found without, because a crash came in between.
    pub(super) fn restore_delay_queues(&self) -> std::result::Result<(), OpenError> {
        let delayed = self.topology.read().delayed_exchanges();
        delayed.iter().try_for_each(|name| self.make_delay_queue(name, true)).map_err(limits_too_low)
    }

    fn make_delay_queue(&self, exchange: &str, durable: bool) -> Result<()> {
        let name = delay_queue(exchange);
        self.change(|topology| {
            if topology.queue(&name).is_ok() {
                return Ok(());
            }
            let arguments = FieldTable::new().with(DELAYS_FOR, exchange);
            let queue = QueueDeclare {
                name: &name,
                durable,
                exclusive: false,
                auto_delete: false,
                arguments: arguments.as_table(),
            };
            self.insert_queue(topology, name.as_str().into(), queue, None).map(|_| ())
        })
    }
}

impl SharedQueue {
    /// Messages in it wait for their time.
    pub(super) fn is_delay(&self) -> bool {
        self.settings().delays_for.is_some()
    }

    /// Routes messages that have waited, and forgets them here: both or neither.
    pub(super) fn send_delayed(self: &Arc<Self>, runs: &[(u64, u64)]) {
        if !runs.is_empty() {
            self.move_all(runs, |message, out| self.route_delayed(message, out));
        }
    }

    fn route_delayed(&self, message: &Message<'_>, out: &mut Vec<Held>) {
        let settings = self.settings();
        let (Some(exchange), Some(vhost)) = (&settings.delays_for, self.vhost.upgrade()) else { return };
        let mut properties =
            Properties::decode_stored(message.properties).expect("properties are checked before they are queued");
        let mut headers = properties.headers.map(FieldTable::from).unwrap_or_default();
        negate(&mut headers);
        let mut keys = vec![message.routing_key()];
        let carbon = headers.get("CC");
        if let Some(Value::Array(extra)) = &carbon {
            keys.extend(extra.iter().filter_map(|key| key.as_str()));
        }
        properties.headers = Some(headers.as_table());
        let Some(route) = vhost.route_onwards(exchange, &keys, &properties) else { return };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        // It was checked when the message was published.
        let life = life(&properties).ok().flatten();
        let push_to = |run: &mut crate::message::Run| {
            run.push(message.route, &encoded, message.body, message.persistent);
        };
        push(out, route, push_to, message.persistent, life, None);
        // A client has published it, and its queues see it only now.
        if let Some(held) = out.last_mut() {
            held.note_keys(&properties, vhost.dedup().seed());
        }
    }
}
