//! Kills a broker again and again under load, and holds what it still has against an outside ledger.
//!
//! A cycle: clients publish with confirms, consume, acknowledge, give back and work in transactions ([`load`]); each
//! remembers what it sent, got and was promised ([`account`]). The broker is killed with SIGKILL, sometimes again while
//! it recovers, or just when it merges files ([`campaign`]). Restarted, it is asked for everything it has ([`drain`]),
//! and the [`ledger`] says what is lost, what is a ghost, which transaction is half done, what has the wrong flag or order.

pub mod account;
pub mod amqp;
pub mod builder;
pub mod campaign;
pub mod chance;
pub mod consumer;
pub mod drain;
pub mod ledger;
pub mod load;
pub mod message;
pub mod publisher;
pub mod topology;
pub mod transactor;
pub mod victim;
