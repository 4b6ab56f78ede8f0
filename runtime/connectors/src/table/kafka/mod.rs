//! `kafka` and `upsert-kafka`: Flink's KafkaDynamicTableFactory and UpsertKafkaDynamicTableFactory.
//!
//! ```text
//!   CatalogTable --options--> Table --source--> KafkaSource, and behind it value and key are decoded
//!                                   --sink----> KafkaSink, and before it they are encoded
//!                  offsets: where a scan begins and ends     metadata: columns that are in no message
//!                  watermarks: how those of partitions are made
//! ```

mod metadata;
mod offsets;
mod options;
mod sink;
mod source;
mod watermarks;

use thalweg_plan::connector::ConnectorProblem;

use super::options::refusal;
use crate::ConnectorError;

pub(crate) use self::sink::{sink, sink_abilities};
pub(crate) use self::source::{source, source_abilities};

/// Which of the two connectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Append,
    Upsert,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Append => "kafka",
            Self::Upsert => "upsert-kafka",
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn refused(error: ConnectorError) -> ConnectorProblem {
    refusal(error.to_string())
}

#[cfg(test)]
mod tests;
