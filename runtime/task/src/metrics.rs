//! What a task and its operators count.
//!
//! ```text
//!   task thread --relaxed add, once a batch--> counters --snapshot--> proto TaskMetrics
//!               --switch(activity, now)------> TimeShares (busy | idle | backpressured)
//! ```
//!
//! Only the task's thread writes. [`TimeShares`] has a lock, taken when the thread begins or ends a wait and never between
//! two batches that are there: so the three always sum to the time that passed, whenever they are read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thalweg_connectors::Gauge;
use thalweg_proto::control::v1 as control;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds; called once a batch.
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Replaces by a count kept elsewhere.
    pub(crate) fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a task's thread does. Flink's busy, idle and backpressured time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Works.
    Busy,
    /// Waits for input.
    Idle,
    /// Waits for room behind it: credit of a channel, or a sink.
    Backpressured,
}

/// Time spent in each [`Activity`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) busy: Duration,
    pub(crate) idle: Duration,
    pub(crate) backpressured: Duration,
}

impl Shares {
    fn add(&mut self, activity: Activity, time: Duration) {
        match activity {
            Activity::Busy => self.busy += time,
            Activity::Idle => self.idle += time,
            Activity::Backpressured => self.backpressured += time,
        }
    }

    fn total(&self) -> Duration {
        self.busy + self.idle + self.backpressured
    }
}

#[derive(Debug)]
struct Timeline {
    activity: Activity,
    since: Instant,
    spent: Shares,
    reported: Shares,
}

/// Splits a task's time by activity. Time comes in from outside.
#[derive(Debug)]
pub(crate) struct TimeShares(Mutex<Timeline>);

impl TimeShares {
    pub(crate) fn starting(now: Instant) -> Self {
        let none = Shares::default();
        Self(Mutex::new(Timeline {
            activity: Activity::Busy,
            since: now,
            spent: none,
            reported: none,
        }))
    }

    /// From `now` on the thread does this.
    pub(crate) fn switch(&self, activity: Activity, now: Instant) {
        let mut timeline = self.lock();
        settle(&mut timeline, now);
        timeline.activity = activity;
    }

    /// Time in each activity since the start, the current stretch included.
    #[cfg(test)]
    pub(crate) fn spent(&self, now: Instant) -> Shares {
        let mut timeline = self.lock();
        settle(&mut timeline, now);
        timeline.spent
    }

    /// Milliseconds a second in each activity since the last report: (busy, idle, backpressured), summing to 1000.
    pub(crate) fn report(&self, now: Instant) -> (f64, f64, f64) {
        let mut timeline = self.lock();
        settle(&mut timeline, now);
        let (spent, last) = (timeline.spent, timeline.reported);
        timeline.reported = spent;
        let interval = (spent.total() - last.total()).as_secs_f64();
        let rate = |now: Duration, before: Duration| {
            if interval > 0.0 {
                (now - before).as_secs_f64() / interval * 1000.0
            } else {
                0.0
            }
        };
        (
            rate(spent.busy, last.busy),
            rate(spent.idle, last.idle),
            rate(spent.backpressured, last.backpressured),
        )
    }

    fn lock(&self) -> MutexGuard<'_, Timeline> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn settle(timeline: &mut Timeline, now: Instant) {
    let time = now.saturating_duration_since(timeline.since);
    timeline.spent.add(timeline.activity, time);
    timeline.since = timeline.since.max(now);
}

/// One operator's counters.
#[derive(Debug)]
pub(crate) struct OperatorCounters {
    node: u32,
    operator_id: String,
    operator_name: String,
    pub(crate) records_in: Counter,
    pub(crate) records_out: Counter,
    gauges: Mutex<HashMap<String, f64>>,
}

impl OperatorCounters {
    pub(crate) fn new(node: u32, operator_id: String, operator_name: String) -> Self {
        Self {
            node,
            operator_id,
            operator_name,
            records_in: Counter::default(),
            records_out: Counter::default(),
            gauges: Mutex::default(),
        }
    }

    /// Shows what a connector said; from the task's thread, about once a second.
    pub(crate) fn publish(&self, gauges: Vec<Gauge>) {
        let named = gauges
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        *self.gauges.lock().unwrap_or_else(PoisonError::into_inner) = named;
    }

    fn snapshot(&self) -> control::OperatorMetrics {
        control::OperatorMetrics {
            node: self.node,
            operator_id: self.operator_id.clone(),
            operator_name: self.operator_name.clone(),
            records_in: self.records_in.get(),
            records_out: self.records_out.get(),
            gauges: self.gauges.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// One task's counters.
#[derive(Debug)]
pub(crate) struct TaskCounters {
    execution: control::ExecutionAttempt,
    task_name: String,
    pub(crate) records_in: Counter,
    pub(crate) records_out: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) batches_in: Counter,
    pub(crate) batches_out: Counter,
    pub(crate) times: TimeShares,
    operators: Vec<Arc<OperatorCounters>>,
}

impl TaskCounters {
    pub(crate) fn new(
        execution: control::ExecutionAttempt,
        task_name: String,
        operators: Vec<Arc<OperatorCounters>>,
        now: Instant,
    ) -> Self {
        Self {
            execution,
            task_name,
            records_in: Counter::default(),
            records_out: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            batches_in: Counter::default(),
            batches_out: Counter::default(),
            times: TimeShares::starting(now),
            operators,
        }
    }

    /// The counters of the chain's operators, in the chain's order.
    pub(crate) fn operators(&self) -> &[Arc<OperatorCounters>] {
        &self.operators
    }

    /// Counters since the start, time shares since the last snapshot.
    pub(crate) fn snapshot(&self, now: Instant) -> control::TaskMetrics {
        let (busy, idle, backpressured) = self.times.report(now);
        control::TaskMetrics {
            execution: Some(self.execution.clone()),
            task_name: self.task_name.clone(),
            records_in: self.records_in.get(),
            records_out: self.records_out.get(),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            batches_in: self.batches_in.get(),
            batches_out: self.batches_out.get(),
            busy_ms_per_second: busy,
            idle_ms_per_second: idle,
            backpressured_ms_per_second: backpressured,
            operators: self
                .operators
                .iter()
                .map(|operator| operator.snapshot())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_goes_on_counts_and_the_shares_sum_to_a_second() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let times = TimeShares::starting(start);
        times.switch(Activity::Idle, after(100));
        times.switch(Activity::Busy, after(300));
        times.switch(Activity::Backpressured, after(400));
        assert_eq!(times.report(after(1000)), (200.0, 200.0, 600.0));
        assert_eq!(times.report(after(3000)), (0.0, 0.0, 1000.0));
        assert_eq!(times.spent(after(3000)).total(), Duration::from_secs(3));
    }

    #[test]
    fn two_reports_at_one_moment_divide_nothing_by_zero() {
        let start = Instant::now();
        let times = TimeShares::starting(start);
        assert_eq!(times.report(start), (0.0, 0.0, 0.0));
    }

    #[test]
    fn a_clock_read_out_of_order_loses_no_time_and_counts_none_twice() {
        let start = Instant::now();
        let times = TimeShares::starting(start);
        times.spent(start + Duration::from_millis(10));
        times.switch(Activity::Idle, start + Duration::from_millis(5));
        assert_eq!(
            times.spent(start + Duration::from_millis(20)).total(),
            Duration::from_millis(20)
        );
    }
}
