//! How tasks end when they do not finish: cancels, failures, panics, deployments that do not fit.

use std::sync::atomic::Ordering;

use thalweg_connectors::CollectionSource;
use thalweg_operators::OperatorError;
use thalweg_types::FailureClass;

use super::*;
use crate::plan::execution_id;
use crate::program::NodeFactory;
use crate::testkit::*;

fn one_row() -> NodeFactory {
    ScriptedSource::new(vec![rows(0..1)], Then::End).node()
}

/// Runs source -> operator -> sink and returns how it failed.
fn failure_of(operator: NodeFactory) -> control::Failure {
    let sink = CollectSink::default();
    let mut process = Process::start(program(
        vec![(1, one_row()), (2, operator), (3, sink.node())],
        &[],
    ));
    process.deploy(&[deployment(&vertex(&[1, 2, 3], 1), 0)]);
    failure(&process.await_ends(1))
}

#[test]
fn an_idle_task_is_canceled_and_closes_its_reader() {
    let source = ScriptedSource::new(vec![rows(0..1)], Then::Wait);
    let open = source.open.clone();
    let sink = CollectSink::default();
    let mut process = Process::start(program(vec![(1, source.node()), (2, sink.node())], &[]));
    let vertex = vertex(&[1, 2], 1);
    process.deploy(&[deployment(&vertex, 0)]);
    eventually("the row", || sink.values() == [0]);
    process.executor.metrics();
    eventually("idle time", || {
        process.executor.metrics()[0].idle_ms_per_second > 0.0
    });
    let running = process.executor.running();
    assert_eq!(running.len(), 1);
    assert_eq!(running[0].state(), TaskState::Running);
    assert!(
        process
            .executor
            .cancel(&execution_id(&attempt(&vertex, 0)).unwrap())
    );
    assert_eq!(end_states(&process.await_ends(1)), [TaskState::Canceled]);
    assert_eq!(open.load(Ordering::SeqCst), 0);
    assert!(
        !process
            .executor
            .cancel(&execution_id(&attempt(&vertex, 0)).unwrap())
    );
}

#[test]
fn a_backpressured_task_is_canceled() {
    let source = ScriptedSource::new(vec![rows(0..1)], Then::Repeat);
    let sink = CollectSink::closed();
    let mut process = Process::start(program(vec![(1, source.node()), (2, sink.node())], &[]));
    process.deploy(&[deployment(&vertex(&[1, 2], 1), 0)]);
    eventually("backpressure", || sink.holds_someone_up());
    process.executor.cancel_all();
    assert_eq!(end_states(&process.await_ends(1)), [TaskState::Canceled]);
    assert_eq!(sink.flushed(), 0);
}

#[test]
fn an_operator_with_endless_output_is_canceled_between_two_outputs() {
    let sink = CollectSink::default();
    let mut process = Process::start(program(
        vec![(1, one_row()), (2, endless()), (3, sink.node())],
        &[],
    ));
    process.deploy(&[deployment(&vertex(&[1, 2, 3], 1), 0)]);
    eventually("output", || sink.written().len() > 10);
    process.executor.cancel_all();
    assert_eq!(end_states(&process.await_ends(1)), [TaskState::Canceled]);
}

#[test]
fn dropping_the_executor_cancels_its_tasks() {
    let source = ScriptedSource::new(vec![rows(0..1)], Then::Wait);
    let open = source.open.clone();
    let sink = CollectSink::default();
    let mut process = Process::start(program(vec![(1, source.node()), (2, sink.node())], &[]));
    process.deploy(&[deployment(&vertex(&[1, 2], 1), 0)]);
    process.await_state(TaskState::Running);
    drop(process);
    eventually("the reader's end", || open.load(Ordering::SeqCst) == 0);
}

#[test]
fn an_operators_error_fails_the_task_with_its_class_and_words() {
    let failing = operator(|_, _| {
        Err(OperatorError::Value {
            operator: "Sum".to_owned(),
            message: "9223372036854775807 + 1 overflows".to_owned(),
        })
    });
    let failure = failure_of(failing);
    assert_eq!(failure.message, "Sum: 9223372036854775807 + 1 overflows");
    assert_eq!(failure.class(), control::FailureClass::Retryable);
}

#[test]
fn a_panic_fails_the_task_with_its_message_its_thread_and_its_place() {
    let failure = failure_of(operator(|_, batch| {
        panic!("no luck with {} row", batch.num_rows())
    }));
    assert_eq!(
        failure.message,
        "node 1 -> node 2 -> node 3 (1/1) panicked in node 2: no luck with 1 row"
    );
    assert_eq!(failure.class(), control::FailureClass::Retryable);
    assert!(
        failure.detail.contains("thread \"node 1 -> node 2"),
        "{}",
        failure.detail
    );
    assert!(failure.detail.contains("ends.rs"), "{}", failure.detail);
}

#[test]
fn an_operator_that_cannot_be_made_fails_the_task_before_it_runs() {
    let broken = NodeFactory::Operator(Arc::new(|context| {
        Err(OperatorError::Input {
            operator: context.operator_name.to_string(),
            message: "no column k".to_owned(),
        })
    }));
    let failure = failure_of(broken);
    assert!(
        failure.message.contains("node 2 can't be started"),
        "{}",
        failure.message
    );
    assert!(failure.message.contains("no column k"), "{}", failure.message);
    assert_eq!(failure.class(), control::FailureClass::Bug);
}

#[test]
fn a_panic_while_operators_are_made_is_a_failure_too() {
    let failure = failure_of(NodeFactory::Operator(Arc::new(|_| panic!("in the factory"))));
    assert!(
        failure
            .message
            .ends_with("panicked while node 2 was being restored: in the factory"),
        "{}",
        failure.message
    );
}

#[test]
fn a_two_phase_sink_without_checkpoints_commits_at_the_end_of_its_input() {
    let sink = CollectSink::in_two_phases();
    let source = ScriptedSource::new(vec![rows(0..3), rows(3..5)], Then::End);
    let mut process = Process::start(program(vec![(1, source.node()), (2, sink.node())], &[]));
    process.deploy(&[deployment(&vertex(&[1, 2], 1), 0)]);
    assert_eq!(end_states(&process.await_ends(1)), [TaskState::Finished]);
    assert_eq!(sink.committed(), [0, 1, 2, 3, 4]);
}

#[test]
fn the_same_attempt_is_not_deployed_twice() {
    let source = ScriptedSource::new(vec![], Then::Wait);
    let sink = CollectSink::default();
    let process = Process::start(program(vec![(1, source.node()), (2, sink.node())], &[]));
    let deployment = deployment(&vertex(&[1, 2], 1), 0);
    process.deploy(std::slice::from_ref(&deployment));
    let error = process.executor.deploy(&deployment).unwrap_err();
    assert!(matches!(error, TaskError::AlreadyRunning { .. }), "{error}");
}

#[test]
fn errors_behind_a_cancel_are_no_failures() {
    let error = || {
        Err(TaskError::Configuration {
            message: "x".to_owned(),
        })
    };
    assert_eq!(verdict(error(), true), (TaskState::Canceled, None, None));
    let (state, failure, _) = verdict(error(), false);
    assert_eq!(
        (state, failure.unwrap().class),
        (TaskState::Failed, FailureClass::Fatal)
    );
    let finished = verdict(Ok(Ending::Finished(None)), true);
    assert_eq!(finished, (TaskState::Finished, None, None));
}

#[test]
fn a_record_that_user_code_fails_on_is_told_by_its_place_in_the_source() {
    let failing = operator(|_, _| {
        Err(OperatorError::UserPanic {
            operator: "Parse".to_owned(),
            message: "no luck".to_owned(),
        })
    });
    for (operator, what) in [
        (failing, "user function of Parse panicked: no luck"),
        (
            operator(|_, _| panic!("no luck")),
            "node 1 -> node 2 -> node 3 (1/1) panicked in node 2: no luck",
        ),
    ] {
        let source = CollectionSource::from_elements(rows(0..10).rows);
        let source = NodeFactory::Source(Arc::new(source));
        let sink = CollectSink::default();
        let nodes = vec![(1, source), (2, operator), (3, sink.node())];
        let mut process = Process::start(program(nodes, &[]));
        process.deploy(&[deployment(&vertex(&[1, 2, 3], 1), 0)]);
        let failure = failure(&process.await_ends(1));
        let place = "node 1 -> node 2 -> node 3 (1/1) was working on indices 0..10";
        assert_eq!(failure.message, format!("{what}; {place}"));
        assert_eq!(failure.class(), control::FailureClass::Retryable);
    }
}

#[test]
fn behind_an_exchange_the_sender_and_the_batch_are_told() {
    let sink = CollectSink::default();
    let source = ScriptedSource::new(vec![rows(0..7)], Then::End);
    let failing = operator(|_, _| panic!("no luck"));
    let mut process = Process::start(program(
        vec![(1, source.node()), (2, failing), (3, sink.node())],
        &[],
    ));
    let (from, to) = (vertex(&[1], 1), vertex(&[2, 3], 1));
    let (mut senders, mut receivers) = ([deployment(&from, 0)], [deployment(&to, 0)]);
    let rebalance = edge(1, 1, 2, 0, thalweg_proto::graph::v1::Partitioner::Rebalance);
    let address = process.address.clone();
    connect(&rebalance, (&from, &mut senders), (&to, &mut receivers), |_| {
        address.clone()
    });
    process.deploy(&senders);
    process.deploy(&receivers);
    let ends = process.await_ends(1);
    let failed = ends
        .iter()
        .find_map(|end| end.update.failure.clone())
        .or_else(|| {
            let ends = process.await_ends(2);
            ends.iter().find_map(|end| end.update.failure.clone())
        });
    assert_eq!(
        failed.unwrap().message,
        "node 2 -> node 3 (1/1) panicked in node 2: no luck; node 2 -> node 3 (1/1) was working on 7 rows from subtask 0 of node 1"
    );
}
