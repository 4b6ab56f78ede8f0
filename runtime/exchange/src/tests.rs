//! What a channel promises, checked over both transports: within a process and over TCP.

pub(crate) mod fixtures;
mod local_and_tcp;
mod tcp;
