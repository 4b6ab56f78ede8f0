//! An object store that is slow, refuses, loses answers, and lets writes land long after they were given up.
//!
//! ```text
//!   request --delay--> applied --delay--> answer
//!              |503            \--lost--> time-out, though it was applied
//!              |lost: time-out, never applied
//!              \late: time-out, applied seconds afterwards; doubled: applied once more
//! ```
//!
//! It keeps the promise of create-if-absent, and lists what is there. Invariant checked: nothing is deleted that the newest
//! logged checkpoint of a job refers to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use thalweg_proto::state::v1::SnapshotMetadata;

use crate::shared::{Event, Input, Process, Shared, Variant};
use crate::steps::Step;
use crate::world::CHECKPOINTS;

/// After which a client gives a request up.
const TIMEOUT_MS: u64 = 1_500;
/// How long a write may take to land that its client gave up.
const LATEST_MS: u64 = 8_000;

/// What an object holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Metadata(Arc<SnapshotMetadata>),
    /// Of an operator's state, by source: the row that it expects next.
    Run(BTreeMap<u32, u32>),
    /// Of the high-availability folder.
    Record(Bytes),
    /// The folder of the savepoint that was to stop a job.
    Pointer(String),
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Put(String, Content),
    PutNew(String, Content),
    Get(String),
    /// With contents.
    List(String),
    Delete(Vec<String>),
    DeleteFolder(String),
    Sweep {
        folder: String,
        keep: Vec<String>,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Done,
    Content(Content),
    List(Vec<(String, Content)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreError {
    /// 503: nothing happened.
    Unavailable,
    /// Nobody knows what happened.
    TimedOut,
    Exists,
    Missing,
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Operation {
    by: Process,
    incarnation: u64,
    ticket: u64,
    request: Request,
    answered: bool,
    late: bool,
}

/// What is there.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) objects: BTreeMap<String, Content>,
    /// When the last late write will have landed.
    pub(crate) quiet_from_ms: u64,
    /// What landed late below the folder of a job that was over, or is a former leader's: nobody can know of it.
    pub(crate) stray: BTreeSet<String>,
}

impl Store {
    pub(crate) fn below(&self, folder: &str) -> Vec<String> {
        let prefix = format!("{}/", folder.trim_end_matches('/'));
        let from = self.objects.range(prefix.clone()..);
        from.take_while(|(path, _)| path.starts_with(&prefix))
            .map(|(path, _)| path.clone())
            .collect()
    }
}

impl Shared {
    /// Asks the store; the answer comes as [`Input::Stored`] with the ticket.
    pub(crate) fn store(&mut self, by: Process, ticket: u64, request: Request) {
        let incarnation = self.host(by).incarnation;
        // A client lists, then deletes what it saw: only that can be deleted late.
        let request = match request {
            Request::DeleteFolder(folder) => Request::Delete(self.store.below(&folder)),
            Request::Sweep { folder, keep } => {
                let mut paths = self.store.below(&folder);
                paths.retain(|path| !keep.contains(path));
                Request::Delete(paths)
            }
            request => request,
        };
        let mut operation = Operation {
            by,
            incarnation,
            ticket,
            request,
            answered: true,
            late: false,
        };
        let mut delay = self.random.between(2, 30);
        if self.faulty && self.random.per_mille(self.store_fault_per_mille) {
            self.step(Step::StoreFailed, format_args!("{by} {}", operation.request));
            let failed = |error| Input::Stored(ticket, Err(error));
            match self.random.below(5) {
                0 => return self.after(delay, by, failed(StoreError::Unavailable)),
                1 => return self.after(TIMEOUT_MS, by, failed(StoreError::TimedOut)),
                2 => {
                    self.after(TIMEOUT_MS, by, failed(StoreError::TimedOut));
                    operation.answered = false;
                }
                3 => {
                    self.after(TIMEOUT_MS, by, failed(StoreError::TimedOut));
                    operation.answered = false;
                    operation.late = true;
                    delay = TIMEOUT_MS + self.random.between(1, LATEST_MS);
                }
                _ => {
                    let again = Operation {
                        request: operation.request.clone(),
                        answered: false,
                        late: true,
                        ..operation
                    };
                    let when_ms = self.now_ms + self.random.between(delay, LATEST_MS);
                    self.store.quiet_from_ms = self.store.quiet_from_ms.max(when_ms);
                    self.at(when_ms, Event::Apply(again));
                }
            }
        } else if self.faulty && self.random.per_mille(30) {
            delay += self.random.between(100, 1_200);
        }
        let when_ms = self.now_ms + delay;
        self.store.quiet_from_ms = self.store.quiet_from_ms.max(when_ms);
        self.at(when_ms, Event::Apply(operation));
    }

    /// The request is at the store.
    pub(crate) fn apply(&mut self, operation: Operation) {
        let Operation {
            by,
            incarnation,
            ticket,
            request,
            answered,
            late,
        } = operation;
        if late {
            self.step(Step::LandedLate, format_args!("store {request}"));
        }
        // A leader that knows of the end writes no metadata.
        if let Request::Put(path, _) = &request
            && (late || matches!(by, Process::JobManager(_)))
            && job_of(path).is_some_and(|job| self.truth.is_over(job))
        {
            self.store.stray.insert(path.clone());
        }
        let answer = self.applied(by, request);
        if answered {
            let delay = self.random.between(1, 20);
            let when_ms = self.now_ms + delay;
            self.at(
                when_ms,
                Event::Input(by, incarnation, Input::Stored(ticket, answer)),
            );
        }
    }

    fn applied(&mut self, by: Process, request: Request) -> Result<Answer, StoreError> {
        match request {
            Request::Put(path, content) => {
                self.store.objects.insert(path, content);
            }
            Request::PutNew(path, content) => {
                let overwrites = self.variant == Variant::StoreOverwrites;
                if self.store.objects.contains_key(&path) && !overwrites {
                    return Err(StoreError::Exists);
                }
                if let Some(step) = self.truth.written(&path, &content, &self.store.objects) {
                    self.step(step, &path);
                }
                self.store.objects.insert(path, content);
            }
            Request::Get(path) => {
                let content = self.store.objects.get(&path);
                return content.cloned().map(Answer::Content).ok_or(StoreError::Missing);
            }
            Request::List(folder) => {
                let paths = self.store.below(&folder).into_iter();
                let found = paths.filter_map(|path| {
                    let content = self.store.objects.get(&path)?.clone();
                    Some((path, content))
                });
                return Ok(Answer::List(found.collect()));
            }
            Request::Delete(paths) => self.delete(by, paths),
            Request::DeleteFolder(_) | Request::Sweep { .. } => {}
        }
        Ok(Answer::Done)
    }

    fn delete(&mut self, by: Process, paths: Vec<String>) {
        for path in paths {
            if self.store.objects.remove(&path).is_none() {
                continue;
            }
            self.step(Step::Deleted, format_args!("{by} {}", shown(&path)));
            if let Some(checkpoint) = self.truth.needed_by(&path) {
                self.violated(format_args!(
                    "{by} deleted {path}, which logged checkpoint {checkpoint} refers to"
                ));
            }
        }
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Put(path, _) => write!(f, "put {}", shown(path)),
            Self::PutNew(path, _) => write!(f, "create {path}"),
            Self::Get(path) => write!(f, "get {}", shown(path)),
            Self::List(folder) => write!(f, "list {folder}"),
            Self::Delete(paths) => {
                let paths: Vec<String> = paths.iter().map(|path| shown(path)).collect();
                write!(f, "delete {}", paths.join(" "))
            }
            Self::DeleteFolder(folder) => write!(f, "delete folder {}", shown(folder)),
            Self::Sweep { folder, .. } => write!(f, "sweep {folder}"),
        }
    }
}

/// Whose checkpoints a path is among.
fn job_of(path: &str) -> Option<&str> {
    path.strip_prefix(CHECKPOINTS)?.split('/').nth(1)
}

/// A path without what no seed decides: the name of a savepoint's folder.
pub(crate) fn shown(path: &str) -> String {
    match path.split_once("/savepoint-") {
        Some((before, behind)) => {
            let file = behind.split_once('/').map_or("", |(_, file)| file);
            format!("{before}/savepoint/{file}")
        }
        None => path.to_owned(),
    }
}
