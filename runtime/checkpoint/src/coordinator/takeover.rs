//! A coordinator behind tasks that run already: what an earlier JobManager had under way comes to nothing, and numbers go on above it.
//!
//! ```text
//!   retained ... newest completed | given up: what the tasks heard of beyond it | next number
//!                 notified again  | Notify(aborted), its folder is deleted      |
//! ```
//!
//! What is completed is what the restored snapshots are ([`super::CoordinatorSetup::restored`]). To hear of a completion twice is
//! harmless; to miss it would leave output uncommitted until the next checkpoint.

use thalweg_types::{Failure, FailureClass};

use super::giving_up::GivenUp;
use super::{Action, CheckpointCoordinator, Takeover, checkpoint_folder};

/// Of what is given up, so many are spoken of; tasks remember no more.
const MOST_GIVEN_UP: u64 = 64;
/// Left out where some tasks did not say what they heard of.
const UNKNOWN: u64 = 100;

impl CheckpointCoordinator {
    pub(super) fn take_over(&mut self, takeover: &Takeover, actions: &mut Vec<Action>) {
        for execution in &takeover.running {
            self.tasks.running(execution);
        }
        let known = takeover.running.len() + takeover.finished.len();
        for (execution, last) in &takeover.finished {
            self.tasks.finished(execution, last.clone());
        }
        let all_known = known == self.tasks.count();
        let newest = self.restore_point().map_or(0, |point| point.id);
        let seen = takeover.newest_seen.max(newest);
        let unknown = if all_known { 0 } else { UNKNOWN };
        self.next_id = self.next_id.max(seen.saturating_add(1 + unknown));
        let running = self.tasks.all_running().collect();
        if newest > 0 {
            self.notify(newest, &running, true, actions);
        }
        for id in (newest + 1).max(seen.saturating_sub(MOST_GIVEN_UP - 1))..=seen {
            self.notify(id, &running, false, actions);
            if let Some(folder) = &self.folder {
                let given_up = GivenUp {
                    folder: checkpoint_folder(folder, id),
                    pointer: None,
                };
                given_up.delete(actions);
                self.given_up.insert(id, given_up);
            }
        }
        if takeover.stop_savepoint > 0 {
            self.go_on_stopping(takeover, newest, all_known, actions);
        }
    }

    /// The savepoint to stop with is complete, and then the tasks end; or it is not, and they go on if they still can.
    fn go_on_stopping(
        &mut self,
        Takeover {
            stop_savepoint,
            drains,
            ..
        }: &Takeover,
        newest: u64,
        all_known: bool,
        actions: &mut Vec<Action>,
    ) {
        let complete = self.foreign.as_ref().filter(|point| point.id == *stop_savepoint);
        let why = match complete {
            Some(savepoint) if all_known => {
                // Who asked for it, its operation, is the earlier JobManager's secret.
                self.stopping = Some((String::new(), savepoint.id, savepoint.folder.clone()));
                return;
            }
            Some(savepoint) => format!(
                "the savepoint {} is complete, but the JobManager was lost before the job had stopped and not all tasks are left: it goes on from there",
                savepoint.folder
            ),
            None if *drains && *stop_savepoint > newest => {
                "event time has come to its end for a savepoint to stop with, and the JobManager was lost before that was complete"
                    .to_owned()
            }
            None => return,
        };
        actions.push(Action::FailJob(Failure::new(FailureClass::Retryable, why)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use thalweg_proto::control::v1::NotifyCheckpoint;
    use thalweg_proto::state::v1::SnapshotMetadata;

    use super::super::tests::{FOLDER, config, execution, job_graph};
    use super::super::{CoordinatorSetup, Event, RestoredFrom, SnapshotRequest, SnapshotTarget};
    use super::*;

    const SAVEPOINT: &str = "s3://bucket/savepoints/one";

    /// Behind what the job goes on from: checkpoint 5, or savepoint 5, which was to stop it.
    fn coordinator(savepoint: bool) -> CheckpointCoordinator {
        let graph = job_graph(2, 1);
        let metadata = SnapshotMetadata {
            job_id: graph.job_id.clone(),
            checkpoint_id: 5,
            savepoint,
            ..SnapshotMetadata::default()
        };
        let restored = RestoredFrom {
            metadata: Arc::new(metadata),
            folder: if savepoint {
                SAVEPOINT.to_owned()
            } else {
                format!("{FOLDER}/chk-5")
            },
            base: FOLDER.to_owned(),
            owned: !savepoint,
        };
        CheckpointCoordinator::new(CoordinatorSetup {
            graph,
            config: config(),
            folder: Some(FOLDER.to_owned()),
            folder_is_ours: true,
            recoverable: true,
            first_checkpoint_id: 6,
            restored: vec![restored],
            earlier_files: Vec::new(),
            history_size: 10,
            delay_seed: None,
        })
    }

    fn takeover(newest_seen: u64) -> Takeover {
        Takeover {
            running: vec![execution(0, 0, 3), execution(0, 1, 3), execution(1, 0, 3)],
            newest_seen,
            ..Takeover::default()
        }
    }

    fn notified(actions: &[Action]) -> Vec<(u64, bool, usize)> {
        let notified = actions.iter().filter_map(|action| match action {
            Action::Notify(NotifyCheckpoint {
                executions,
                checkpoint_id,
                completed,
            }) => Some((*checkpoint_id, *completed, executions.len())),
            _ => None,
        });
        notified.collect()
    }

    /// The number of the checkpoint that begins when it is due.
    fn next(coordinator: &mut CheckpointCoordinator) -> Option<u64> {
        let much_later = coordinator.now_ms + 1_000_000;
        let actions = coordinator.handle(Event::Tick, much_later);
        actions.iter().find_map(|action| match action {
            Action::Trigger(trigger) => Some(trigger.checkpoint_id),
            _ => None,
        })
    }

    #[test]
    fn the_newest_completed_one_is_notified_again_and_what_was_under_way_is_given_up_with_its_folder() {
        let mut coordinator = coordinator(false);
        let actions = coordinator.handle(Event::TookOver(takeover(7)), 0);
        assert_eq!(notified(&actions), [(5, true, 3), (6, false, 3), (7, false, 3)]);
        let deleted = actions.iter().filter_map(|action| match action {
            Action::DeleteFolder(folder) => Some(folder.as_str()),
            _ => None,
        });
        assert_eq!(
            deleted.collect::<Vec<_>>(),
            [format!("{FOLDER}/chk-6"), format!("{FOLDER}/chk-7")]
        );
        assert_eq!(next(&mut coordinator), Some(8));
    }

    #[test]
    fn numbers_leave_room_for_what_tasks_that_did_not_report_may_have_heard_of() {
        let mut coordinator = coordinator(false);
        let mut partly = takeover(7);
        let missing = partly.running.pop().unwrap();
        let actions = coordinator.handle(Event::TookOver(partly), 0);
        assert_eq!(notified(&actions)[0], (5, true, 2));
        assert_eq!(next(&mut coordinator), None, "not all tasks run");
        coordinator.handle(Event::TaskRunning(missing), 0);
        assert_eq!(next(&mut coordinator), Some(8 + UNKNOWN));
    }

    #[test]
    fn of_very_many_that_came_to_nothing_the_newest_are_named() {
        let actions = coordinator(false).handle(Event::TookOver(takeover(10_000)), 0);
        let named = notified(&actions);
        assert_eq!(named.len() as u64, 1 + MOST_GIVEN_UP);
        assert_eq!(named[0], (5, true, 3));
        assert_eq!(
            named[1..].first().map(|(id, ..)| *id),
            Some(10_001 - MOST_GIVEN_UP)
        );
        assert_eq!(named.last(), Some(&(10_000, false, 3)));
    }

    #[test]
    fn a_request_that_came_before_the_tasks_were_known_gets_a_number_above_theirs() {
        let mut coordinator = coordinator(false);
        let request = SnapshotRequest {
            operation_id: "asked".to_owned(),
            target: SnapshotTarget::Checkpoint { full: false },
        };
        assert_eq!(coordinator.handle(Event::Trigger(request), 0), []);
        let actions = coordinator.handle(Event::TookOver(takeover(9)), 0);
        let begun = actions.iter().find_map(|action| match action {
            Action::Trigger(trigger) => Some(trigger.checkpoint_id),
            _ => None,
        });
        assert_eq!(begun, Some(10));
    }

    #[test]
    fn a_job_that_was_being_stopped_goes_on_ending_once_its_savepoint_is_complete() {
        let mut coordinator = coordinator(true);
        let stopping = Takeover {
            stop_savepoint: 5,
            ..takeover(5)
        };
        let actions = coordinator.handle(Event::TookOver(stopping), 0);
        assert_eq!(notified(&actions), [(5, true, 3)]);
        assert_eq!(actions.len(), 1);
        assert_eq!(next(&mut coordinator), None, "no checkpoint while it ends");
    }

    #[test]
    fn a_job_that_goes_on_from_such_a_savepoint_takes_checkpoints() {
        let mut coordinator = coordinator(true);
        coordinator.handle(Event::TookOver(takeover(5)), 0);
        assert_eq!(next(&mut coordinator), Some(6));
    }

    #[test]
    fn if_not_all_tasks_are_left_to_end_the_job_goes_on_from_the_savepoint() {
        let mut partly = Takeover {
            stop_savepoint: 5,
            ..takeover(5)
        };
        partly.running.pop();
        let actions = coordinator(true).handle(Event::TookOver(partly), 0);
        assert!(
            matches!(actions.last(), Some(Action::FailJob(failure)) if failure.message.contains(SAVEPOINT)),
            "{actions:?}"
        );
    }

    #[test]
    fn a_stop_that_was_not_complete_comes_to_nothing_unless_event_time_has_ended_for_it() {
        for drains in [false, true] {
            let stopping = Takeover {
                stop_savepoint: 6,
                drains,
                ..takeover(6)
            };
            let actions = coordinator(false).handle(Event::TookOver(stopping), 0);
            assert_eq!(notified(&actions), [(5, true, 3), (6, false, 3)]);
            let fails = actions.iter().any(|action| matches!(action, Action::FailJob(_)));
            assert_eq!(fails, drains);
        }
    }
}
