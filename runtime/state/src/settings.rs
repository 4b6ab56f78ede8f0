//! Within which limits an operator keeps its state.

use std::sync::Arc;

use crate::disk::folder::LocalFolder;

/// The settings of one task's state.
#[derive(Debug, Clone)]
pub struct StateSettings {
    /// Bytes of memory that the state of one operator in one subtask may hold.
    pub memory_bytes: usize,
    /// Where rows are that memory has no room for; without it, state over its memory is an error.
    pub disk: Option<DiskSettings>,
}

/// Settings of state that may be larger than memory.
#[derive(Debug, Clone)]
pub struct DiskSettings {
    /// The process's folder for it.
    pub folder: Arc<LocalFolder>,
    /// Rows are written there when memory in use passes this.
    pub resident_bytes: usize,
}

impl DiskSettings {
    /// For state with so much memory: a quarter is left for the rows that a batch brings and for vectors that grow.
    pub fn new(folder: Arc<LocalFolder>, memory_bytes: usize) -> Self {
        Self {
            folder,
            resident_bytes: memory_bytes / 4 * 3,
        }
    }
}

impl StateSettings {
    /// In memory only, at most so many bytes.
    pub fn in_memory(memory_bytes: usize) -> Self {
        Self {
            memory_bytes,
            disk: None,
        }
    }
}

impl Default for StateSettings {
    /// Without a limit, for tests.
    fn default() -> Self {
        Self::in_memory(usize::MAX)
    }
}
