//! One operator's runs in one subtask: finding keys, adding runs, merging them.

use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hashbrown::DefaultHashBuilder;

use super::background::Background;
use super::codec::{KeyCodec, Keys, TableCodec};
use super::compact::{CompactionInput, compact, first_to_merge};
use super::delta::Deltas;
use super::folder::{LocalFile, LocalFolder};
use super::page::{Page, rows_of};
use super::pool::read_pages;
use super::run::{LocalRun, RunWriter};
use super::snapshot_run::SnapshotRun;
use super::view::StoreView;
use super::write_out::{PendingDeltas, WriteOut, WriteOutInput};
use crate::StateError;
use crate::run::Scope;

/// Runs of like size that become one, and with how many new ones wait for that.
const MERGED_RUNS: usize = 8;
const MOST_RUNS: usize = 32;
/// The same for files of changes, which are read together once.
const MERGED_DELTAS: usize = 16;
const MOST_DELTAS: usize = 48;
/// Their blocks: a merge holds one of each.
const DELTA_BLOCK_BYTES: usize = 128 << 10;

/// See the module.
pub(crate) struct DiskStore {
    folder: Arc<LocalFolder>,
    hasher: DefaultHashBuilder,
    scope: Scope,
    pub(crate) keys: Arc<KeyCodec>,
    /// In the order of the tables' registration.
    pub(crate) tables: Arc<Vec<TableCodec>>,
    /// Oldest first.
    runs: Vec<Arc<LocalRun>>,
    compaction: Option<Background<Option<LocalRun>>>,
    /// Oldest first.
    deltas: Vec<Arc<LocalFile>>,
    delta_merge: Option<Background<Arc<LocalFile>>>,
}

/// Keys that were found.
pub(crate) struct Found {
    pages: Vec<Page>,
    /// Which key, which page, which entry.
    hits: Vec<(usize, usize, usize)>,
}

impl Found {
    pub(crate) fn is_empty(&self) -> bool {
        self.hits.is_empty()
    }

    /// Which of the keys that were asked for they are.
    pub(crate) fn keys(&self) -> impl Iterator<Item = usize> {
        self.hits.iter().map(|(key, ..)| *key)
    }

    /// The rows of one table, and which key each is of.
    pub(crate) fn rows(&self, table: usize) -> impl Iterator<Item = (usize, &[u8])> {
        self.hits.iter().flat_map(move |(key, page, entry)| {
            let rows = rows_of(self.pages[*page].entry(*entry).rows);
            rows.filter(move |(number, _)| *number == table)
                .map(move |(_, row)| (*key, row))
        })
    }
}

impl DiskStore {
    pub(crate) fn new(folder: Arc<LocalFolder>, keys: KeyCodec, scope: Scope) -> Self {
        Self {
            folder,
            hasher: DefaultHashBuilder::default(),
            scope: Scope {
                block_bytes: DELTA_BLOCK_BYTES,
                ..scope
            },
            keys: Arc::new(keys),
            tables: Arc::default(),
            runs: Vec::new(),
            compaction: None,
            deltas: Vec::new(),
            delta_merge: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes of memory.
    pub(crate) fn memory_size(&self) -> usize {
        self.runs.iter().map(|run| run.memory_size()).sum()
    }

    /// The newest entry of each key that has rows.
    pub(crate) fn find(&self, keys: &Keys) -> Result<Found, StateError> {
        let mut found = Found {
            pages: Vec::new(),
            hits: Vec::new(),
        };
        // By key: those that are asked for one page come together.
        let mut wanted: Vec<(usize, u64)> = (0..keys.len())
            .map(|key| (key, self.hasher.hash_one(keys.get(key))))
            .collect();
        wanted.sort_unstable_by_key(|(key, _)| keys.get(*key));
        for run in self.runs.iter().rev() {
            if wanted.is_empty() {
                break;
            }
            self.find_in(run, keys, &mut wanted, &mut found)?;
        }
        found.hits.sort_unstable();
        Ok(found)
    }

    /// Takes the keys that the run has out of those that are wanted.
    fn find_in(
        &self,
        run: &Arc<LocalRun>,
        keys: &Keys,
        wanted: &mut Vec<(usize, u64)>,
        found: &mut Found,
    ) -> Result<(), StateError> {
        let page_of = |(key, hash): &(usize, u64)| run.page_of(keys.get(*key), *hash);
        let places: Vec<Option<usize>> = wanted.iter().map(page_of).collect();
        let mut numbers: Vec<usize> = places.iter().flatten().copied().collect();
        numbers.dedup();
        if numbers.is_empty() {
            return Ok(());
        }
        let first = found.pages.len();
        found.pages.extend(read_pages(run, &numbers)?);
        let mut left = Vec::new();
        let mut next = 0;
        for (key, place) in wanted.iter().zip(places) {
            let Some(place) = place else {
                left.push(*key);
                continue;
            };
            while numbers[next] < place {
                next += 1;
            }
            let page = &found.pages[first + next];
            match page.find(keys.get(key.0)) {
                Some(entry) if page.entry(entry).rows.is_empty() => {}
                Some(entry) => found.hits.push((key.0, first + next, entry)),
                None => left.push(*key),
            }
        }
        *wanted = left;
        Ok(())
    }

    /// Begins a run for about so many keys; so many pieces may wait, and changes are written when they are so many bytes.
    pub(crate) fn write_out(
        &self,
        keys: usize,
        queued: usize,
        delta_bytes: usize,
    ) -> Result<WriteOut, StateError> {
        WriteOut::start(WriteOutInput {
            run: RunWriter::new(&self.folder, &self.hasher, keys)?,
            keys: Arc::clone(&self.keys),
            tables: Arc::clone(&self.tables),
            folder: Arc::clone(&self.folder),
            queued,
            scope: self.scope,
            delta_bytes,
        })
    }

    /// Adds the newest run.
    pub(crate) fn add_run(&mut self, run: Option<LocalRun>, now_ms: i64) -> Result<(), StateError> {
        self.runs.extend(run.map(Arc::new));
        self.take_compacted()?;
        if self.runs.len() > MOST_RUNS
            && let Some(compaction) = self.compaction.take()
        {
            let merged = compaction.wait()?;
            self.replace(&compaction.files, merged);
        }
        self.start_compaction(now_ms)
    }

    /// Puts a merged run in the place of those it was made of, if it is there.
    pub(crate) fn take_compacted(&mut self) -> Result<(), StateError> {
        let Some(compaction) = &self.compaction else {
            return Ok(());
        };
        if let Some(merged) = compaction.poll()?
            && let Some(compaction) = self.compaction.take()
        {
            self.replace(&compaction.files, merged);
        }
        Ok(())
    }

    fn replace(&mut self, files: &Range<usize>, merged: Option<LocalRun>) {
        self.runs.splice(files.clone(), merged.map(Arc::new));
    }

    fn start_compaction(&mut self, now_ms: i64) -> Result<(), StateError> {
        if self.compaction.is_some() {
            return Ok(());
        }
        let sizes: Vec<u64> = self.runs.iter().map(|run| run.bytes()).collect();
        let Some(first) = first_to_merge(&sizes, MERGED_RUNS) else {
            return Ok(());
        };
        let expired_until = |table: &TableCodec| match table.drops_rows() {
            true => table.expired_until(now_ms),
            false => i64::MIN,
        };
        let input = CompactionInput {
            runs: self.runs[first..].to_vec(),
            with_oldest: first == 0,
            folder: Arc::clone(&self.folder),
            hasher: self.hasher.clone(),
            expired_until: self.tables.iter().map(expired_until).collect(),
        };
        let job = move |canceled: &AtomicBool| compact(&input, canceled);
        let files = first..self.runs.len();
        self.compaction = Some(Background::start(files, &self.folder, job)?);
        Ok(())
    }

    /// Keeps changes for the next checkpoint; oldest first, newer than those that are there.
    pub(crate) fn add_deltas(&mut self, deltas: Vec<Arc<LocalFile>>) -> Result<(), StateError> {
        self.deltas.extend(deltas);
        self.take_merged_deltas(self.deltas.len() > MOST_DELTAS)?;
        let sizes: Vec<u64> = self.deltas.iter().map(|delta| delta.bytes()).collect();
        if self.delta_merge.is_none()
            && let Some(first) = first_to_merge(&sizes, MERGED_DELTAS)
        {
            let files = first..self.deltas.len();
            let (scope, deltas) = (self.scope, self.deltas(files.clone()));
            let job = move |_: &AtomicBool| deltas.merged(&scope);
            self.delta_merge = Some(Background::start(files, &self.folder, job)?);
        }
        Ok(())
    }

    fn take_merged_deltas(&mut self, wait: bool) -> Result<(), StateError> {
        let Some(merge) = &self.delta_merge else {
            return Ok(());
        };
        let merged = match wait {
            true => Some(merge.wait()?),
            false => merge.poll()?,
        };
        if let Some(merged) = merged {
            self.deltas.splice(merge.files.clone(), [merged]);
            self.delta_merge = None;
        }
        Ok(())
    }

    /// The changes that were kept, and those that are being written, for the checkpoint that is being made.
    pub(crate) fn take_deltas(&mut self, pending: Option<Arc<PendingDeltas>>) -> Option<Deltas> {
        // A merge under way comes too late.
        self.delta_merge = None;
        let mut deltas = self.deltas(0..self.deltas.len());
        self.deltas.clear();
        deltas.pending = pending;
        (!deltas.files.is_empty() || deltas.pending.is_some()).then_some(deltas)
    }

    fn deltas(&self, files: Range<usize>) -> Deltas {
        Deltas {
            files: self.deltas[files].to_vec(),
            pending: None,
            folder: Arc::clone(&self.folder),
        }
    }

    /// All that the runs hold now, and what was in memory above that.
    pub(crate) fn view(&self, resident: Arc<SnapshotRun>, now_ms: i64) -> StoreView {
        StoreView {
            runs: self.runs.clone(),
            resident,
            keys: Arc::clone(&self.keys),
            tables: Arc::clone(&self.tables),
            now_ms,
        }
    }

    #[cfg(test)]
    pub(crate) fn run_count(&self) -> usize {
        self.runs.len()
    }

    #[cfg(test)]
    pub(crate) fn folder(&self) -> &Arc<LocalFolder> {
        &self.folder
    }

    #[cfg(test)]
    pub(crate) fn run_paths(&self) -> Vec<std::path::PathBuf> {
        let paths = self.runs.iter().map(|run| run.file().path().to_owned());
        paths.collect()
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.bytes()).sum()
    }

    /// Waits for the merge under way.
    #[cfg(test)]
    pub(crate) fn settle(&mut self) {
        if let Some(compaction) = self.compaction.take() {
            let merged = compaction.wait().unwrap();
            self.replace(&compaction.files, merged);
        }
    }
}
