//! Task-to-task channels: in the same process, or over TCP with credits.
//!
//! ```text
//!   task thread                                                                task thread
//!   RecordWriter --partition, coalesce--> ChannelWriter                        InputGate.poll_next
//!                                             |                                     ^
//!                                        Subpartition ---- local: the same queue ---+
//!                                             |                                     |
//!                                     (server connection)                         Inbox
//!                                       multiplexer  ===== frames <= 256 KiB =====> assembler (client connection)
//!                                             ^  <======== credit, in bytes ========+
//! ```
//!
//! - A channel belongs to one producing execution, one edge and one subpartition ([`ChannelId`]) and has one consumer.
//! - A producer may send while its channel has credit ([`ChannelWriter::poll_ready`]); one element may overdraw it, and
//!   control elements always may. So a channel never holds more than its window and what was sent unasked.
//! - Credit comes back when the consumer's *task* takes an element, never earlier: the threads that read sockets wait
//!   for no queue, hence a channel that is not consumed stops its own producer and nobody else.
//! - A gate can look ahead for a barrier ([`InputGate::peek_barriers`]) and at what lies before it: so barriers overtake
//!   without a change of order.
//! - Elements of one channel arrive in order, each exactly once, or the consumer sees an error.
//! - Encoding and decoding run on task threads; the I/O threads move bytes.

mod channel;
mod coalesce;
mod error;
mod exchange;
mod gate;
mod local;
mod memory;
mod partition;
mod queue;
mod ready;
mod record_writer;
mod registry;
mod wire;

#[cfg(test)]
mod tests;

pub use channel::{ChannelCounters, ChannelId, ChannelWriter};
pub use coalesce::merge_batches;
pub use error::{ExchangeError, HandshakeRefusal};
pub use exchange::{Exchange, ExchangeConfig};
pub use gate::InputGate;
pub use partition::{KeyGroupPartitioner, Partitioner};
pub use record_writer::RecordWriter;
