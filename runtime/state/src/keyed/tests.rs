//! Random operations against a naive twin, with snapshots applied to a naive store of rows or written to files, and restores
//! from them.

mod changed_columns;
mod disk;
mod files;
mod harness;
mod limits;
mod random;
mod restored;
mod ttl;
