//! Within which limits an operator keeps its state.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::folder::LocalFolder;
use crate::snapshot::StateError;

/// The settings of one task's state.
#[derive(Debug, Clone)]
pub struct StateSettings {
    /// Bytes of memory that the state of one operator in one subtask may hold.
    pub memory_bytes: usize,
    /// Where rows are that memory has no room for; without it, state over its memory is an error.
    pub disk: Option<DiskSettings>,
    /// Without `disk`: where a full snapshot is put of which memory has no room for a copy.
    pub scratch: Option<Scratch>,
    /// Whether restored tables and their columns must be those that the operator has: else columns may be added, widened and left out.
    pub exact_columns: bool,
}

/// Settings of state that may be larger than memory.
#[derive(Debug, Clone)]
pub struct DiskSettings {
    /// The process's folder for it.
    pub folder: Arc<LocalFolder>,
    /// Rows are written there when memory in use passes this.
    pub resident_bytes: usize,
    /// Memory in use from which on a batch waits until rows are there.
    pub wait_bytes: usize,
}

/// A process's folder for local state that is made when it is needed first. Clones share it.
#[derive(Debug, Clone)]
pub struct Scratch {
    base: PathBuf,
    made: Arc<Mutex<Option<Arc<LocalFolder>>>>,
}

impl Scratch {
    /// In this folder.
    pub fn new(base: PathBuf) -> Self {
        Self {
            base,
            made: Arc::default(),
        }
    }

    /// The folder.
    ///
    /// # Errors
    /// It can't be made.
    pub fn folder(&self) -> Result<Arc<LocalFolder>, StateError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some(folder) => Ok(Arc::clone(folder)),
            None => Ok(Arc::clone(made.insert(LocalFolder::of_process(&self.base)?))),
        }
    }
}

impl DiskSettings {
    /// For state with so much memory: a quarter is left for the rows that batches bring while others are written, and for vectors that
    /// grow.
    pub fn new(folder: Arc<LocalFolder>, memory_bytes: usize) -> Self {
        Self {
            folder,
            resident_bytes: memory_bytes / 4 * 3,
            wait_bytes: memory_bytes / 8 * 7,
        }
    }
}

impl StateSettings {
    /// In memory only, at most so many bytes.
    pub fn in_memory(memory_bytes: usize) -> Self {
        Self {
            exact_columns: false,
            memory_bytes,
            disk: None,
            scratch: None,
        }
    }
}

impl Default for StateSettings {
    /// Without a limit, for tests.
    fn default() -> Self {
        Self::in_memory(usize::MAX)
    }
}
