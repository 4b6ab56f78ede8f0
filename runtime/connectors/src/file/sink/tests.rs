//! The sink's writer: what users may ask for, processes that die at any step, object stores that fail.

mod full_disk;
mod job;
mod mortal;
mod objects;
mod options;
#[allow(dead_code)] // shared with the tests of storage
#[path = "../../../../storage/tests/storage/proxy.rs"]
mod proxy;
mod rows;
#[allow(dead_code)] // shared with the tests of storage
#[path = "../../../../storage/tests/storage/server.rs"]
mod server;
mod steps;
