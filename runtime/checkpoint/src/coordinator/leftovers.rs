//! What an earlier JobManager's checkpoints left behind: files of those that it never completed, and shared files that nobody refers to.
//!
//! ```text
//!   the job's folder, listed before this coordinator triggers anything
//!     chk-7/_metadata ..   complete: it stays, retained or not
//!     chk-8/..             never completed                  --\
//!     shared/..            not of a retained checkpoint     --/ deleted behind the second checkpoint that completes here
//! ```
//!
//! Flink leaves them. They can't be deleted at once: tasks that outlived the JobManager may go on with files of a checkpoint that was
//! never completed. What they go on with they say with each acknowledgement; so what was there before, and nobody has mentioned when two
//! checkpoints are complete, nobody uses.
//!
//! Invariants: only files of [`CoordinatorSetup::earlier_files`](super::CoordinatorSetup::earlier_files) are deleted, none of a
//! folder with a `_metadata` or a pointer, none that a retained, pending or foreign snapshot refers to; and no shared file if there is a
//! complete checkpoint that isn't retained: it may refer to any.

use std::collections::BTreeSet;

use super::pending::all_files;
use super::{Action, CheckpointCoordinator, CompletedCheckpoint, POINTER_FILE, delete_files};
use crate::metadata::METADATA_FILE;

/// So many have to be complete first.
pub(super) const COMPLETED_BEFORE: u8 = 2;

/// Of the files in a job's folder, by their paths in it, those that no complete checkpoint and no pointer accounts for. `retained`:
/// the numbers of the checkpoints that the job goes on with.
pub fn leftovers<'a>(files: impl IntoIterator<Item = &'a str>, retained: &BTreeSet<u64>) -> Vec<String> {
    let files: Vec<&str> = files.into_iter().collect();
    let named = |name: &str| -> BTreeSet<u64> {
        let numbers = files.iter().filter_map(|file| checkpoint_of(file));
        let of_name = numbers.filter(|(_, file)| *file == name);
        of_name.map(|(number, _)| number).collect()
    };
    let complete = named(METADATA_FILE);
    let pointers = named(POINTER_FILE);
    let shared_may_go = complete.is_subset(retained);
    let is_left = |file: &&str| match checkpoint_of(file) {
        Some((number, _)) => {
            !complete.contains(&number) && !pointers.contains(&number) && !retained.contains(&number)
        }
        None => shared_may_go && file.starts_with("shared/"),
    };
    files.iter().copied().filter(is_left).map(str::to_owned).collect()
}

/// Of `chk-7/a/b`: 7 and `a/b`.
fn checkpoint_of(path: &str) -> Option<(u64, &str)> {
    let (number, file) = path.strip_prefix("chk-")?.split_once('/')?;
    Some((number.parse().ok()?, file))
}

impl CheckpointCoordinator {
    /// Finds what may have to go; nothing in a folder that others use too.
    pub(super) fn note_leftovers(&mut self, files: &[String]) {
        let (Some(folder), true) = (&self.folder, self.folder_is_ours) else {
            return;
        };
        let retained = self.completed.iter().chain(&self.foreign);
        let retained = retained.map(|checkpoint| checkpoint.id).collect();
        let left = leftovers(files.iter().map(String::as_str), &retained);
        self.leftovers = left.iter().map(|file| format!("{folder}/{file}")).collect();
    }

    /// A checkpoint of this coordinator has completed.
    pub(super) fn delete_leftovers(&mut self, actions: &mut Vec<Action>) {
        self.completed_here = self.completed_here.saturating_add(1);
        if self.leftovers.is_empty() || self.completed_here < COMPLETED_BEFORE {
            return;
        }
        let files_of = |checkpoint: &CompletedCheckpoint| all_files(&checkpoint.metadata, &checkpoint.base);
        let mut used: BTreeSet<String> = self.completed.iter().flat_map(files_of).collect();
        used.extend(self.foreign.iter().flat_map(files_of));
        used.extend(self.files.files().map(str::to_owned));
        used.extend(self.pointer.clone());
        let mut left = std::mem::take(&mut self.leftovers);
        left.retain(|file| !used.contains(file));
        delete_files(left, actions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[&str], retained: &[u64]) -> Vec<String> {
        leftovers(files.iter().copied(), &retained.iter().copied().collect())
    }

    #[test]
    fn folders_without_metadata_and_shared_files_are_left_over_and_nothing_else() {
        let files = [
            "chk-6/_metadata",
            "chk-6/a",
            "chk-7/b",
            "chk-8/_savepoint",
            "chk-9/deep/er",
            "chk-x/c",
            "shared/d",
            "notes.txt",
        ];
        assert_eq!(found(&files, &[6]), ["chk-7/b", "chk-9/deep/er", "shared/d"]);
        assert_eq!(found(&files, &[6, 9]), ["chk-7/b", "shared/d"]);
    }

    #[test]
    fn a_complete_checkpoint_that_is_not_retained_keeps_all_shared_files() {
        let files = ["chk-5/_metadata", "chk-6/_metadata", "chk-7/b", "shared/d"];
        assert_eq!(found(&files, &[6]), ["chk-7/b"]);
        assert_eq!(found(&files, &[5, 6]), ["chk-7/b", "shared/d"]);
    }
}
