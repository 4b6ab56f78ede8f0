//! Why a batch plan can't be made.

use datafusion_common::DataFusionError;
use thalweg_functions::EvaluationError;
use thalweg_operators::OperatorError;
use thalweg_types::{Classify, FailureClass};

/// What is wrong with a plan.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// An operator that has no batch form, by its name in the plan.
    #[error("{0} is not supported in batch mode")]
    Unsupported(String),
    /// An aggregate function that can't be computed, in words.
    #[error("{0}")]
    Function(String),
    /// The plan contradicts itself.
    #[error("malformed batch plan: {0}")]
    Malformed(String),
    /// An expression that can't be compiled.
    #[error(transparent)]
    Expression(#[from] EvaluationError),
    /// An operator of ours refuses what it is made of.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// DataFusion refuses the plan.
    #[error("the batch plan can't be run: {0}")]
    DataFusion(#[from] DataFusionError),
}

impl Classify for BatchError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Unsupported(_) | Self::Function(_) | Self::Expression(_) => FailureClass::Fatal,
            Self::Operator(source) => source.class(),
            Self::Malformed(_) | Self::DataFusion(_) => FailureClass::Bug,
        }
    }
}

/// An error of ours on its way through DataFusion.
pub(crate) fn external(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DataFusionError {
    DataFusionError::External(error.into())
}
