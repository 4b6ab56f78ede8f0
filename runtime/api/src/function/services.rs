//! What the engine offers to a user function while it runs: state, timers, side outputs, time.

use std::sync::Arc;

use thalweg_operators::keyed::{keyed_state, state_error};
use thalweg_operators::{KeyedState, OperatorContext, OperatorError};
use thalweg_state::{OperatorSnapshot, RestoredState, SnapshotRequest, StateError};
use thalweg_task::Clock;

use super::operator_state::OperatorState;
use crate::keyed::KeyColumns;
use crate::side_output::{SideOutputTags, SideOutputs};

/// One operator's.
pub(crate) struct Services {
    pub(crate) context: OperatorContext,
    /// `None` where the stream has no key.
    keyed: Option<KeyedState>,
    pub(crate) operator_state: OperatorState,
    pub(crate) sides: SideOutputs,
    /// The least of the inputs'; `i64::MIN` before the first.
    pub(crate) watermark: i64,
    pub(crate) clock: Clock,
}

impl Services {
    /// For keys of these columns, if there are any.
    pub(crate) fn new(
        context: OperatorContext,
        key: Option<&KeyColumns>,
        tags: &SideOutputTags,
    ) -> Result<Self, OperatorError> {
        let keyed = match key {
            Some(columns) => Some(keyed_state(&context, columns.fields())?),
            None => None,
        };
        Ok(Self {
            keyed,
            operator_state: OperatorState::default(),
            sides: tags.open(),
            watermark: i64::MIN,
            clock: Clock::system(),
            context,
        })
    }

    /// The keyed state, if the stream has a key.
    #[inline]
    pub(crate) fn keyed_mut(&mut self) -> Option<&mut KeyedState> {
        self.keyed.as_mut()
    }

    /// The keyed state; only code of a keyed operator asks.
    #[inline]
    pub(crate) fn keyed(&mut self) -> &mut KeyedState {
        match &mut self.keyed {
            Some(keyed) => keyed,
            None => panic!("keyed state is asked for where the stream has no key"),
        }
    }

    /// The keyed state apart from what is needed to emit while something in it is borrowed.
    pub(crate) fn split(&mut self) -> (&mut KeyedState, &mut SideOutputs, &Clock) {
        match &mut self.keyed {
            Some(keyed) => (keyed, &mut self.sides, &self.clock),
            None => panic!("keyed state is asked for where the stream has no key"),
        }
    }

    /// As [`Self::keyed`], to look only.
    pub(crate) fn keyed_ref(&self) -> &KeyedState {
        match &self.keyed {
            Some(keyed) => keyed,
            None => panic!("keyed state is asked for where the stream has no key"),
        }
    }

    /// Takes the keyed state that was registered out of what is restored.
    pub(crate) fn restore(&mut self, state: &mut RestoredState) -> Result<(), OperatorError> {
        let now = self.clock.now_ms();
        let restored = match &mut self.keyed {
            Some(keyed) => keyed.restore(state, now),
            None => Ok(()),
        };
        restored.map_err(|source| self.state_error(source))
    }

    pub(crate) fn snapshot(&mut self, request: SnapshotRequest) -> Result<OperatorSnapshot, OperatorError> {
        let tables = match &mut self.keyed {
            Some(keyed) => keyed.snapshot(request),
            None => Ok(Vec::new()),
        };
        let snapshot = tables.and_then(|tables| {
            Ok(OperatorSnapshot {
                tables,
                lists: self.operator_state.snapshot()?,
            })
        });
        snapshot.map_err(|source| self.state_error(source))
    }

    /// After some rows or timers. `is_done`: no slot that was given is used any more.
    pub(crate) fn settle(&mut self, is_done: bool) -> Result<(), OperatorError> {
        let settled = match &mut self.keyed {
            Some(keyed) if is_done => keyed.end_batch(),
            Some(keyed) => keyed.check_memory(),
            None => Ok(()),
        };
        settled
            .and_then(|()| self.check_operator_state())
            .map_err(|source| self.state_error(source))
    }

    /// Bytes of state.
    pub(crate) fn state_bytes(&self) -> usize {
        let keyed = self.keyed.as_ref().map_or(0, KeyedState::memory_size);
        keyed + self.operator_state.bytes()
    }

    pub(crate) fn operator_name(&self) -> &Arc<str> {
        &self.context.operator_name
    }

    pub(crate) fn state_error(&self, source: StateError) -> OperatorError {
        state_error(&self.context, source)
    }

    /// Operator state has the limit of keyed state for itself: it is not shared out by key.
    fn check_operator_state(&self) -> Result<(), StateError> {
        let (bytes, limit) = (self.operator_state.bytes(), self.context.state.memory_bytes);
        if bytes <= limit {
            return Ok(());
        }
        Err(StateError::Memory {
            message: format!(
                "the list and broadcast state of operator {:?} is {bytes} bytes in one subtask, which may hold {limit}: \
                 raise taskmanager.memory.managed.size or keep less in it",
                self.context.operator_name
            ),
        })
    }
}
