//! Prometheus metrics, under the names and labels of RabbitMQ's plugin rabbitmq_prometheus 3.10, so that its Grafana
//! dashboards and alerts work, and Leveret's own beside them.
//!
//! The tables in `objects` say what is told of queues, channels and connections; `node` is the rest.

mod node;
mod objects;
mod text;

use crate::server::Server;
use objects::{Channels, Connections, Queues};
use std::collections::BTreeSet;
use text::Text;

/// What a scrape asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// Everything, queues and the like summed up: the size does not depend on how many there are.
    Aggregated,
    /// Everything, with a line for each queue, channel and connection.
    PerObject,
    /// Some families, with a line for each object, under names that begin with `rabbitmq_detailed_`.
    Detailed {
        /// RabbitMQ's names of families: `queue_coarse_metrics` and so on. Others are answered with nothing, as by RabbitMQ.
        families: BTreeSet<String>,
        /// Only objects of these virtual hosts; of all if it is empty.
        vhosts: BTreeSet<String>,
    },
}

impl View {
    fn has(&self, family: &str) -> bool {
        match self {
            View::Aggregated | View::PerObject => true,
            View::Detailed { families, .. } => families.contains(family),
        }
    }

    fn has_vhost(&self, vhost: &str) -> bool {
        match self {
            View::Aggregated | View::PerObject => true,
            View::Detailed { vhosts, .. } => vhosts.is_empty() || vhosts.contains(vhost),
        }
    }

    fn prefix(&self) -> &'static str {
        match self {
            View::Detailed { .. } => "rabbitmq_detailed_",
            _ => "rabbitmq_",
        }
    }
}

/// The content type of what [`render`] makes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All that a view shows of a server, in Prometheus' text format. Takes each queue's lock for a moment; to be called
/// where that may block.
pub fn render(server: &Server, view: &View) -> String {
    let mut text = Text::new(view.prefix());
    let is_whole = !matches!(view, View::Detailed { .. });
    // It looks at every queue.
    let is_needed = is_whole || view.has("node_persister_metrics");
    let statistics = is_needed.then(|| server.broker.statistics());
    node::put(&mut text, server, view, statistics.as_ref());
    Queues::look(server, view).put(&mut text, view);
    Channels::look(server, view).put(&mut text, view);
    Connections::look(server, view).put(&mut text, view);
    if let Some(statistics) = statistics.filter(|_| is_whole) {
        node::put_totals(&mut text, server, &statistics);
    }
    text.finish()
}
