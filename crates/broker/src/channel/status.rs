//! What can be seen of a channel from outside.

use super::{Channel, Mode};
use crate::counters::ChannelCounters;

/// A channel at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelStatus {
    /// Of new consumers; 0 is no limit.
    pub prefetch: u16,
    /// Of all consumers together; 0 is no limit.
    pub channel_prefetch: u16,
    /// It has publisher confirms.
    pub confirms: bool,
    /// It has transactions.
    pub transacts: bool,
    /// Its consumers.
    pub consumers: usize,
    /// Deliveries that are not settled.
    pub unacked: u64,
    /// Messages that were published and not confirmed.
    pub unconfirmed: u64,
    /// Messages that were published since the last commit.
    pub uncommitted: u64,
    /// Deliveries that were settled since the last commit.
    pub uncommitted_acks: u64,
    /// What it has done since it was opened.
    pub counters: ChannelCounters,
}

impl Channel {
    /// How it is now. Takes no lock.
    pub fn status(&self) -> ChannelStatus {
        let mut status = ChannelStatus {
            prefetch: self.prefetch,
            channel_prefetch: self.channel_prefetch,
            consumers: self.consumers.len(),
            unacked: self.unacked.len(),
            counters: self.counters,
            ..ChannelStatus::default()
        };
        match &self.mode {
            Mode::Plain => {}
            Mode::Confirm(confirms) => {
                status.confirms = true;
                status.unconfirmed = confirms.published - confirms.confirmed;
            }
            Mode::Transaction(transaction) => {
                status.transacts = true;
                status.uncommitted = transaction.messages as u64;
                status.uncommitted_acks = transaction.acks;
            }
        }
        status
    }
}
