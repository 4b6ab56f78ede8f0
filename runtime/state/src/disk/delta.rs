//! What changed since the last checkpoint and is not in memory any more: runs in the checkpoints' own format, on the local disk.
//!
//! They are to the next checkpoint what checkpoints are to a restore: a chain, merged row by row with the newest winning.

use std::sync::Arc;

use futures::FutureExt;

use super::folder::{LocalFile, LocalFolder};
use super::write_out::PendingDeltas;
use crate::file::builder::{FileSummary, Sink};
use crate::file::reader::StateFileReader;
use crate::file::source::Source;
use crate::run::Scope;
use crate::run::encode::encode_run;
use crate::run::merge::{Deletes, merge_into_run};
use crate::{StateError, TableSnapshot};

/// Changes of one checkpoint, oldest first.
#[derive(Debug, Clone)]
pub(crate) struct Deltas {
    pub(crate) files: Vec<Arc<LocalFile>>,
    /// Newer ones, which are still being written.
    pub(crate) pending: Option<Arc<PendingDeltas>>,
    pub(crate) folder: Arc<LocalFolder>,
}

/// Writes changes into a file of the folder.
pub(crate) fn write(
    tables: &[TableSnapshot],
    scope: &Scope,
    folder: &Arc<LocalFolder>,
) -> Result<Arc<LocalFile>, StateError> {
    let mut writer = folder.create()?;
    encode_run(tables, scope, &mut writer)?;
    Ok(Arc::new(writer.finish()?))
}

impl Deltas {
    /// What the files and then `newer`, changes that are in memory, amount to. Waits for files that are being written.
    pub(crate) fn merge_with(
        &self,
        newer: &[TableSnapshot],
        scope: &Scope,
        sink: &mut dyn Sink,
    ) -> Result<FileSummary, StateError> {
        let mut files = self.files.clone();
        if let Some(pending) = &self.pending {
            files.extend(pending.wait()?);
        }
        files.push(write(newer, scope, &self.folder)?);
        merge(&files, scope, sink)
    }

    /// All files as one.
    pub(crate) fn merged(&self, scope: &Scope) -> Result<Arc<LocalFile>, StateError> {
        let mut writer = self.folder.create()?;
        merge(&self.files, scope, &mut writer)?;
        Ok(Arc::new(writer.finish()?))
    }
}

fn merge(files: &[Arc<LocalFile>], scope: &Scope, sink: &mut dyn Sink) -> Result<FileSummary, StateError> {
    let open = |file: &Arc<LocalFile>| {
        // A local file is read without waiting for anything.
        let opened = StateFileReader::open(Source::Local(Arc::clone(file))).now_or_never();
        opened.unwrap_or_else(|| Err(file.damaged("opening it waits for something")))
    };
    let readers: Vec<StateFileReader> = files.iter().map(open).collect::<Result<_, _>>().map_err(local)?;
    merge_into_run(&readers, scope, Deletes::Keep, sink).map_err(local)
}

/// A damaged local file is the disk's fault: the job's checkpoints are as they were.
fn local(error: StateError) -> StateError {
    match error {
        StateError::Damaged { file, message } => StateError::LocalDisk {
            folder: file,
            message: format!("the file is damaged: {message}"),
        },
        error => error,
    }
}
