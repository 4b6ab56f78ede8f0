//! How far files are read: what goes along with each batch, and what a checkpoint stores.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::split_state::{decode, encode};
use crate::{ConnectorError, RestoredConnector};

/// The begin of a line or row that is not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// Its byte in the file; of a row, how many are before it.
    pub(crate) offset: u64,
    /// Its number, from 1; 0 where there are no lines but rows.
    pub(crate) line: u64,
}

impl Position {
    pub(crate) const START: Self = Self { offset: 0, line: 1 };

    /// Behind so many rows.
    pub(crate) fn of_row(rows: u64) -> Self {
        Self {
            offset: rows,
            line: 0,
        }
    }
}

/// What has happened up to the end of a batch, since the batch before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Files that were read to their end.
    pub(crate) finished: Vec<PathBuf>,
    /// Where the first row comes from.
    pub(crate) first: Option<(PathBuf, Position)>,
    /// The file that the next row comes from, if it was begun.
    pub(crate) current: Option<(PathBuf, Position)>,
    /// Files that were finished and are not there any more.
    pub(crate) vanished: Vec<PathBuf>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReaderState {
    #[prost(bytes = "vec", repeated, tag = "1")]
    finished: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "2")]
    begun: Vec<FileState>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct FileState {
    #[prost(bytes = "vec", tag = "1")]
    path: Vec<u8>,
    #[prost(uint64, tag = "2")]
    offset: u64,
    #[prost(uint64, tag = "3")]
    line: u64,
}

/// How far one reader is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FilePositions {
    finished: BTreeSet<PathBuf>,
    begun: BTreeMap<PathBuf, Position>,
    /// What the last batch holds.
    batch: Option<BatchRange>,
}

/// Where the rows of a batch come from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct BatchRange {
    first: (PathBuf, Position),
    /// Before this; `None` = to the end of `last_file`.
    before: Option<Position>,
    last_file: PathBuf,
}

impl fmt::Display for BatchRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, from) = &self.first;
        write!(f, "file {} from ", file.display())?;
        match from.line {
            0 => write!(f, "row {}", from.offset + 1)?,
            line => write!(f, "line {line} (byte {})", from.offset)?,
        }
        if *file != self.last_file {
            write!(f, " to file {}", self.last_file.display())?;
        }
        match self.before {
            Some(before) if before.line == 0 => write!(f, " to row {}", before.offset),
            Some(before) => write!(f, " to line {} (before byte {})", before.line - 1, before.offset),
            None => f.write_str(" to its end"),
        }
    }
}

impl Progress {
    fn describe(&self) -> Option<BatchRange> {
        let first = self.first.clone()?;
        Some(match (&self.current, self.finished.last()) {
            (Some((path, before)), _) => BatchRange {
                first,
                before: Some(*before),
                last_file: path.clone(),
            },
            (None, Some(finished)) => BatchRange {
                first,
                before: None,
                last_file: finished.clone(),
            },
            (None, None) => return None,
        })
    }
}

impl FilePositions {
    /// Those of all readers that are this one's now.
    pub(crate) fn restore(
        restored: &RestoredConnector,
        mine: impl Fn(&Path) -> bool,
    ) -> Result<Self, ConnectorError> {
        let mut positions = Self::default();
        for state in decode::<ReaderState>("file source", &restored.states)? {
            let finished = state.finished.into_iter().map(path_of);
            positions.finished.extend(finished.filter(|path| mine(path)));
            for file in state.begun {
                let path = path_of(file.path);
                if mine(&path) {
                    let (offset, line) = (file.offset, file.line);
                    positions.begun.insert(path, Position { offset, line });
                }
            }
        }
        Ok(positions)
    }

    /// A batch was taken.
    pub(crate) fn advance(&mut self, progress: Progress) {
        self.batch = progress.describe();
        for path in progress.finished {
            self.begun.remove(&path);
            self.finished.insert(path);
        }
        self.begun.extend(progress.current);
        for path in &progress.vanished {
            self.finished.remove(path);
        }
    }

    /// What the reading job starts with.
    pub(crate) fn start(&self) -> (HashSet<PathBuf>, HashMap<PathBuf, Position>) {
        let begun = self
            .begun
            .iter()
            .map(|(path, position)| (path.clone(), *position));
        (self.finished.iter().cloned().collect(), begun.collect())
    }

    /// Where the rows of the last batch came from, in words.
    pub(crate) fn position(&self) -> Option<String> {
        self.batch.as_ref().map(ToString::to_string)
    }

    /// For a checkpoint.
    pub(crate) fn state(&self) -> Vec<Vec<u8>> {
        let bytes = |path: &PathBuf| path.as_os_str().as_bytes().to_vec();
        let begun = |(path, position): (&PathBuf, &Position)| FileState {
            path: bytes(path),
            offset: position.offset,
            line: position.line,
        };
        vec![encode(&ReaderState {
            finished: self.finished.iter().map(bytes).collect(),
            begun: self.begun.iter().map(begun).collect(),
        })]
    }
}

fn path_of(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}
