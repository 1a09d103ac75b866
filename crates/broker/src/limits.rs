//! What one broker allows: every count and size has an end.

/// Limits of a broker. All are finite; raise the one that an error names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Queues per virtual host.
    pub max_queues: usize,
    /// Exchanges per virtual host.
    pub max_exchanges: usize,
    /// Bindings per virtual host.
    pub max_bindings: usize,
    /// Consumers per channel.
    pub max_consumers: usize,
    /// Body bytes of one message. The default is RabbitMQ 4's.
    pub max_message_size: u64,
    /// Publishes held by one transaction.
    pub max_transaction_messages: usize,
    /// Bytes of messages held by one transaction.
    pub max_transaction_bytes: usize,
    /// Producers of which the last sequence is known, per virtual host; the one that was silent for longest is forgotten
    /// for a new one.
    pub max_producers: usize,
    /// Entries beside topology: users, policies and the like.
    pub max_entries: usize,
    /// Bytes of the value of one of them.
    pub max_entry_size: usize,
    /// Bytes of all their keys and values.
    pub max_entries_bytes: usize,
    /// Policies per virtual host, and as many of the operator: a new queue is compared with each.
    pub max_policies: usize,
    /// Bytes of all messages in memory; above it publishers are blocked.
    pub max_memory: u64,
    /// Bytes that must be free on the disk of the data directory; with less, publishers are blocked. The default is
    /// RabbitMQ's.
    pub min_free_disk: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_queues: 100_000,
            max_exchanges: 10_000,
            max_bindings: 1_000_000,
            max_consumers: 10_000,
            max_message_size: 16 * 1024 * 1024,
            max_transaction_messages: 100_000,
            max_transaction_bytes: 64 * 1024 * 1024,
            max_producers: 100_000,
            max_entries: 100_000,
            max_entry_size: 64 * 1024,
            max_entries_bytes: 64 * 1024 * 1024,
            max_policies: 1000,
            max_memory: 1024 * 1024 * 1024,
            min_free_disk: 50_000_000,
        }
    }
}
