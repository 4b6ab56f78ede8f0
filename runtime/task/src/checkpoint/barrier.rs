//! A barrier with its options read.

use std::sync::Arc;
use std::time::Duration;

use prost::{DecodeError, Message};
use thalweg_proto::control::v1::TriggerCheckpoint;
use thalweg_proto::state::v1::{CheckpointOptions, SnapshotKind};
use thalweg_types::StreamElement;
use thalweg_types::element::CheckpointBarrier;

/// A checkpoint as a task knows it. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Barrier {
    pub(crate) id: u64,
    /// When the coordinator triggered it, in ms since the epoch.
    pub(crate) timestamp_ms: u64,
    pub(crate) options: Arc<CheckpointOptions>,
    encoded: Arc<[u8]>,
}

impl Barrier {
    /// As the coordinator asks for it.
    pub(crate) fn of_trigger(trigger: &TriggerCheckpoint) -> Self {
        let options = trigger.options.clone().unwrap_or_default();
        Self {
            id: trigger.checkpoint_id,
            timestamp_ms: trigger.timestamp_ms,
            encoded: options.encode_to_vec().into(),
            options: Arc::new(options),
        }
    }

    /// As it came over a channel.
    pub(crate) fn read(element: &CheckpointBarrier) -> Result<Self, DecodeError> {
        Ok(Self {
            id: element.checkpoint_id,
            timestamp_ms: element.timestamp_ms,
            options: Arc::new(CheckpointOptions::decode(&element.options[..])?),
            encoded: element.options.clone(),
        })
    }

    /// As it goes on.
    pub(crate) fn element(&self) -> StreamElement {
        StreamElement::Barrier(CheckpointBarrier {
            checkpoint_id: self.id,
            timestamp_ms: self.timestamp_ms,
            options: self.encoded.clone(),
        })
    }

    pub(crate) fn kind(&self) -> SnapshotKind {
        self.options.kind()
    }
}

/// A barrier that has come in on every channel, or from the mailbox.
#[derive(Debug, Clone)]
pub(crate) struct AlignedBarrier {
    pub(crate) barrier: Barrier,
    /// From its first arrival to its last.
    pub(crate) alignment: Duration,
    /// How old it was when it came first.
    pub(crate) start_delay_ms: u64,
    /// Bytes that came in during the alignment.
    pub(crate) processed_bytes: u64,
    /// It has overtaken elements, which an [`crate::input::InputEvent::Recorded`] will bring.
    pub(crate) overtook: bool,
}

impl AlignedBarrier {
    /// One that had nothing to wait for.
    pub(crate) fn at_once(barrier: Barrier, now_ms: i64) -> Self {
        Self {
            start_delay_ms: age_ms(&barrier, now_ms),
            barrier,
            alignment: Duration::ZERO,
            processed_bytes: 0,
            overtook: false,
        }
    }
}

/// How old a barrier is; 0 if the coordinator's clock is ahead.
pub(crate) fn age_ms(barrier: &Barrier, now_ms: i64) -> u64 {
    u64::try_from(now_ms)
        .unwrap_or(0)
        .saturating_sub(barrier.timestamp_ms)
}
