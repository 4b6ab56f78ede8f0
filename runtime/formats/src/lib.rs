//! Formats of Flink SQL's tables: bytes to Arrow columns and back.
//!
//! ```text
//!   message --Decoder--> column builders of what is wanted --flush--> columns, row kinds
//!   columns, row kinds --Encoder--> one message a row, in one buffer
//! ```
//!
//! Invariants: a decoder reads a message once, from its bytes into the builders of the wanted columns and fields, and makes
//! nothing of what nobody reads; a message that fails leaves no rows behind; no bytes make a decoder panic. Names, defaults and texts are
//! those of Flink's formats. Nothing here knows where messages come from: whoever does adds that to an error.

mod avro;
mod avro_file;
mod column;
mod csv;
mod debezium;
mod error;
mod format;
#[cfg(test)]
mod fuzz;
mod json;
mod projection;
mod raw;
#[cfg(test)]
mod testing;
pub mod text;

pub use avro_file::{AvroCodec, AvroFileReader, AvroFileWriter, check_avro_names};
pub use error::FormatError;
pub use format::{Decoded, Decoder, Encoder, Format, FormatKind, Messages, OptionReader, Quoting};
pub use projection::Projection;
