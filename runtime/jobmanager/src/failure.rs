//! Failures as messages, and back.

pub(crate) use thalweg_graph::execution::{failure_from_proto, failure_to_proto};
use thalweg_proto::control::v1 as control;
use thalweg_types::{Failure, FailureClass};

/// A failure that a message should hold; a sender that left it out is wrong.
pub(crate) fn failure_of(failure: Option<&control::Failure>) -> Failure {
    failure.map_or_else(
        || {
            Failure::new(
                FailureClass::Bug,
                "a TaskManager reported a failure without saying which",
            )
        },
        failure_from_proto,
    )
}
