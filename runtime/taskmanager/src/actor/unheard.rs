//! What no JobManager has heard: told with the next registration, or right behind it.
//!
//! ```text
//!   connected --lost--> alone: workers that end are kept, with their tasks
//!                         |  registering: the report is made, what changes from now on is kept as messages
//!                         v  taken in: these messages are sent, in order; both are forgotten
//! ```
//!
//! Of checkpoints and watermarks nothing is kept: a new leader gives up what was under way, and asks again.

use std::collections::BTreeMap;

use thalweg_proto::control::v1::RunningWorker;
use thalweg_proto::control::v1::task_manager_message::Message;
use thalweg_types::JobId;

use crate::connection::MESSAGE_QUEUE;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Unheard {
    /// Workers that ended while nobody heard; at most one a job, and so one a slot.
    gone: BTreeMap<JobId, RunningWorker>,
    /// Since the report was made that somebody may be reading now.
    since_report: Option<Vec<Message>>,
}

impl Unheard {
    /// A worker ended. Its tasks ended with it: there is nowhere to reach them.
    pub(super) fn ended(&mut self, job: JobId, worker: RunningWorker) {
        let data_address = String::new();
        self.gone.insert(
            job,
            RunningWorker {
                data_address,
                ..worker
            },
        );
    }

    /// A newer worker of the job starts, or the job is over.
    pub(super) fn forget(&mut self, job: JobId) {
        self.gone.remove(&job);
    }

    /// A message that can't be sent now.
    pub(super) fn keep(&mut self, message: Message) {
        let matters = matches!(
            message,
            Message::TaskState(_) | Message::WorkerReady(_) | Message::WorkerFailed(_)
        );
        if let Some(messages) = self.since_report.as_mut().filter(|_| matters) {
            // One more than can be sent tells that something is missing.
            if messages.len() <= MESSAGE_QUEUE {
                messages.push(message);
            }
        }
    }

    /// A registration begins: the workers that ended, beside those that run.
    pub(super) fn report(&mut self) -> Vec<RunningWorker> {
        self.since_report = Some(Vec::new());
        self.gone.values().cloned().collect()
    }

    /// Somebody has taken the report: what came after it, or nothing if that is more than can be told.
    pub(super) fn heard(&mut self) -> Option<Vec<Message>> {
        self.gone.clear();
        let messages = self.since_report.take().unwrap_or_default();
        (messages.len() <= MESSAGE_QUEUE).then_some(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_proto::control::v1::{TaskManagerHeartbeat, WorkerFailed};

    fn failed(generation: u64) -> Message {
        Message::WorkerFailed(WorkerFailed {
            worker_generation: generation,
            ..WorkerFailed::default()
        })
    }

    #[test]
    fn what_comes_behind_the_report_follows_it_in_order_and_what_came_before_is_in_it() {
        let mut unheard = Unheard::default();
        unheard.keep(failed(1));
        unheard.report();
        unheard.keep(failed(2));
        unheard.keep(Message::Heartbeat(TaskManagerHeartbeat::default()));
        unheard.keep(failed(3));
        assert_eq!(unheard.heard(), Some(vec![failed(2), failed(3)]));
        unheard.keep(failed(4));
        assert_eq!(
            unheard.heard(),
            Some(Vec::new()),
            "whoever is connected hears it directly"
        );
    }

    #[test]
    fn more_than_can_be_told_is_not_half_told() {
        let mut unheard = Unheard::default();
        unheard.report();
        (0..MESSAGE_QUEUE as u64 + 5).for_each(|generation| unheard.keep(failed(generation)));
        assert_eq!(unheard.heard(), None);
    }

    #[test]
    fn a_worker_that_ended_is_reported_without_an_address_until_somebody_heard_of_it() {
        let mut unheard = Unheard::default();
        let job = JobId::from_u128(1);
        let worker = RunningWorker {
            data_address: "host:1".to_owned(),
            slots: vec![4],
            ..RunningWorker::default()
        };
        unheard.ended(job, worker);
        for _ in 0..2 {
            let report = unheard.report();
            assert_eq!(
                (
                    report.len(),
                    report[0].data_address.as_str(),
                    &report[0].slots[..]
                ),
                (1, "", &[4][..])
            );
        }
        unheard.heard();
        assert!(unheard.report().is_empty());
    }
}
