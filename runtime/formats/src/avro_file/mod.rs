//! Avro's object container files: a header with the writer's schema, and blocks of records.
//!
//! ```text
//!   "Obj" 1 | metadata: avro.schema, avro.codec | sync      record: as in `avro`, of the writer's schema
//!   records, bytes | the records, compressed | sync ..
//! ```
//!
//! Invariants: fields go by name, what the writer's schema has and nobody wants is walked over; no bytes make a reader panic or take
//! memory that the file doesn't account for, up to [`codec::MOST_BLOCK_BYTES`] a block.

mod codec;
mod plan;
mod read;
mod schema;
mod table_schema;
#[cfg(test)]
mod tests;
mod values;
mod write;

pub use codec::AvroCodec;
pub use read::AvroFileReader;
pub use table_schema::check_avro_names;
pub use write::AvroFileWriter;

const MAGIC: &[u8] = b"Obj\x01";
const SCHEMA: &str = "avro.schema";
const CODEC: &str = "avro.codec";
const SYNC_BYTES: usize = 16;
