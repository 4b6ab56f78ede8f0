//! The binary as people and pods start it: real processes on loopback, real packages, no Kubernetes.
//!
//! The packages are made of programs that `cargo build --workspace` leaves beside the binary (`make unit` builds them first).

#![allow(clippy::unwrap_used, clippy::print_stdout)] // helpers of tests

mod cluster;
mod commands;
mod faults;
mod package;
mod samples;
