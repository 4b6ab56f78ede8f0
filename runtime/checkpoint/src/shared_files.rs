//! Who uses which state file, and which ones nobody will use again.
//!
//! ```text
//!   an acknowledgement --mention--> file { newest checkpoint that mentioned it, pending and retained ones that use it }
//!   given up, subsumed --release--> ...
//!   completed: what no later one mentions and no retained one uses is deletable
//! ```
//!
//! What is counted are physical files. One may hold runs of several tasks of a process as segments
//! (`execution.checkpointing.file-merging.enabled`); then it is used as long as any of them is.
//!
//! Invariants: a task's chain of runs only loses files from one of its acknowledgements to the next, in the order of the
//! barriers. So a file is needed by no task any more when a checkpoint completed, hence was acknowledged by every task,
//! that is newer than the newest one that mentioned it. Numbers of checkpoints are never used twice.

use std::collections::{BTreeMap, BTreeSet};

/// The registry of one job; files by their absolute URIs.
#[derive(Debug, Clone, Default)]
pub struct SharedFiles {
    files: BTreeMap<String, Use>,
    newest_completed: u64,
}

#[derive(Debug, Clone, Default)]
struct Use {
    newest_mention: u64,
    /// Pending and retained.
    checkpoints: BTreeSet<u64>,
}

impl SharedFiles {
    /// A checkpoint that may still complete, or is retained, uses these.
    pub fn mention(&mut self, checkpoint_id: u64, files: impl IntoIterator<Item = String>) {
        for file in files {
            let entry = self.files.entry(file).or_default();
            entry.newest_mention = entry.newest_mention.max(checkpoint_id);
            entry.checkpoints.insert(checkpoint_id);
        }
    }

    /// A checkpoint was given up or is kept no longer. What is deletable now.
    pub fn release(&mut self, checkpoint_id: u64) -> Vec<String> {
        for entry in self.files.values_mut() {
            entry.checkpoints.remove(&checkpoint_id);
        }
        self.take_unused()
    }

    /// An acknowledgement of a checkpoint that was given up before. What is deletable now.
    pub fn mention_late(
        &mut self,
        checkpoint_id: u64,
        files: impl IntoIterator<Item = String>,
    ) -> Vec<String> {
        for file in files {
            let entry = self.files.entry(file).or_default();
            entry.newest_mention = entry.newest_mention.max(checkpoint_id);
        }
        self.take_unused()
    }

    /// A checkpoint (no savepoint: it says nothing of the chains) completed. What is deletable now.
    pub fn completed(&mut self, checkpoint_id: u64) -> Vec<String> {
        self.newest_completed = self.newest_completed.max(checkpoint_id);
        self.take_unused()
    }

    /// No task runs any more: everything that none of the checkpoints uses.
    pub fn take_all_unused(&mut self) -> Vec<String> {
        self.newest_completed = u64::MAX;
        self.take_unused()
    }

    /// All that are known and not deleted.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    fn take_unused(&mut self) -> Vec<String> {
        let newest = self.newest_completed;
        self.files
            .extract_if(.., |_, entry| {
                entry.checkpoints.is_empty() && entry.newest_mention < newest
            })
            .map(|(file, _)| file)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_file_goes_when_a_newer_checkpoint_completed_without_it_and_the_older_one_is_released() {
        let mut shared = SharedFiles::default();
        shared.mention(1, files(&["a", "b"]));
        assert!(shared.completed(1).is_empty());
        shared.mention(2, files(&["b", "c"]));
        assert!(shared.completed(2).is_empty());
        assert_eq!(shared.release(1), ["a"]);
        assert_eq!(shared.files().collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn a_file_of_a_checkpoint_given_up_stays_until_a_newer_one_completes_since_a_chain_may_hold_it() {
        let mut shared = SharedFiles::default();
        shared.mention(1, files(&["kept"]));
        shared.completed(1);
        shared.mention(2, files(&["kept", "chained", "lost"]));
        assert!(shared.release(2).is_empty());
        shared.mention(3, files(&["kept", "chained"]));
        assert_eq!(shared.completed(3), ["lost"]);
        assert!(shared.release(1).is_empty());
    }

    #[test]
    fn a_file_with_segments_of_several_tasks_stays_until_the_last_of_them_is_unused() {
        let mut shared = SharedFiles::default();
        // Two tasks have a segment each in "merged"; the second drops its own in checkpoint 2, the first in 3.
        shared.mention(1, files(&["merged"]));
        shared.mention(1, files(&["merged"]));
        shared.completed(1);
        shared.mention(2, files(&["merged"]));
        shared.mention(2, files(&["second"]));
        shared.completed(2);
        assert!(shared.release(1).is_empty());
        shared.mention(3, files(&["first", "second"]));
        assert!(shared.completed(3).is_empty(), "checkpoint 2 is retained");
        assert_eq!(shared.release(2), ["merged"]);
    }

    #[test]
    fn a_late_mention_is_deleted_at_once_only_if_a_newer_checkpoint_completed() {
        let mut shared = SharedFiles::default();
        assert!(shared.mention_late(5, files(&["x"])).is_empty());
        shared.mention(6, files(&["x"]));
        shared.completed(6);
        assert_eq!(shared.mention_late(4, files(&["x", "y"])), ["y"]);
    }
}
