//! Max parallelism that nobody set comes from the snapshot: the default depends on the parallelism, keyed state doesn't survive
//! another one.

use std::collections::HashMap;

use thalweg_proto::graph::v1::StreamGraph;
use thalweg_proto::state::v1::SnapshotMetadata;
use thalweg_types::config::{ConfigError, Configuration, options};

use super::{RestoreError, has_keyed_state, in_words};

/// Why it can't be taken over.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// A malformed value.
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    /// The job needs more.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

impl thalweg_types::Classify for AdoptError {
    fn class(&self) -> thalweg_types::FailureClass {
        thalweg_types::FailureClass::Fatal
    }
}

/// Sets the max parallelism of the graph's operators to the saved one, where neither the program nor the configuration sets
/// it. To be called before the JobGraph is made. Flink's rule for max parallelism that was derived.
///
/// # Errors
/// An operator with keyed state whose parallelism is above the saved max parallelism.
pub fn adopt_max_parallelism(
    metadata: &SnapshotMetadata,
    graph: &mut StreamGraph,
    configuration: &Configuration,
) -> Result<(), AdoptError> {
    if configuration.get(&options::MAX_PARALLELISM)? != -1 {
        return Ok(());
    }
    let default = configuration.get(&options::PARALLELISM_DEFAULT)?;
    let saved: HashMap<&str, _> = metadata
        .operators
        .iter()
        .filter(|operator| has_keyed_state(operator))
        .map(|operator| (operator.operator_id.as_str(), operator))
        .collect();
    for node in graph.nodes.iter_mut().filter(|node| node.max_parallelism == 0) {
        let Some(operator) = saved.get(node.operator_id.as_str()) else {
            continue;
        };
        let parallelism = if node.parallelism == 0 {
            default
        } else {
            node.parallelism
        };
        if parallelism > operator.max_parallelism {
            return Err(AdoptError::Restore(RestoreError::Parallelism {
                operator: in_words(operator),
                parallelism,
                max_parallelism: operator.max_parallelism,
            }));
        }
        node.max_parallelism = operator.max_parallelism;
    }
    Ok(())
}
