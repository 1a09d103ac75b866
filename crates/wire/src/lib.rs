//! AMQP 0-9-1 bytes to values and back: frames, methods, content properties and field tables.
//!
//! Values borrow from the bytes they were decoded from, and decoding allocates nothing, so a broker can look at
//! millions of messages a second in place. Every length is checked before it is used, nesting is walked without
//! recursion and has a limit, and no input panics. There is no IO here: callers bring a buffer and keep what is left.
//!
//! ```
//! use leveret_wire::{frame, method::{Method, basic}};
//!
//! let mut out = Vec::new();
//! frame::write_method(&mut out, 1, &basic::Ack { delivery_tag: 7, multiple: true }.into());
//! let (frame, consumed) = frame::parse(&out, 131_072)?.expect("a whole frame");
//! assert_eq!((frame.channel, consumed), (1, out.len()));
//! assert_eq!(Method::decode(frame.payload)?.name(), "basic.ack");
//! # Ok::<(), leveret_wire::Error>(())
//! ```

pub mod frame;
pub mod method;
pub mod properties;
pub mod table;

mod codec;
mod error;

pub use error::Error;
