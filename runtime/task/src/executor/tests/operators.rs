//! What operators can ask of the task: the clock, side outputs, idleness, time for what happens outside.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use thalweg_operators::{Operator, OperatorError, OutputLimit};
use thalweg_proto::graph::v1::Partitioner;
use thalweg_types::StreamBatch;

use super::*;
use crate::program::NodeFactory;
use crate::testkit::*;

/// Gives each row when the clock shows it.
#[derive(Default)]
struct AtTime {
    waiting: Vec<i64>,
    due: VecDeque<i64>,
}

impl Operator for AtTime {
    fn push(&mut self, _: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        self.waiting.extend(values(&batch));
        Ok(())
    }

    fn poll_output(&mut self, _: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        Ok(self.due.pop_front().map(|row| rows([row])))
    }

    fn next_processing_time(&self) -> Option<i64> {
        self.waiting.iter().copied().min()
    }

    fn on_processing_time(&mut self, now_ms: i64) -> Result<(), OperatorError> {
        let (due, waiting): (Vec<_>, _) = self.waiting.drain(..).partition(|time| *time <= now_ms);
        self.due.extend(due);
        self.waiting = waiting;
        Ok(())
    }
}

#[test]
fn a_timer_fires_when_the_clock_has_reached_it() {
    let time = Arc::new(AtomicI64::new(0));
    let settings = ExecutorSettings {
        clock: Clock::manual(time.clone()),
        ..ExecutorSettings::default()
    };
    let source = ScriptedSource::new(vec![rows([20, 10]), rows([15])], Then::Wait);
    let taken = source.taken.clone();
    let sink = CollectSink::default();
    let timed = NodeFactory::Operator(Arc::new(|_| Ok(Box::<AtTime>::default())));
    let program = program(vec![(1, source.node()), (2, timed), (3, sink.node())], &[]);
    let mut process = Process::start_with(&io(), program, settings);
    process.deploy(&[deployment(&vertex(&[1, 2, 3], 1), 0)]);
    eventually("all rows", || taken.load(Ordering::SeqCst) == 3);
    time.store(15, Ordering::SeqCst);
    eventually("two timers", || sink.sorted_values() == [10, 15]);
    time.store(20, Ordering::SeqCst);
    eventually("the last", || sink.sorted_values() == [10, 15, 20]);
    process.executor.cancel_all();
    process.await_ends(1);
}

/// Even rows go on, odd ones to side output 1, those above 100 to side output 2.
#[derive(Default)]
struct Split {
    main: VecDeque<StreamBatch>,
    sides: VecDeque<(u32, StreamBatch)>,
}

impl Operator for Split {
    fn push(&mut self, _: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        let all = values(&batch);
        let of = |keep: fn(&i64) -> bool| rows(all.iter().copied().filter(keep));
        let mut main = of(|n| n % 2 == 0 && *n <= 100);
        let end = main.num_rows() as u32;
        let last = batch.watermarks.last().map(|cut| (end, cut.timestamp_ms));
        main = with_watermarks(main, last.as_slice());
        self.main.push_back(main);
        for (side, rows) in [(1, of(|n| n % 2 == 1 && *n <= 100)), (2, of(|n| *n > 100))] {
            if rows.num_rows() > 0 {
                self.sides.push_back((side, rows));
            }
        }
        Ok(())
    }

    fn poll_output(&mut self, _: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        Ok(self.main.pop_front())
    }

    fn poll_side_output(&mut self) -> Option<(u32, StreamBatch)> {
        self.sides.pop_front()
    }
}

fn split() -> NodeFactory {
    NodeFactory::Operator(Arc::new(|_| Ok(Box::<Split>::default())))
}

#[test]
fn side_outputs_go_where_they_belong_with_the_watermarks_of_the_main_output() {
    let batches = vec![
        with_watermarks(rows(0..6), &[(6, 5)]),
        rows([200]),
        with_watermarks(rows([201, 8, 9]), &[(3, 9)]),
    ];
    let (main, odd, large) = (
        CollectSink::default(),
        CollectSink::taking(2),
        CollectSink::default(),
    );
    let source = ScriptedSource::new(batches, Then::End);
    let nodes = vec![
        (1, source.node()),
        (2, split()),
        (3, main.node()),
        (4, odd.node()),
        (5, large.node()),
    ];
    let program = program(nodes, &[]);
    // The odd rows stay in the chain, the large ones leave it.
    let mut head = vertex(&[1, 2, 3, 4], 1);
    head.chained_edges = vec![
        edge(90, 1, 2, 0, Partitioner::Forward),
        edge(91, 2, 3, 0, Partitioner::Forward),
        edge(92, 2, 4, 0, Partitioner::Forward),
    ];
    head.chained_edges[2].side_output = 1;
    let mut leaving = edge(1, 2, 5, 0, Partitioner::Forward);
    leaving.side_output = 2;
    let tail = vertex(&[5], 1);
    let (mut heads, mut tails) = ([deployment(&head, 0)], [deployment(&tail, 0)]);
    let mut process = Process::start(program);
    let address = process.address.clone();
    connect(&leaving, (&head, &mut heads), (&tail, &mut tails), |_| {
        address.clone()
    });
    process.deploy(&tails);
    process.deploy(&heads);
    assert_eq!(end_states(&process.await_ends(2)), [TaskState::Finished; 2]);
    assert_eq!(main.values(), [0, 2, 4, 8]);
    assert_eq!(odd.values(), [1, 3, 5, 9]);
    assert_eq!(large.values(), [200, 201]);
    assert_eq!(main.watermarks(), [5, 9, i64::MAX]);
    assert_eq!(odd.watermarks(), main.watermarks());
    // The first watermark came before the first row, when the side output counted as idle.
    assert_eq!(large.watermarks().last(), Some(&i64::MAX));
    assert!(!large.watermarks().contains(&5));
}

/// Answers from outside: a row comes out when the test says so; at most two are under way.
#[derive(Clone, Default)]
struct Outside {
    asked: Arc<Mutex<VecDeque<i64>>>,
    answered: Arc<Mutex<VecDeque<i64>>>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Outside {
    fn answer(&self) -> bool {
        let Some(row) = self.asked.lock().unwrap().pop_front() else {
            return false;
        };
        self.answered.lock().unwrap().push_back(row);
        self.waker.lock().unwrap().iter().for_each(Waker::wake_by_ref);
        true
    }
}

struct Async {
    outside: Outside,
    ended: bool,
}

impl Operator for Async {
    fn push(&mut self, _: usize, batch: StreamBatch) -> Result<(), OperatorError> {
        let mut asked = self.outside.asked.lock().unwrap();
        assert!(asked.len() < 2, "pushed without room");
        asked.extend(values(&batch));
        Ok(())
    }

    fn poll_output(&mut self, _: OutputLimit) -> Result<Option<StreamBatch>, OperatorError> {
        Ok(self
            .outside
            .answered
            .lock()
            .unwrap()
            .pop_front()
            .map(|row| rows([row])))
    }

    fn end_input(&mut self, _: usize) -> Result<(), OperatorError> {
        self.ended = true;
        Ok(())
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), OperatorError>> {
        *self.outside.waker.lock().unwrap() = Some(cx.waker().clone());
        let answered = !self.outside.answered.lock().unwrap().is_empty();
        let under_way = self.outside.asked.lock().unwrap().len();
        let room = if self.ended { under_way == 0 } else { under_way < 2 };
        if answered || room {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }
}

#[test]
fn an_operator_that_waits_for_answers_holds_rows_up_and_ends_when_all_have_come() {
    let outside = Outside::default();
    let node = {
        let outside = outside.clone();
        NodeFactory::Operator(Arc::new(move |_| {
            Ok(Box::new(Async {
                outside: outside.clone(),
                ended: false,
            }))
        }))
    };
    let source = ScriptedSource::new((0..5).map(|n| rows([n])).collect(), Then::End);
    let sink = CollectSink::default();
    let mut process = Process::start(program(
        vec![(1, source.node()), (2, node), (3, sink.node())],
        &[],
    ));
    process.deploy(&[deployment(&vertex(&[1, 2, 3], 1), 0)]);
    eventually("two questions", || outside.asked.lock().unwrap().len() == 2);
    for row in 0..5 {
        eventually("a question", || outside.answer());
        eventually("its answer", || sink.values().len() == row + 1);
    }
    assert_eq!(end_states(&process.await_ends(1)), [TaskState::Finished]);
    assert_eq!(sink.values(), [0, 1, 2, 3, 4]);
}
