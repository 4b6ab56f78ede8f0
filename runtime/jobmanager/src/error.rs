//! Why a JobManager does not start, or does not take a request.

use std::net::SocketAddr;
use std::path::PathBuf;

use thalweg_types::config::ConfigError;

use crate::high_availability::HighAvailabilityError;
use thalweg_types::{Classify, FailureClass};

/// Why a JobManager does not start.
#[derive(Debug, thiserror::Error)]
pub enum JobManagerError {
    /// The configuration can't be used.
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    /// High availability can't be had as it is configured.
    #[error(transparent)]
    HighAvailability(#[from] HighAvailabilityError),
    /// An address is taken or not this machine's.
    #[error("the JobManager's {service} can't be bound to {address}")]
    Bind {
        /// `rpc`, `rest` or `metrics`.
        service: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The data directory can't be used.
    #[error("the JobManager's data directory {path} can't be used")]
    DataDirectory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Classify for JobManagerError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Configuration(_) => FailureClass::Fatal,
            Self::HighAvailability(error) => error.class(),
            Self::Bind { .. } | Self::DataDirectory { .. } => FailureClass::Retryable,
        }
    }
}

/// The JobManager's control plane is gone: it is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the JobManager is shutting down")]
pub struct ShuttingDown;
