//! A store in memory that fails as it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use thalweg_storage::StorageError;

use super::log::RecordStore;

#[derive(Default)]
struct State {
    files: BTreeMap<String, Bytes>,
    /// Writes whose answer is lost, and whether the client tries again by itself.
    lost_answers: usize,
    tries_again: bool,
    /// Writes that fail.
    full: usize,
}

/// See the module.
pub(crate) struct Memory {
    overwrites: bool,
    state: Mutex<State>,
}

impl Memory {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            overwrites: false,
            state: Mutex::default(),
        })
    }

    /// One that ignores create-if-absent.
    pub(crate) fn overwriting() -> Arc<Self> {
        Arc::new(Self {
            overwrites: true,
            state: Mutex::default(),
        })
    }

    /// So many writes happen but are not answered; a client that tries again hears that the file is there.
    pub(crate) fn lose_answers(&self, number: usize, tries_again: bool) {
        let mut state = self.state.lock().unwrap();
        state.lost_answers = number;
        state.tries_again = tries_again;
    }

    pub(crate) fn be_full(&self, writes: usize) {
        self.state.lock().unwrap().full = writes;
    }

    pub(crate) fn files(&self) -> Vec<String> {
        self.state.lock().unwrap().files.keys().cloned().collect()
    }

    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        let content = Bytes::copy_from_slice(content);
        self.state.lock().unwrap().files.insert(path.to_owned(), content);
    }

    pub(crate) fn remove(&self, path: &str) {
        self.state.lock().unwrap().files.remove(path).unwrap();
    }
}

#[tonic::async_trait]
impl RecordStore for Memory {
    fn uri(&self) -> String {
        "memory://".to_owned()
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        let beginning = format!("{folder}/");
        let files = self.files();
        let below = files.iter().filter_map(|path| path.strip_prefix(&beginning));
        Ok(below.map(str::to_owned).collect())
    }

    async fn read(&self, path: &str) -> Result<Bytes, StorageError> {
        let uri = path.to_owned();
        let state = self.state.lock().unwrap();
        state
            .files
            .get(path)
            .cloned()
            .ok_or(StorageError::NotFound { uri })
    }

    async fn write_new(&self, path: &str, content: Bytes) -> Result<(), StorageError> {
        tokio::task::yield_now().await;
        let uri = path.to_owned();
        let mut state = self.state.lock().unwrap();
        if state.full > 0 {
            state.full -= 1;
            let message = "no space left on device".to_owned();
            return Err(StorageError::Full {
                step: "write",
                uri,
                message,
            });
        }
        if state.files.contains_key(path) && !self.overwrites {
            return Err(StorageError::AlreadyExists { uri });
        }
        state.files.insert(path.to_owned(), content);
        if state.lost_answers > 0 {
            state.lost_answers -= 1;
            let message = "the answer was lost".to_owned();
            return Err(match state.tries_again {
                true => StorageError::AlreadyExists { uri },
                false => StorageError::Unavailable {
                    step: "write",
                    uri,
                    message,
                },
            });
        }
        Ok(())
    }

    async fn delete(&self, paths: &[String]) -> Result<(), StorageError> {
        let mut state = self.state.lock().unwrap();
        for path in paths {
            state.files.remove(path);
        }
        Ok(())
    }
}
