//! Within which limits an operator keeps its state.

/// The settings of one task's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateSettings {
    /// Bytes of memory that the state of one operator in one subtask may hold.
    pub memory_bytes: usize,
}

impl Default for StateSettings {
    /// Without a limit, for tests.
    fn default() -> Self {
        Self {
            memory_bytes: usize::MAX,
        }
    }
}
