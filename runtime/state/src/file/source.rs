//! Where a file's bytes come from.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use thalweg_proto::state::v1::StateFile;
use thalweg_storage::{FileSystem, FileSystems, StorageError};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::StateError;
use crate::disk::folder::LocalFile;

/// A file that can be read in ranges.
#[derive(Clone)]
pub(crate) enum Source {
    Memory {
        name: String,
        content: Bytes,
    },
    Stored {
        name: String,
        folder: FileSystem,
        path: String,
        /// Where it begins: a file may hold several.
        offset: u64,
        size: u64,
        runtime: Handle,
    },
    /// One of this process's own, which is read without waiting.
    Local(Arc<LocalFile>),
}

/// Ranges of one file, in order, read ahead by one.
pub(crate) enum Ranges {
    Memory {
        content: Bytes,
        rest: std::vec::IntoIter<Range<u64>>,
    },
    Stored(mpsc::Receiver<Result<Bytes, StateError>>),
    Local {
        file: Arc<LocalFile>,
        rest: std::vec::IntoIter<Range<u64>>,
    },
}

impl Source {
    /// A file by its absolute path, or inline; to be called on the runtime. `owner` names inline files in errors.
    pub(crate) fn of(files: &FileSystems, file: &StateFile, owner: &str) -> Result<Self, StateError> {
        if file.path.is_empty() {
            return Ok(Self::Memory {
                name: format!("in _metadata ({owner})"),
                content: Bytes::from(file.inline.clone()),
            });
        }
        let opened = files.open_uri(&file.path);
        let (folder, path) = opened.map_err(|error| storage_error(&file.path, &error))?;
        let name = match file.physical_size {
            0 => file.path.clone(),
            _ => format!("{} (from byte {})", file.path, file.offset),
        };
        Ok(Self::Stored {
            name,
            folder,
            path,
            offset: file.offset,
            size: file.size,
            runtime: Handle::current(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Memory { name, .. } | Self::Stored { name, .. } => name,
            Self::Local(file) => file.name(),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Memory { content, .. } => content.len() as u64,
            Self::Stored { size, .. } => *size,
            Self::Local(file) => file.bytes(),
        }
    }

    /// Fewer bytes than asked for if the file ends before.
    pub(crate) async fn read(&self, range: Range<u64>) -> Result<Bytes, StateError> {
        match self {
            Self::Memory { content, .. } => Ok(slice(content, &range)),
            Self::Stored {
                name,
                folder,
                path,
                offset,
                ..
            } => folder
                .read_range(path, offset + range.start..offset + range.end)
                .await
                .map_err(|error| storage_error(name, &error)),
            Self::Local(file) => read_local(file, &range),
        }
    }

    /// Begins to read ranges, for a thread that is not the runtime's.
    pub(crate) fn read_all(&self, ranges: Vec<Range<u64>>) -> Ranges {
        match self {
            Self::Memory { content, .. } => Ranges::Memory {
                content: content.clone(),
                rest: ranges.into_iter(),
            },
            Self::Local(file) => Ranges::Local {
                file: Arc::clone(file),
                rest: ranges.into_iter(),
            },
            Self::Stored { runtime, .. } => {
                let (sender, receiver) = mpsc::channel(1);
                let source = self.clone();
                runtime.spawn(async move {
                    for range in ranges {
                        let result = source.read(range).await;
                        let failed = result.is_err();
                        if sender.send(result).await.is_err() || failed {
                            return;
                        }
                    }
                });
                Ranges::Stored(receiver)
            }
        }
    }
}

impl Ranges {
    /// The next range's bytes. Blocks.
    pub(crate) fn next(&mut self) -> Option<Result<Bytes, StateError>> {
        match self {
            Self::Memory { content, rest } => rest.next().map(|range| Ok(slice(content, &range))),
            Self::Stored(receiver) => receiver.blocking_recv(),
            Self::Local { file, rest } => rest.next().map(|range| read_local(file, &range)),
        }
    }
}

fn read_local(file: &LocalFile, range: &Range<u64>) -> Result<Bytes, StateError> {
    let length = range.end.min(file.bytes()).saturating_sub(range.start);
    file.read(range.start, length as usize)
}

fn slice(content: &Bytes, range: &Range<u64>) -> Bytes {
    let bound = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(content.len());
    let (start, end) = (bound(range.start), bound(range.end));
    content.slice(start.min(end)..end)
}

/// The storage's error about one state file.
pub(crate) fn storage_error(file: &str, error: &StorageError) -> StateError {
    StateError::Storage {
        file: file.to_owned(),
        message: error.reason(),
        retryable: error.is_retryable(),
    }
}
