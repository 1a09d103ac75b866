//! The SDK on brokers over AMQP: programs in other languages beside it, the list of behaviours, and connections, channels and brokers
//! that are killed under load.

pub mod chaos;
pub mod judges;
pub mod ledger;
pub mod relay;
