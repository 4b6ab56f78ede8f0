//! The end of a cluster that does not come back: its last leader deletes what JobManagers left for each other.
//!
//! ```text
//!   retire: leader/<n+1> = Retired --> jobs/*, packages/*, older leaders deleted      a standby that sees Retired ends, and never leads
//!   the process is asked to end: leader/<n+1> deleted, nothing is left
//! ```
//!
//! A JobManager that found an empty folder would start its application anew: so the record that forbids it stays as long as this
//! process, which is among the last pods of the cluster to go. Invariant: nothing is deleted before that record is there.

use std::sync::atomic::Ordering;

use thalweg_proto::ha::v1::record::Content;
use thalweg_proto::ha::v1::{Record, Retired};
use thalweg_storage::StorageError;
use thalweg_types::{Classify, FailureClass};

use super::HighAvailability;
use super::log::{LogError, RecordLog, Writer};

/// Why the folder is still there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RetirementError {
    /// There would be nobody to go on with them.
    #[error("{0} of the jobs have not ended: cancel them first")]
    JobsRun(usize),
    /// Another JobManager leads, or storage does not answer.
    #[error("nobody can be kept from leading this cluster: {0}")]
    Record(#[source] LogError),
    /// What is left is deleted when it is asked for again.
    #[error("what JobManagers left for each other can't be deleted: {0}")]
    Delete(#[source] StorageError),
}

impl Classify for RetirementError {
    fn class(&self) -> FailureClass {
        match self {
            Self::JobsRun(_) => FailureClass::Fatal,
            Self::Record(error) => error.class(),
            Self::Delete(error) => error.class(),
        }
    }
}

/// Whether nobody leads behind this record.
pub(super) fn is_retired(record: &Record) -> bool {
    matches!(record.content, Some(Content::Retired(_)))
}

impl HighAvailability {
    /// See the module; idempotent. Its jobs have ended, and no other comes.
    pub(crate) async fn retire(&self) -> Result<(), RetirementError> {
        let epoch = self.writer().epoch + 1;
        let leaders = RecordLog::of_leaders(self.store.clone());
        let writer = Writer {
            epoch,
            ..self.writer()
        };
        let retired = Content::Retired(Retired {});
        let now_ms = self.clock.now_ms();
        let appended = leaders.append(&writer, epoch, epoch, retired, now_ms).await;
        appended.map_err(RetirementError::Record)?;
        self.retired.store(true, Ordering::Relaxed);
        self.logs.leave_all();
        for folder in ["jobs", "packages"] {
            let deleted = self.folder.delete_folder(folder).await;
            deleted.map_err(RetirementError::Delete)?;
        }
        leaders
            .delete_before(epoch)
            .await
            .map_err(RetirementError::Record)
    }

    /// Whether this JobManager has retired its cluster.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// The last that is left, when this process ends.
    pub(crate) async fn leave_nothing(&self) {
        if self.is_retired()
            && let Err(error) = self.folder.delete_folder("leader").await
        {
            tracing::warn!(%error, folder = self.folder.uri(), "the record that this cluster was deleted stays");
        }
    }
}
