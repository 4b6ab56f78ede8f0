//! Channels between processes: one TCP connection from the consumer's process to the producer's carries them all.
//!
//! ```text
//!   consumer -> producer   handshake, then OPEN (channel, window), CREDIT (bytes), CLOSE
//!   producer -> consumer   handshake, then DATA (a fragment of an element), FAILED (why)
//! ```
//!
//! Integers are little-endian. The format has a version ([`handshake::VERSION`]): both sides must have the same.

pub(crate) mod client;
pub(crate) mod codec;
pub(crate) mod connection;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod server;
