//! A job of a few tasks that write consecutive numbers, each a share of them, and its checkpoints.

use std::future::Future;
use std::time::Duration;

use futures::future::{poll_fn, try_join_all};
use kafka_protocol::messages::ApiKey;
use thalweg_connectors::kafka::{DeliveryGuarantee, KafkaSinkBuilder};
use thalweg_connectors::{
    AttemptOrder, Committable, ConnectorContext, ConnectorError, RestoredConnector, Sink, SinkWriter,
};
use tokio::runtime::Runtime;

use crate::model::{Broker, Fault};
use crate::support::*;

/// Starts that may fail one after another: faults come one at a time, and a paused task disturbs once.
const STARTS: usize = 20;

/// What becomes of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is complete, and the tasks commit.
    Heard,
    /// It is complete, and no task has heard of it yet.
    Unheard,
    /// It is given up when the tasks have prepared.
    Declined,
}

/// What happens to a job.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Each task writes so many records.
    Write(i64),
    Checkpoint(Fate),
    /// All tasks are killed and start again, so many of them.
    Restart(u32),
    /// All tasks stand still, are given up, and are started elsewhere.
    Pause,
    /// Tasks that stood still go on writing, and see that they were given up.
    Wake,
    /// The attempt before the one that runs was held up on its way, and only starts now.
    StartLate,
    /// Something fails after so many requests.
    Fault(usize, Fault),
}

/// Why a task ends.
enum Stop {
    Killed,
    Failed(ConnectorError),
}

#[derive(Default, Clone)]
struct Checkpoint {
    position: i64,
    states: Vec<Vec<u8>>,
    prepared: Vec<Committable>,
}

struct Task {
    writer: Box<dyn SinkWriter>,
    prepared: Vec<Committable>,
}

pub(crate) struct Job<'a> {
    io: &'a Runtime,
    broker: Broker,
    complete: Checkpoint,
    tasks: Vec<Task>,
    parallelism: u32,
    position: i64,
    paused: Vec<Task>,
    /// Of what runs; the ones between are those that start late.
    attempt: u32,
    started_from: Checkpoint,
}

/// An exactly-once sink that waits for nothing.
pub(crate) fn sink_of(servers: &str, prefix: &str) -> KafkaSinkBuilder {
    sink(servers, "out")
        .delivery_guarantee(DeliveryGuarantee::ExactlyOnce)
        .transactional_id_prefix(prefix)
        .connect_timeout(Duration::from_secs(2))
        .property("linger.ms", "0")
        .property("retry.backoff.ms", "1")
        .property("reconnect.backoff.ms", "1")
        .property("reconnect.backoff.max.ms", "2")
        .property("delivery.timeout.ms", "5000")
}

impl<'a> Job<'a> {
    /// Runs the steps and a last checkpoint, and checks; what was asked of the broker.
    pub(crate) fn run(io: &'a Runtime, parallelism: u32, lag: usize, steps: &[Step]) -> Vec<ApiKey> {
        let mut job = Self {
            io,
            broker: Broker::start(io, 2, lag),
            complete: Checkpoint::default(),
            tasks: Vec::new(),
            parallelism,
            position: 0,
            paused: Vec::new(),
            attempt: 0,
            started_from: Checkpoint::default(),
        };
        job.start();
        for step in steps {
            if job.take(*step).is_err() {
                job.start();
            }
            job.check();
        }
        let mut ends = (0..STARTS).map(|_| {
            let ended = job
                .take(Step::Write(1))
                .and_then(|()| job.take(Step::Checkpoint(Fate::Heard)));
            if ended.is_err() {
                job.start();
            }
            ended
        });
        assert!(ends.any(|end| end.is_ok()), "the job never got to its end");
        drop(ends);
        job.end()
    }

    fn end(mut self) -> Vec<ApiKey> {
        self.tasks.clear();
        self.paused.clear();
        let mut broker = self.broker.lock();
        broker.expire();
        assert_eq!(
            broker.committed(),
            (0..self.complete.position).collect::<Vec<_>>()
        );
        std::mem::take(&mut broker.requests)
    }

    fn check(&self) {
        let seen = self.broker.lock().committed();
        assert!(
            seen.is_sorted_by(|left, right| left < right),
            "seen twice: {seen:?}"
        );
        let position = self.complete.position;
        assert!(
            seen.last().is_none_or(|last| *last < position),
            "seen before the checkpoint behind it, at {position}, was complete: {seen:?}"
        );
    }

    fn take(&mut self, step: Step) -> Result<(), Stop> {
        match step {
            Step::Write(rows) => self.write(rows),
            Step::Checkpoint(fate) => self.checkpoint(fate),
            Step::Restart(parallelism) => {
                self.parallelism = parallelism;
                self.start();
                Ok(())
            }
            Step::Pause => {
                self.stand_still();
                self.paused.append(&mut self.tasks);
                self.start();
                Ok(())
            }
            Step::Wake => {
                self.wake();
                Ok(())
            }
            Step::StartLate => {
                self.start_late();
                Ok(())
            }
            Step::Fault(after, fault) => {
                self.broker.lock().arm(after, fault);
                Ok(())
            }
        }
    }

    /// Starts all tasks from the newest complete checkpoint, until they have committed what it holds.
    fn start(&mut self) {
        for _ in 0..STARTS {
            self.tasks.clear();
            self.position = self.complete.position;
            self.started_from = self.complete.clone();
            self.attempt += 2;
            self.tasks = self.attempt(self.attempt);
            match self.commit() {
                Ok(()) => return,
                Err(Stop::Killed | Stop::Failed(ConnectorError::Unavailable(_))) => {}
                Err(Stop::Failed(error)) => panic!("{error}"),
            }
        }
        panic!("the job never got up");
    }

    fn attempt(&self, attempt: u32) -> Vec<Task> {
        let subtasks = 0..self.parallelism;
        subtasks.map(|subtask| self.task(subtask, attempt)).collect()
    }

    fn task(&self, subtask: u32, attempt: u32) -> Task {
        let share = self.started_from.prepared.iter().skip(subtask as usize);
        let prepared: Vec<_> = share.step_by(self.parallelism as usize).cloned().collect();
        let context = ConnectorContext {
            checkpointing: true,
            restored: Some(RestoredConnector {
                checkpoint_id: 1,
                states: self.started_from.states.clone(),
                committables: prepared.clone(),
            }),
            attempt: AttemptOrder {
                attempt,
                ..AttemptOrder::default()
            },
            ..context(self.io, subtask, self.parallelism)
        };
        let sink = sink_of(&self.broker.servers, "job").build().unwrap();
        Task {
            writer: sink.create_writer(context).unwrap(),
            prepared,
        }
    }

    fn write(&mut self, rows: i64) -> Result<(), Stop> {
        for task in &mut self.tasks {
            let batch = numbers(self.position..self.position + rows);
            let writer = task.writer.as_mut();
            until_killed(self.io, &self.broker, async {
                let mut written = 0;
                while written < batch.num_rows() {
                    poll_fn(|cx| writer.poll_ready(cx)).await?;
                    written += writer.write(&batch.slice(written, batch.num_rows() - written))?;
                }
                Ok(())
            })?;
            self.position += rows;
        }
        Ok(())
    }

    fn checkpoint(&mut self, fate: Fate) -> Result<(), Stop> {
        let mut checkpoint = Checkpoint {
            position: self.position,
            ..Checkpoint::default()
        };
        for task in &mut self.tasks {
            let writer = task.writer.as_mut();
            until_killed(self.io, &self.broker, poll_fn(|cx| writer.poll_flush(cx, false)))?;
            task.prepared
                .extend(writer.prepare_commit(1).map_err(Stop::Failed)?);
            checkpoint
                .states
                .extend(writer.snapshot(1).map_err(Stop::Failed)?);
            checkpoint.prepared.extend(task.prepared.iter().cloned());
        }
        if fate != Fate::Declined {
            self.complete = checkpoint;
        }
        match fate {
            Fate::Heard => self.commit(),
            Fate::Unheard | Fate::Declined => Ok(()),
        }
    }

    /// All tasks commit what they hold.
    fn commit(&mut self) -> Result<(), Stop> {
        let commits = self.tasks.iter_mut().filter(|task| !task.prepared.is_empty());
        let commits = commits.map(|task| {
            let Task { writer, prepared } = task;
            poll_fn(move |cx| writer.poll_commit(cx, prepared))
        });
        let committed = async { try_join_all(commits).await.map(drop) };
        until_killed(self.io, &self.broker, committed)?;
        self.tasks.iter_mut().for_each(|task| task.prepared.clear());
        Ok(())
    }

    /// Waits until the tasks have what they need and ask nothing any more.
    fn stand_still(&self) {
        within(self.io, async {
            let mut asked = None;
            while asked != Some(self.broker.lock().requests.len()) {
                asked = Some(self.broker.lock().requests.len());
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        });
    }

    fn wake(&mut self) {
        let paused = std::mem::take(&mut self.paused);
        self.disturb(paused);
    }

    fn start_late(&mut self) {
        let late = self.attempt(self.attempt - 1);
        self.disturb(late);
    }

    /// Tasks that do not know that they were given up.
    fn disturb(&self, tasks: Vec<Task>) {
        for mut task in tasks {
            // it may find out, or not
            let _ = write(self.io, task.writer.as_mut(), &numbers(-9..-6));
            let _ = flush(self.io, task.writer.as_mut());
        }
    }
}

fn until_killed<T>(
    io: &Runtime,
    broker: &Broker,
    work: impl Future<Output = Result<T, ConnectorError>>,
) -> Result<T, Stop> {
    within(io, async {
        tokio::select! {
            biased;
            () = broker.killed() => Err(Stop::Killed),
            done = work => done.map_err(Stop::Failed),
        }
    })
}
