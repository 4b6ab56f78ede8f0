//! Whether a store keeps what high availability counts on: of those who create a file at one time one succeeds, and none
//! replaces one that is there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join;
use thalweg_storage::StorageError;
use thalweg_types::{Classify, FailureClass};
use tokio::time::Instant;

use super::log::RecordStore;

/// Races.
const ROUNDS: usize = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

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
    /// It does not answer.
    #[error(
        "high availability needs high-availability.storageDir: the store {uri} could not be used for {patience:?}: {source}"
    )]
    Away {
        /// The folder.
        uri: String,
        /// For how long it was tried.
        patience: Duration,
        /// What it said last.
        #[source]
        source: StorageError,
    },
}

impl Classify for ProbeError {
    fn class(&self) -> FailureClass {
        match self {
            Self::NotExclusive { .. } => FailureClass::Fatal,
            Self::Storage(error) | Self::Away { source: error, .. } => error.class(),
        }
    }
}

/// [`probe`] of a store that may be away for a while: a JobManager that ends because of it would be back later than the store.
pub(super) async fn probe_within(store: &Arc<dyn RecordStore>, patience: Duration) -> Result<(), ProbeError> {
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let source = match probe(store).await {
            Err(ProbeError::Storage(error)) if error.class() == FailureClass::Retryable => error,
            probed => return probed,
        };
        let uri = store.uri();
        if begun.elapsed() + pause > patience {
            return Err(ProbeError::Away {
                uri,
                patience,
                source,
            });
        }
        tracing::warn!(%source, uri, "the high-availability folder can't be used yet, trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
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

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_away_at_the_start_is_waited_for_and_named_when_it_stays_away() {
        let memory = Memory::new();
        memory.lose_answers(4, false);
        let store: Arc<dyn RecordStore> = memory.clone();
        probe_within(&store, Duration::from_secs(30)).await.unwrap();
        memory.lose_answers(usize::MAX, false);
        let begun = Instant::now();
        let error = probe_within(&store, Duration::from_secs(30)).await.unwrap_err();
        assert!(
            (20..=30).contains(&begun.elapsed().as_secs()),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(error.class(), FailureClass::Retryable);
        let message = error.to_string();
        assert!(
            message.contains("the store memory:// could not be used for 30s"),
            "{message}"
        );
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
