//! Topics and subscriptions on the broker in this process, with a clock that the tests move.

mod bench;
mod dead;
mod delivery;
mod durable;
mod example;
mod forms;
mod refused;
mod requests;
mod retries;
mod testing;
