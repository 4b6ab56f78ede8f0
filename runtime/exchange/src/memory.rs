//! The process's network memory, given to channels as the window of bytes that may be under way.

use std::sync::{Arc, Mutex};

use crate::error::ExchangeError;
use crate::ready::lock;

/// The least window a channel works with: two small batches.
pub(crate) const MIN_CHANNEL_BYTES: usize = 32 << 10;

/// Of what is free; a script with dozens of shuffles has as many gates.
const SHARE: usize = 16;

/// All network memory of a process.
#[derive(Debug)]
pub(crate) struct NetworkMemory {
    total: usize,
    reserved: Mutex<usize>,
}

impl NetworkMemory {
    pub(crate) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            reserved: Mutex::new(0),
        })
    }

    /// Windows for `channels` channels, each of at most `wanted` bytes. One gate gets a [`SHARE`]th of what is free at most, so
    /// that those which come later find some; under [`MIN_CHANNEL_BYTES`] a channel it is refused.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        channels: usize,
        wanted: usize,
    ) -> Result<MemoryLease, ExchangeError> {
        let mut reserved = lock(&self.reserved);
        let available = self.total - *reserved;
        let window = (available / SHARE / channels.max(1))
            .min(wanted)
            .max(MIN_CHANNEL_BYTES);
        let required = window * channels;
        if required > available {
            return Err(ExchangeError::Memory {
                channels,
                required,
                available,
                total: self.total,
            });
        }
        *reserved += required;
        Ok(MemoryLease {
            memory: self.clone(),
            bytes: required,
            window,
        })
    }
}

/// The memory of one gate; given back on drop.
#[derive(Debug)]
pub(crate) struct MemoryLease {
    memory: Arc<NetworkMemory>,
    bytes: usize,
    /// Bytes a channel.
    pub(crate) window: usize,
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        *lock(&self.memory.reserved) -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_gates_get_smaller_windows_and_drops_give_back() {
        let memory = NetworkMemory::new(64 << 20);
        let first = memory.reserve(2, 4 << 20).unwrap();
        assert_eq!(first.window, 2 << 20);
        let second = memory.reserve(2, 4 << 20).unwrap();
        assert_eq!(second.window, 15 << 17);
        drop(first);
        assert_eq!(memory.reserve(1, 200 << 10).unwrap().window, 200 << 10);
    }

    #[test]
    fn eighty_gates_find_room_where_they_want_twice_as_much_as_there_is() {
        let memory = NetworkMemory::new(64 << 20);
        let leases: Vec<_> = (0..80).map(|_| memory.reserve(2, 1 << 20).unwrap()).collect();
        assert_eq!(leases[0].window, 1 << 20);
        assert!(leases.iter().all(|lease| lease.window >= MIN_CHANNEL_BYTES));
    }

    #[test]
    fn too_many_channels_are_refused_with_the_numbers() {
        let memory = NetworkMemory::new(1 << 20);
        let error = memory.reserve(33, 1 << 20).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("33 channels need 1081344 bytes, 1048576 of 1048576 are free"),
            "{error}"
        );
    }
}
