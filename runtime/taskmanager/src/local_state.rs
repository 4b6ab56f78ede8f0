//! Folders on this machine's disks for copies of jobs' state files, from which restarted tasks restore.
//!
//! ```text
//!   <local-backup.dirs | working folder>/tm_<id>/localState/<job id>/   written and read by the job's worker process
//!     worker starts: a share of the limit for it; folders of jobs without a worker go, the oldest first, as room is needed
//!     job ends (ReleaseJob): its folder goes
//! ```
//!
//! They belong to the TaskManager, not to its temporary folder's packages or a worker: a worker that is started again finds
//! what the one before it left, and so does a TaskManager that comes back under its id, if its working folder is kept.
//!
//! Invariant: workers' shares and idle jobs' folders together are at most `thalweg.local-backup.max-size`.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use thalweg_types::config::{Configuration, options};
use thalweg_types::{JobId, TaskManagerId};

use crate::TaskManagerError;

const FOLDER: &str = "localState";
/// A process that was killed may still be writing for a moment.
const RELEASE_ATTEMPTS: u32 = 40;
const RELEASE_PAUSE: Duration = Duration::from_millis(50);

/// The TaskManager's folders.
#[derive(Debug, Clone)]
pub(crate) struct LocalState {
    roots: Vec<PathBuf>,
    limit_bytes: u64,
    slots: u32,
}

/// What one job's worker may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobFolders {
    pub(crate) folders: Vec<PathBuf>,
    pub(crate) limit_bytes: u64,
}

/// What a job without a worker left.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Idle {
    modified: SystemTime,
    bytes: u64,
    job: JobId,
}

impl LocalState {
    /// Makes the folders.
    pub(crate) fn new(
        configuration: &Configuration,
        id: &TaskManagerId,
        slots: u32,
        data_directory: &Path,
    ) -> Result<Self, TaskManagerError> {
        let configured = configuration.get(&options::LOCAL_BACKUP_DIRS)?;
        let working = configuration.get(&options::TM_WORKING_DIR)?;
        let roots = roots(configured.as_deref(), working.as_deref(), id, data_directory);
        for root in &roots {
            std::fs::create_dir_all(root).map_err(|source| TaskManagerError::LocalState {
                path: root.display().to_string(),
                source,
            })?;
        }
        Ok(Self {
            roots,
            limit_bytes: configuration.get(&options::LOCAL_BACKUP_MAX_SIZE)?.0,
            slots,
        })
    }

    /// What a worker with so many slots may use.
    pub(crate) fn of_job(&self, job: JobId, slots: usize) -> JobFolders {
        JobFolders {
            folders: self.roots.iter().map(|root| root.join(job.to_string())).collect(),
            limit_bytes: self.share(slots),
        }
    }

    fn share(&self, slots: usize) -> u64 {
        self.limit_bytes / u64::from(self.slots.max(1)) * slots as u64
    }

    /// Deletes folders of jobs that have no worker here, as far as those that have one need the room. Blocks.
    pub(crate) fn make_room(&self, active: &[(JobId, usize)]) {
        let shares: u64 = active.iter().map(|(_, slots)| self.share(*slots)).sum();
        let is_idle = |job: &JobId| active.iter().all(|(active, _)| active != job);
        let idle = self.jobs().into_iter().filter(is_idle);
        let idle = idle.map(|job| self.idle(job)).collect();
        for job in to_remove(idle, self.limit_bytes.saturating_sub(shares)) {
            self.remove(job);
        }
    }

    /// Deletes what a job that has ended left. Blocks.
    pub(crate) fn release(&self, job: JobId) {
        for _ in 0..RELEASE_ATTEMPTS {
            if self.remove(job) {
                return;
            }
            std::thread::sleep(RELEASE_PAUSE);
        }
        tracing::warn!(%job, "local copies of a job that has ended were not deleted");
    }

    fn jobs(&self) -> Vec<JobId> {
        let entries = self.roots.iter().filter_map(|root| std::fs::read_dir(root).ok());
        let names = entries.flatten().flatten().map(|entry| entry.file_name());
        let mut jobs: Vec<JobId> = names
            .filter_map(|name| name.to_string_lossy().parse().ok())
            .collect();
        jobs.sort_unstable();
        jobs.dedup();
        jobs
    }

    fn idle(&self, job: JobId) -> Idle {
        let mut idle = Idle {
            modified: SystemTime::UNIX_EPOCH,
            bytes: 0,
            job,
        };
        for folder in self.of_job(job, 0).folders {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            for metadata in entries.filter_map(|entry| entry.metadata().ok()) {
                idle.bytes += metadata.len();
                idle.modified = idle.modified.max(metadata.modified().unwrap_or(idle.modified));
            }
        }
        idle
    }

    /// Whether nothing of it is left.
    fn remove(&self, job: JobId) -> bool {
        let remove = |folder: &PathBuf| match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::debug!(folder = %folder.display(), %error, "local copies are not deleted yet");
                false
            }
            _ => true,
        };
        let failed = self
            .of_job(job, 0)
            .folders
            .into_iter()
            .filter(|folder| !remove(folder));
        failed.count() == 0
    }
}

/// One folder on each disk, which no other TaskManager uses.
fn roots(
    configured: Option<&str>,
    working: Option<&str>,
    id: &TaskManagerId,
    data_directory: &Path,
) -> Vec<PathBuf> {
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    let id: String =
        id.0.chars()
            .map(|character| if plain(character) { character } else { '_' })
            .collect();
    let separators = [',', ':'];
    let configured = configured.into_iter().flat_map(|dirs| dirs.split(separators));
    let mut bases: Vec<&str> = configured.map(str::trim).filter(|dir| !dir.is_empty()).collect();
    if bases.is_empty() {
        bases.extend(working);
    }
    if bases.is_empty() {
        return vec![data_directory.join(FOLDER)];
    }
    let root = |base: &str| Path::new(base).join(format!("tm_{id}")).join(FOLDER);
    bases.into_iter().map(root).collect()
}

/// The jobs whose folders go so that the rest takes no more than is allowed: those not written to for longest.
fn to_remove(mut idle: Vec<Idle>, allowed_bytes: u64) -> Vec<JobId> {
    idle.sort_unstable_by_key(|idle| idle.modified);
    let mut bytes: u64 = idle.iter().map(|idle| idle.bytes).sum();
    let mut removed = Vec::new();
    for oldest in idle {
        if bytes <= allowed_bytes {
            break;
        }
        bytes -= oldest.bytes;
        removed.push(oldest.job);
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> TaskManagerId {
        TaskManagerId("pod/1".to_owned())
    }

    #[test]
    fn the_folders_are_those_configured_else_the_working_one_else_the_temporary_one() {
        let of = |configured, working| roots(configured, working, &id(), Path::new("/tmp/x"));
        assert_eq!(
            of(Some("/disk1, /disk2"), Some("/work")),
            ["/disk1/tm_pod_1/localState", "/disk2/tm_pod_1/localState"].map(PathBuf::from)
        );
        assert_eq!(
            of(None, Some("/work")),
            [PathBuf::from("/work/tm_pod_1/localState")]
        );
        assert_eq!(of(Some(""), None), [PathBuf::from("/tmp/x/localState")]);
    }

    #[test]
    fn idle_jobs_go_in_the_order_of_their_last_write_until_the_rest_fits() {
        let idle = |job: u128, age: u64, bytes: u64| Idle {
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(100 - age),
            bytes,
            job: JobId::from_u128(job),
        };
        let all = vec![idle(1, 10, 5), idle(2, 30, 5), idle(3, 20, 5)];
        let removed = |allowed| {
            let jobs = to_remove(all.clone(), allowed).into_iter();
            jobs.collect::<Vec<_>>()
        };
        let jobs = |numbers: &[u128]| numbers.iter().copied().map(JobId::from_u128).collect::<Vec<_>>();
        assert_eq!(removed(15), jobs(&[]));
        assert_eq!(removed(14), jobs(&[2]));
        assert_eq!(removed(5), jobs(&[2, 3]));
        assert_eq!(removed(0), jobs(&[2, 3, 1]));
    }

    #[test]
    fn workers_share_the_limit_by_their_slots_and_a_job_that_ends_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut configuration = Configuration::default();
        configuration.set("thalweg.local-backup.max-size", "4kb");
        let state = LocalState::new(&configuration, &id(), 4, folder.path()).unwrap();
        let (running, old, new) = (JobId::from_u128(1), JobId::from_u128(2), JobId::from_u128(3));
        for (job, bytes, seconds) in [(running, 9000, 1), (old, 1000, 2), (new, 1000, 3)] {
            let folder = &state.of_job(job, 1).folders[0];
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join("copy"), vec![0; bytes]).unwrap();
            let file = std::fs::File::options()
                .write(true)
                .open(folder.join("copy"))
                .unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
                .unwrap();
        }
        assert_eq!(state.of_job(running, 3).limit_bytes, 3 << 10);
        state.make_room(&[(running, 3)]);
        assert_eq!(
            state.jobs(),
            [running, new],
            "1 KiB is left for those without a worker"
        );
        state.release(running);
        assert_eq!(state.jobs(), [new]);
    }
}
