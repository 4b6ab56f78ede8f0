//! Folders in which checkpoints and savepoints are kept: a local or mounted file system, or an object store.
//!
//! ```text
//!   "s3://bucket/checkpoints" --FileSystems::open_folder--> FileSystem --write, read_range, list, delete--> local disk
//!            + s3.endpoint, s3.access-key ..                                                            \-> object store
//!                                                         ^------- copies on this machine (copies.rs): LocalCopies
//! ```
//!
//! Invariants: a file appears under its name only when all of it is written; what comes back from a successful write is
//! durable; every request is tried a bounded number of times; every error names the URI that it is about and knows
//! whether trying again later may help.

mod copies;
mod error;
mod file_system;
mod local;
mod object;
mod staged;
mod uri;
mod writer;

pub use copies::{LocalCopies, LocalCopiesSettings};
pub use error::StorageError;
pub use file_system::{FileInfo, FileSystem, FileSystems};
pub use object::ClientSettings;
pub use staged::{Staged, StagedWriter};
pub use writer::FileWriter;
