//! The executable over real sockets, driven with raw bytes: what no client library can send.
//!
//! `bad_input` and `counts` are items 1 to 10 of the list of attacks, one test each.

mod bad_input;
mod client;
mod peers;
mod server;
