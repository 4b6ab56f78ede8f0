//! What a new leader does with the logs that it finds.
//!
//! ```text
//!   jobs/<id>/  --take_over--> JobHistory --no result--> Submission --> Dispatcher::recover_job: its tasks are waited for
//!                    |                              `--> its package is fetched meanwhile: what runs needs none
//!                    |                    --result-----> shown until it expires
//!                    `-- missing, foreign record; package or checkpoint that is not there --> shown as FAILED, its log stays as it is
//! ```
//!
//! Invariant: a job that can't be recovered takes no other with it; storage that does not answer is no reason to fail a job: it is
//! asked again until `thalweg.high-availability.log-timeout`, then leadership is given up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use thalweg_proto::ha::v1::record::Content;
use thalweg_proto::ha::v1::{Result as JobResult, Submitted};
use thalweg_types::{Classify, Failure, FailureClass, JobId};
use tokio::time::Instant;

use super::HighAvailability;
use super::history::JobHistory;
use super::log::{LogError, RecordLog};
use super::packages;
use super::submitted::{configuration_of, extracted_of, operations_of, with_secrets};
use crate::control_plane::Event;
use crate::dispatcher::{KeptPackage, RecoveryRequest, Submission, Submitter};
use crate::failure::failure_of;
use crate::job_master::{LoggedEnd, Recovered};

/// Jobs that are recovered at one time.
const PARALLEL: usize = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A job of the log, for the Dispatcher.
pub(crate) enum RecoveredJob {
    /// It goes on.
    Unfinished {
        submission: Box<Submission>,
        recovered: Recovered,
        cancel: bool,
    },
    /// It is over, or can't be recovered: then its state is FAILED here, and nothing of that is in its log.
    Ended {
        submission: Box<Submission>,
        state: String,
        failure: Option<Failure>,
        started_ms: u64,
        ended_ms: u64,
        logged: Option<LoggedEnd>,
    },
    /// Nothing can be said of it but why.
    Unreadable { job: JobId, failure: Failure },
}

/// Hands every job of the logs to the control plane; `application` is the operation of the one job that this JobManager is for.
pub(crate) async fn recover_jobs(
    ha: &HighAvailability,
    submitter: &Arc<Submitter>,
    application: Option<&str>,
) {
    let jobs = match ha.until_answered("the jobs' logs", || ha.jobs()).await {
        Some(Ok(jobs)) => jobs,
        Some(Err(error)) => {
            let reason = format!("leadership is given up: the jobs' logs can't be listed: {error}");
            return ha.fence.raise(reason);
        }
        None => return,
    };
    tracing::info!(jobs = jobs.len(), "recovering jobs");
    let recovered = futures::stream::iter(jobs)
        .map(|job| ha.recovered(job, submitter, application))
        .buffer_unordered(PARALLEL);
    let mut recovered = std::pin::pin!(recovered);
    let mut used = Some(BTreeSet::new());
    let mut packages = Vec::new();
    while let Some(found) = recovered.next().await {
        match (&mut used, found.package) {
            (Some(used), Some(sha256)) => {
                used.insert(sha256);
            }
            // Whose package that is nobody knows: none is deleted.
            (used, None) => *used = None,
            (None, Some(_)) => {}
        }
        if let Some(job) = found.job {
            submitter.control.send(Event::Recovered(Box::new(job))).await.ok();
        }
        packages.extend(found.to_fetch);
    }
    if let Some(used) = used.filter(|_| !ha.fence.is_raised())
        && let Err(error) = packages::delete_unused(&ha.folder, &used).await
    {
        tracing::warn!(%error, "packages of jobs that are over stay");
    }
    submitter.control.send(Event::RecoveryDone).await.ok();
    ha.recovered.send_replace(true);
    let fetched = futures::stream::iter(packages)
        .map(|(job, package)| ha.fetch_package(job, package, submitter))
        .buffer_unordered(PARALLEL);
    fetched.collect::<()>().await;
}

/// What became of one log.
struct Found {
    job: Option<RecoveredJob>,
    /// That it uses; `None` = not known.
    package: Option<String>,
    /// What it goes on without for now.
    to_fetch: Option<(JobId, KeptPackage)>,
}

impl Found {
    fn new(job: Option<RecoveredJob>, package: Option<String>) -> Self {
        Self {
            job,
            package,
            to_fetch: None,
        }
    }
}

impl HighAvailability {
    async fn jobs(&self) -> Result<Vec<JobId>, LogError> {
        let files = self.store.list("jobs").await?;
        let folders: BTreeSet<&str> = files.iter().filter_map(|path| path.split('/').next()).collect();
        let job = |folder: &str| {
            let job = folder.parse::<JobId>();
            if job.is_err() {
                tracing::warn!(
                    folder,
                    "what is in jobs/ of the high-availability folder is no job's log"
                );
            }
            job.ok()
        };
        Ok(folders.into_iter().filter_map(job).collect())
    }

    async fn recovered(&self, job: JobId, submitter: &Arc<Submitter>, application: Option<&str>) -> Found {
        let writer = self.writer();
        let taken = self.until_answered("a job's log", || self.logs.take_over(&writer, job));
        let history = match taken.await {
            Some(Ok(history)) => history,
            Some(Err(error)) => return self.unreadable(job, &error, submitter).await,
            None => return Found::new(None, None),
        };
        let submitted = &history.submitted;
        if submitted.is_application && application.is_some_and(|current| current != submitted.operation_id) {
            tracing::info!(%job, operation_id = submitted.operation_id, "the log of an earlier application is deleted");
            self.logs.forget(job);
            return Found::new(None, Some(submitted.package_sha256.clone()));
        }
        let package = Some(submitted.package_sha256.clone());
        if let Some(result) = &history.result {
            let failure = result.failure.as_ref().map(|failure| failure_of(Some(failure)));
            let job = self.ended(job, submitter, &history, &result.state, failure, result.ended_ms);
            return Found::new(Some(job), package);
        }
        let kept = self.kept_package(&history);
        let mut to_fetch = None;
        let prepared = self.until_answered("a job's package and state", || {
            submitter.recover(self.request(job, &history), &kept)
        });
        let recovered = match prepared.await {
            None => return Found::new(None, None),
            Some(Ok(submission)) => {
                to_fetch = submission.package_follows.then_some((job, kept));
                RecoveredJob::Unfinished {
                    submission: Box::new(submission),
                    recovered: Recovered {
                        started_ms: submitted.submitted_ms,
                        stop_given_up: history.stop_given_up(),
                        begun: history.begun(),
                    },
                    cancel: history.cancel_requested,
                }
            }
            Some(Err(failure)) => {
                let failure = self.not_recovered(job, failure);
                self.ended(
                    job,
                    submitter,
                    &history,
                    "FAILED",
                    Some(failure),
                    self.clock.now_ms(),
                )
            }
        };
        Found {
            job: Some(recovered),
            package,
            to_fetch,
        }
    }

    /// Brings a job its package, which it goes on without meanwhile.
    async fn fetch_package(&self, job: JobId, package: KeptPackage, submitter: &Arc<Submitter>) {
        let fetched = self.until_answered("a job's package", || submitter.kept(&package));
        let Some(fetched) = fetched.await else { return };
        let outcome = fetched.map_err(|failure| self.not_recovered(job, failure));
        let fetched = Event::PackageFetched { job, outcome };
        submitter.control.send(fetched).await.ok();
    }

    /// A job of which something is missing: its log is there for the next leader, to whom it may be of use again.
    fn not_recovered(&self, job: JobId, failure: Failure) -> Failure {
        let message = format!(
            "the job can't be recovered from the high-availability log: {}",
            failure.message
        );
        tracing::error!(%job, reason = message, "a job can't be recovered");
        self.logs.leave(job);
        Failure { message, ..failure }
    }

    fn kept_package(&self, history: &JobHistory) -> KeptPackage {
        let sha256 = history.submitted.package_sha256.clone();
        KeptPackage {
            uri: self.folder.uri_of(&packages::path_of(&sha256)),
            sha256,
        }
    }

    /// A log that can't be read: its submission may still be, and says at least what the job was.
    async fn unreadable(&self, job: JobId, error: &LogError, submitter: &Arc<Submitter>) -> Found {
        let message = format!(
            "the job can't be recovered: its log is damaged: {error}; put the record back and restart the JobManager, or delete the \
             folder and submit the job again from its newest checkpoint"
        );
        tracing::error!(%job, reason = message, "a job can't be recovered");
        let failure = Failure::new(FailureClass::Fatal, message);
        let begin = RecordLog::of_job(self.store.clone(), &job.to_string())
            .begin()
            .await;
        let submitted = begin.and_then(|record| match record.content {
            Some(Content::Submitted(submitted)) => Some(submitted),
            Some(Content::Base(base)) => base.submitted,
            _ => None,
        });
        match submitted {
            Some(submitted) => {
                let package = Some(submitted.package_sha256.clone());
                let history = JobHistory::new(submitted);
                let now_ms = self.clock.now_ms();
                let job = self.ended(job, submitter, &history, "FAILED", Some(failure), now_ms);
                Found::new(Some(job), package)
            }
            None => Found::new(Some(RecoveredJob::Unreadable { job, failure }), None),
        }
    }

    fn ended(
        &self,
        job: JobId,
        submitter: &Arc<Submitter>,
        history: &JobHistory,
        state: &str,
        failure: Option<Failure>,
        ended_ms: u64,
    ) -> RecoveredJob {
        let request = self.request(job, history);
        RecoveredJob::Ended {
            submission: Box::new(submitter.as_it_was(request)),
            state: state.to_owned(),
            failure,
            started_ms: history.submitted.submitted_ms,
            ended_ms,
            logged: history.logged_end(),
        }
    }

    fn request(&self, job_id: JobId, history: &JobHistory) -> RecoveryRequest {
        let submitted: &Submitted = &history.submitted;
        let mut job_graph = submitted.job_graph.clone().unwrap_or_default();
        job_graph.configuration = with_secrets(job_graph.configuration, submitted, &self.cluster);
        let newest = history.newest();
        RecoveryRequest {
            job_id,
            operation_id: submitted.operation_id.clone(),
            is_application: submitted.is_application,
            submitted_ms: submitted.submitted_ms,
            same_engine: submitted.engine_version == env!("CARGO_PKG_VERSION"),
            extracted: extracted_of(submitted),
            job_graph,
            configuration: configuration_of(submitted, &self.cluster),
            newest: newest.map(|(newest, own)| (newest.folder.clone(), own)),
            earlier: history.earlier().map(|own| own.folder.clone()).collect(),
            highest_checkpoint_id: history.highest_checkpoint_id,
            operations: operations_of(history),
        }
    }

    /// Asks until it is answered or refused; nothing if leadership ended before.
    async fn until_answered<T, E, F>(&self, what: &str, mut ask: impl FnMut() -> F) -> Option<Result<T, E>>
    where
        F: Future<Output = Result<T, E>>,
        E: Classify + std::fmt::Display,
    {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            if self.fence.is_raised() {
                return None;
            }
            let error = match ask().await {
                Err(error) if error.class() == FailureClass::Retryable => error,
                answered => return Some(answered),
            };
            if begun.elapsed() >= self.log_timeout {
                self.fence.raise(format!(
                    "leadership is given up: {what} could not be read for {:?} (thalweg.high-availability.log-timeout): {error}",
                    self.log_timeout
                ));
                return None;
            }
            tracing::warn!(%error, what, "storage does not answer yet, trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// A job's end, as a record.
pub(crate) fn result_record(state: &str, failure: Option<&Failure>, ended_ms: u64) -> Content {
    Content::Result(JobResult {
        state: state.to_owned(),
        failure: failure.map(crate::failure::failure_to_proto),
        ended_ms,
    })
}
