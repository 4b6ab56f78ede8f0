//! Whether a store keeps what high availability counts on: of those who create a file at one time one succeeds, and none
//! replaces one that is there.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join;
use thalweg_storage::StorageError;
use thalweg_types::{Classify, FailureClass};

use super::log::RecordStore;

/// Races.
const ROUNDS: usize = 5;

/// Why a store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It does not do what is asked of it.
    #[error(
        "high availability is refused: the store {uri} does not honour create-if-absent: {what}. Use a store with conditional \
         writes (If-None-Match: *), or one file system that all JobManagers mount"
    )]
    NotExclusive {
        /// The folder.
        uri: String,
        /// What it did.
        what: &'static str,
    },
    /// It can't be written or read.
    #[error("high availability needs high-availability.storageDir: {0}")]
    Storage(#[from] StorageError),
}

impl Classify for ProbeError {
    fn class(&self) -> FailureClass {
        match self {
            Self::NotExclusive { .. } => FailureClass::Fatal,
            Self::Storage(error) => error.class(),
        }
    }
}

/// Races two writers, several times.
pub(super) async fn probe(store: &Arc<dyn RecordStore>) -> Result<(), ProbeError> {
    for _ in 0..ROUNDS {
        let path = format!("probe/{:016x}", rand::random::<u64>());
        let raced = race(store, &path).await;
        // What can't be deleted harms nobody.
        store.delete(&[path]).await.ok();
        raced?;
    }
    Ok(())
}

async fn race(store: &Arc<dyn RecordStore>, path: &str) -> Result<(), ProbeError> {
    let refused = |what| {
        let uri = store.uri();
        Err(ProbeError::NotExclusive { uri, what })
    };
    let contents = [Bytes::from_static(b"one"), Bytes::from_static(b"other")];
    let (one, other) = join(
        store.write_new(path, contents[0].clone()),
        store.write_new(path, contents[1].clone()),
    )
    .await;
    let won = |result: Result<(), StorageError>| match result {
        Ok(()) => Ok(true),
        Err(StorageError::AlreadyExists { .. }) => Ok(false),
        Err(error) => Err(error),
    };
    let winner = match (won(one)?, won(other)?) {
        (true, true) => return refused("two writers created one file at the same time"),
        // Both were told that it is there: an answer was lost and the request sent again.
        (false, false) => None,
        (true, false) => Some(&contents[0]),
        (false, true) => Some(&contents[1]),
    };
    let before = store.read(path).await?;
    if winner.is_some_and(|winner| *winner != before) {
        return refused("the file holds what the writer wrote that was told it had lost");
    }
    if won(store.write_new(path, Bytes::from_static(b"late")).await)? || store.read(path).await? != before {
        return refused("a file that was there was replaced");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Memory;
    use super::*;

    #[tokio::test]
    async fn a_store_with_conditional_writes_is_accepted_and_left_clean() {
        let memory = Memory::new();
        let store: Arc<dyn RecordStore> = memory.clone();
        probe(&store).await.unwrap();
        assert_eq!(memory.files(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_store_that_overwrites_is_refused_by_name() {
        let store: Arc<dyn RecordStore> = Memory::overwriting();
        let refusal = probe(&store).await.unwrap_err();
        assert_eq!(refusal.class(), FailureClass::Fatal);
        assert!(
            refusal
                .to_string()
                .contains("memory:// does not honour create-if-absent"),
            "{refusal}"
        );
    }

    #[tokio::test]
    async fn a_lost_answer_is_no_reason_to_refuse_a_store() {
        let memory = Memory::new();
        memory.lose_answers(3, true);
        let store: Arc<dyn RecordStore> = memory;
        probe(&store).await.unwrap();
    }

    #[tokio::test]
    async fn a_local_folder_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let uri = format!("file://{}", folder.path().display());
        let opened =
            thalweg_storage::FileSystem::open(&uri, &thalweg_types::config::Configuration::default());
        let store: Arc<dyn RecordStore> = Arc::new(opened.unwrap());
        probe(&store).await.unwrap();
    }
}
