//! The executable over real sockets, driven with raw bytes: what no client library can send.
//!
//! `bad_input` and `counts` are items 1 to 10 of the list of attacks, one test each. `handshake`, `frames`, `channels`,
//! `flow`, `parking`, `filters` and `access` hold the rules of the wire; `peers` are clients that keep the rules and want to harm; `stop` ends
//! the process; `data` ends and starts it again; `embedded` is the port as a library, and so is
//! `inside`, for `users` and what is changed about them; `random` is a client that sends mutations of a valid session.

mod access;
mod bad_input;
mod channels;
mod check;
mod client;
mod counts;
mod data;
mod embedded;
mod filters;
mod flow;
mod frames;
mod handshake;
mod inside;
mod parking;
mod peers;
mod random;
mod server;
mod stop;
mod users;
