//! How state that is too large is told of.

use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::KeyedState;
use crate::key_index::Slot;
use crate::snapshot::StateError;
use crate::table::Table;

impl KeyedState {
    /// Says which key it is if one alone is too much.
    pub(super) fn memory_error(&self, bytes: usize) -> StateError {
        let limit = self.config.settings.memory_bytes;
        let operator = &self.config.operator;
        let largest = self.largest_key();
        let message = match largest {
            Some((size, slot)) if size > limit => format!(
                "the state of operator {operator:?} is {} for the key {} alone, more than the {} that the subtask may hold: \
                 a larger parallelism doesn't help, raise taskmanager.memory.managed.size or choose a key that spreads the rows",
                megabytes(size),
                self.key_text(slot),
                megabytes(limit),
            ),
            _ if self.disk.is_some() => format!(
                "the state of operator {operator:?} that has to be in memory (the keys of one batch, timers, the index of what is on disk) \
                 is {} for {} keys and {} timers ({}) in one subtask, which may hold {}: raise taskmanager.memory.managed.size or the \
                 parallelism",
                megabytes(bytes),
                self.key_count(),
                self.timers.len(),
                megabytes(self.timers.memory_size()),
                megabytes(limit),
            ),
            _ => format!(
                "the state of operator {operator:?} is {} for {} keys in one subtask, which may hold {}: raise \
                 taskmanager.memory.managed.size or the parallelism, or let state expire (time-to-live)",
                megabytes(bytes),
                self.key_count(),
                megabytes(limit),
            ),
        };
        StateError::Memory { message }
    }

    /// Its bytes and its slot.
    pub(super) fn largest_key(&self) -> Option<(usize, Slot)> {
        let mut bytes = vec![0; self.index.slot_count()];
        self.tables
            .iter()
            .for_each(|table| table.add_slot_bytes(&mut bytes));
        self.timers.add_slot_bytes(&mut bytes);
        let slots = (0..).zip(bytes).filter(|(slot, _)| self.index.is_live(*slot));
        slots
            .map(|(slot, bytes)| (bytes + self.index.key_bytes(slot), slot))
            .max()
    }

    fn key_text(&self, slot: Slot) -> String {
        let options = FormatOptions::default().with_null("NULL");
        let texts = || -> Result<Vec<String>, ArrowError> {
            let columns = self
                .index
                .keys(&[slot])
                .map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
            columns
                .iter()
                .zip(&self.config.key)
                .map(|(column, field)| {
                    let text = ArrayFormatter::try_new(column.as_ref(), &options)?
                        .value(0)
                        .try_to_string()?;
                    Ok(format!("{}={text}", field.name()))
                })
                .collect()
        };
        texts().map_or_else(
            |_| "(not printable)".to_owned(),
            |texts| format!("({})", texts.join(", ")),
        )
    }
}

fn megabytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
