//! The gRPC services and wire messages, generated from `proto/`.
//!
//! ```text
//!   operator --cluster.v1--> JobManager <--control.v1-- TaskManager <--control.v1-- worker process
//!                                graph.v1: what a job is, in every one of them
//! ```
//!
//! Field numbers are never reused; a message changes by addition only.

#![allow(missing_docs, clippy::all)] // generated code

pub mod script;

/// StreamGraph and JobGraph.
pub mod graph {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("thalweg.graph.v1");
    }
}

/// Checkpoints and savepoints: what is stored of them, and what is said about them.
pub mod state {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("thalweg.state.v1");
    }
}

/// JobManager, TaskManager and worker process.
pub mod control {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("thalweg.control.v1");
    }
}

/// JobManager and operator.
pub mod cluster {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("thalweg.cluster.v1");
    }
}

/// The records of high availability: what JobManagers leave for each other in storage.
pub mod ha {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("thalweg.ha.v1");
    }
}

/// Version of the worker protocol and of extraction; a worker of another version is refused.
pub const WORKER_PROTOCOL_VERSION: u32 = 1;
/// Version of the protocol between operator and JobManager.
pub const CLUSTER_PROTOCOL_VERSION: u32 = 1;
