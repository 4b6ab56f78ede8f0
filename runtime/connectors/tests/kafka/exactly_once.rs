//! The exactly-once sink as its tasks drive it, against a broker that fails at any request and writers that are killed, paused and
//! started again with another parallelism.
//!
//! ```text
//!   steps -> job: tasks with real writers -> model of a broker with faults
//!              '-- a task fails, or is killed: all start again from the newest complete checkpoint
//! ```
//!
//! Invariants, checked behind each step: no record is seen twice, and none before the checkpoint behind it is complete. At the end each
//! record is seen.

mod job;

use futures::future::poll_fn;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use proptest::prelude::*;
use thalweg_connectors::kafka::ExpiredTransaction;
use thalweg_connectors::{AttemptOrder, Committable, ConnectorError, RestoredConnector, Sink, SinkWriter};
use tokio::runtime::Runtime;

use self::job::{Fate, Job, Step, sink_of};
use crate::model::{Broker, Fault};
use crate::support::*;

/// A bit of everything, for faults at each of its requests.
const LIFE: [Step; 13] = [
    Step::Write(3),
    Step::Checkpoint(Fate::Heard),
    Step::Write(5),
    Step::Checkpoint(Fate::Unheard),
    Step::Write(1),
    Step::Checkpoint(Fate::Declined),
    Step::Write(2),
    Step::Checkpoint(Fate::Heard),
    Step::Write(4),
    Step::Checkpoint(Fate::Unheard),
    Step::Restart(1),
    Step::Write(2),
    Step::Checkpoint(Fate::Heard),
];

#[test]
fn each_record_is_seen_once_whatever_fails_at_any_request() {
    let io = runtime();
    let quiet = Job::run(&io, 1, 0, &LIFE);
    assert!(quiet.contains(&ApiKey::EndTxn) && quiet.contains(&ApiKey::ListTransactions));
    for fault in Fault::ALL {
        for after in 0..quiet.len() {
            let steps = [&[Step::Fault(after, fault)], &LIFE[..]].concat();
            Job::run(&io, 1, after % 3, &steps);
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let fault = (0..25_usize, prop::sample::select(&Fault::ALL[..]));
    prop_oneof![
        5 => (1..9_i64).prop_map(Step::Write),
        3 => Just(Step::Checkpoint(Fate::Heard)),
        1 => Just(Step::Checkpoint(Fate::Unheard)),
        1 => Just(Step::Checkpoint(Fate::Declined)),
        1 => (1..4_u32).prop_map(Step::Restart),
        1 => Just(Step::Pause),
        1 => Just(Step::Wake),
        1 => Just(Step::StartLate),
        3 => fault.prop_map(|(after, fault)| Step::Fault(after, fault)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn each_record_is_seen_once_whatever_happens(
        parallelism in 1..4_u32,
        lag in 0..6_usize,
        steps in prop::collection::vec(step(), 1..30),
    ) {
        Job::run(&runtime(), parallelism, lag, &steps);
    }
}

/// A writer that has prepared the numbers 0 to 9 for a checkpoint that is complete, and was killed.
fn prepared(io: &Runtime, broker: &Broker) -> Vec<Committable> {
    let mut writer = start(io, broker, "job", Vec::new(), ExpiredTransaction::FailJob);
    write(io, writer.as_mut(), &numbers(0..10)).unwrap();
    flush(io, writer.as_mut()).unwrap();
    writer.prepare_commit(1).unwrap()
}

fn start(
    io: &Runtime,
    broker: &Broker,
    prefix: &str,
    committables: Vec<Committable>,
    expired: ExpiredTransaction,
) -> Box<dyn SinkWriter> {
    let restored = RestoredConnector {
        checkpoint_id: 1,
        states: Vec::new(),
        committables,
    };
    let context = thalweg_connectors::ConnectorContext {
        checkpointing: true,
        restored: Some(restored),
        ..context(io, 0, 1)
    };
    let sink = sink_of(&broker.servers, prefix).on_expired_transaction(expired);
    sink.build().unwrap().create_writer(context).unwrap()
}

fn commit(io: &Runtime, writer: &mut dyn SinkWriter, prepared: &[Committable]) -> Result<(), ConnectorError> {
    within(io, poll_fn(|cx| writer.poll_commit(cx, prepared)))
}

/// What a job that is restored hears about what was prepared.
fn restored(io: &Runtime, broker: &Broker, prepared: &[Committable]) -> Result<(), ConnectorError> {
    let mut writer = start(io, broker, "job", prepared.to_vec(), ExpiredTransaction::FailJob);
    commit(io, writer.as_mut(), prepared)
}

#[test]
fn a_transaction_that_expired_fails_the_restore_with_its_records_and_is_left_out_if_the_user_says_so() {
    let io = runtime();
    let broker = Broker::start(&io, 1, 0);
    let prepared = prepared(&io, &broker);
    broker.lock().expire();
    for _ in 0..2 {
        let error = restored(&io, &broker, &prepared).unwrap_err();
        assert!(matches!(error, ConnectorError::Refused(_)), "{error}");
        let expected = "Kafka topic \"out\" partition 0 offsets 0..=9: the brokers have aborted transaction \"job-0-0.0.0-0\"";
        assert!(error.to_string().starts_with(expected), "{error}");
        let way_on = "by the sink's `on_expired_transaction(ExpiredTransaction::Skip)`";
        assert!(error.to_string().contains(way_on), "{error}");
    }
    let mut writer = start(&io, &broker, "job", prepared.clone(), ExpiredTransaction::Skip);
    commit(&io, writer.as_mut(), &prepared).unwrap();
    let gauges = writer.gauges();
    assert_eq!(
        [
            "failedCommittables",
            "successfulCommittables",
            "pendingCommittables"
        ]
        .map(|name| gauge(&gauges, name)),
        [1.0, 0.0, 0.0]
    );
    write(&io, writer.as_mut(), &numbers(10..20)).unwrap();
    flush(&io, writer.as_mut()).unwrap();
    let next = writer.prepare_commit(2).unwrap();
    commit(&io, writer.as_mut(), &next).unwrap();
    broker.lock().settle();
    assert_eq!(broker.lock().committed(), (10..20).collect::<Vec<_>>());
}

#[test]
fn a_coordinator_that_has_forgotten_the_id_is_no_loss_while_the_log_shows_the_records() {
    let io = runtime();
    let broker = Broker::start(&io, 1, 0);
    let prepared = prepared(&io, &broker);
    restored(&io, &broker, &prepared).unwrap();
    broker.lock().forget_ids();
    restored(&io, &broker, &prepared).unwrap();
    assert_eq!(broker.lock().committed(), (0..10).collect::<Vec<_>>());
}

#[test]
fn records_that_retention_has_removed_are_no_loss() {
    let io = runtime();
    let broker = Broker::start(&io, 2, 0);
    let prepared = prepared(&io, &broker);
    restored(&io, &broker, &prepared).unwrap();
    broker.lock().forget_ids();
    broker.lock().remove_records();
    restored(&io, &broker, &prepared).unwrap();
}

#[test]
fn records_of_which_a_topic_that_was_made_anew_knows_nothing_are_never_taken_as_committed() {
    let io = runtime();
    let broker = Broker::start(&io, 1, 0);
    let prepared = prepared(&io, &broker);
    restored(&io, &broker, &prepared).unwrap();
    broker.lock().forget_ids();
    broker.lock().make_topic_anew();
    let error = restored(&io, &broker, &prepared).unwrap_err();
    assert!(matches!(error, ConnectorError::Refused(_)), "{error}");
    let error = error.to_string();
    assert!(
        error.starts_with("Kafka topic \"out\" partition 0 offsets 0..=9: brokers"),
        "{error}"
    );
    assert!(
        error.contains("partition 0 ends at offset 0, so it was made anew or has lost records"),
        "{error}"
    );
}

#[test]
fn what_another_parallelism_and_a_longer_pool_left_open_is_aborted_and_foreign_transactions_are_not() {
    let io = runtime();
    let broker = Broker::start(&io, 1, 0);
    let mut left = Vec::new();
    for subtask in 0..3 {
        let context = thalweg_connectors::ConnectorContext {
            checkpointing: true,
            ..context(&io, subtask, 3)
        };
        let sink = sink_of(&broker.servers, "job").build().unwrap();
        let mut writer = sink.create_writer(context).unwrap();
        // three prepared and never committed, and a fourth one open
        for round in 0..4 {
            write(&io, writer.as_mut(), &numbers(round..round + 1)).unwrap();
            flush(&io, writer.as_mut()).unwrap();
            if round < 3 {
                assert_eq!(writer.prepare_commit(round as u64).unwrap().len(), 1);
            }
        }
        left.push(writer);
    }
    let mut foreign = start(&io, &broker, "job-2", Vec::new(), ExpiredTransaction::FailJob);
    write(&io, foreign.as_mut(), &numbers(0..1)).unwrap();
    flush(&io, foreign.as_mut()).unwrap();
    assert_eq!(broker.lock().open().len(), 13);
    left.clear();
    let mut writer = start(&io, &broker, "job", Vec::new(), ExpiredTransaction::FailJob);
    write(&io, writer.as_mut(), &numbers(7..8)).unwrap();
    flush(&io, writer.as_mut()).unwrap();
    assert_eq!(broker.lock().open(), ["job-0-0.0.0-0", "job-2-0-0.0.0-0"]);
}

#[test]
fn a_writer_that_was_replaced_takes_nothing_back_from_the_one_that_replaced_it() {
    let io = runtime();
    let broker = Broker::start(&io, 1, 0);
    let mut old = start(&io, &broker, "job", Vec::new(), ExpiredTransaction::FailJob);
    let mut position = 0;
    let mut round = |writer: &mut dyn SinkWriter| -> Result<Vec<Committable>, ConnectorError> {
        write(&io, writer, &numbers(position..position + 1))?;
        position += 1;
        flush(&io, writer)?;
        writer.prepare_commit(1)
    };
    for _ in 0..4 {
        let prepared = round(old.as_mut()).unwrap();
        commit(&io, old.as_mut(), &prepared).unwrap();
    }
    let mut new = start(&io, &broker, "job", Vec::new(), ExpiredTransaction::FailJob);
    let mut prepared = Vec::new();
    for _ in 0..3 {
        prepared.extend(round(new.as_mut()).unwrap());
    }
    // it wakes up and goes on with the ids that it had
    let error = (0..9).find_map(|_| round(old.as_mut()).err()).unwrap();
    assert!(
        error.to_string().contains(
            "another job or sink uses the same `transactional_id_prefix` (\"job\"): give each sink its own"
        ),
        "{error}"
    );
    commit(&io, new.as_mut(), &prepared).unwrap();
    broker.lock().settle();
    assert_eq!(broker.lock().committed(), [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn an_attempt_that_starts_late_takes_nothing_from_a_later_one_which_puts_away_what_it_left() {
    let io = runtime();
    let broker = Broker::start(&io, 1, 0);
    let attempt = |attempt: u32| {
        let context = thalweg_connectors::ConnectorContext {
            checkpointing: true,
            attempt: AttemptOrder {
                attempt,
                ..AttemptOrder::default()
            },
            ..context(&io, 0, 1)
        };
        let sink = sink_of(&broker.servers, "job").build().unwrap();
        sink.create_writer(context).unwrap()
    };
    let put = |writer: &mut dyn SinkWriter, number: i64| {
        write(&io, writer, &numbers(number..number + 1)).unwrap();
        flush(&io, writer).unwrap();
    };
    let mut newer = attempt(2);
    put(newer.as_mut(), 0);
    let prepared = newer.prepare_commit(1).unwrap();
    put(newer.as_mut(), 1);
    // both were told to start at the same time, and this one was slow
    let mut older = attempt(1);
    put(older.as_mut(), -1);
    commit(&io, newer.as_mut(), &prepared).unwrap();
    put(newer.as_mut(), 2);
    let prepared = newer.prepare_commit(2).unwrap();
    commit(&io, newer.as_mut(), &prepared).unwrap();
    broker.lock().settle();
    assert_eq!(broker.lock().open(), ["job-0-0.0.1-0"]);
    put(attempt(3).as_mut(), 3);
    assert_eq!(broker.lock().open(), ["job-0-0.0.3-0"]);
    assert!(
        write(&io, older.as_mut(), &numbers(-1..0))
            .and_then(|()| flush(&io, older.as_mut()))
            .is_err()
    );
    broker.lock().settle();
    assert_eq!(broker.lock().committed(), [0, 1, 2]);
}

#[test]
fn the_next_transactions_identity_is_there_before_the_barrier() {
    let io = runtime();
    let broker = Broker::start(&io, 1, 0);
    let mut writer = start(&io, &broker, "job", Vec::new(), ExpiredTransaction::FailJob);
    write(&io, writer.as_mut(), &numbers(0..1)).unwrap();
    flush(&io, writer.as_mut()).unwrap();
    broker.lock().ids_busy = true;
    writer.prepare_commit(1).unwrap();
    write(&io, writer.as_mut(), &numbers(1..2)).unwrap();
    flush(&io, writer.as_mut()).unwrap();
    assert_eq!(broker.lock().open().len(), 2);
}

#[test]
fn a_writer_that_gets_its_ids_only_long_after_its_start_takes_none() {
    let io = runtime();
    let broker = Broker::start(&io, 1, 0);
    broker.lock().ids_busy = true;
    let error = refusal(&io, &broker);
    assert!(matches!(error, ConnectorError::Unavailable(_)), "{error}");
    let expected = format!(
        "was not got from brokers {} within 2s of the start",
        broker.servers
    );
    assert!(error.to_string().contains(&expected), "{error}");
}

/// The failure of a writer that writes one record to this broker.
fn refusal(io: &Runtime, broker: &Broker) -> ConnectorError {
    let mut writer = start(io, broker, "job", Vec::new(), ExpiredTransaction::FailJob);
    let written = write(io, writer.as_mut(), &numbers(0..1));
    written.and_then(|()| flush(io, writer.as_mut())).unwrap_err()
}

#[test]
fn what_the_brokers_do_not_allow_or_have_is_told_with_what_to_do() {
    let io = runtime();
    let broker = Broker::start(&io, 1, 0);
    broker.lock().transactions_refused = Some(ResponseError::TransactionalIdAuthorizationFailed);
    let error = refusal(&io, &broker);
    assert!(matches!(error, ConnectorError::Refused(_)), "{error}");
    let rights = "TransactionalIdAuthorizationFailed: allow the job WRITE and DESCRIBE on transactional ids that begin with \"job\"";
    assert!(error.to_string().ends_with(rights), "{error}");

    let broker = Broker::start(&io, 1, 0);
    broker.lock().max_timeout_ms = 60_000;
    let error = refusal(&io, &broker);
    assert!(matches!(error, ConnectorError::Refused(_)), "{error}");
    let numbers = "`transaction.timeout.ms` (900000): their `transaction.max.timeout.ms` is 60000; lower the first or raise the second";
    assert!(error.to_string().ends_with(numbers), "{error}");

    let broker = Broker::start(&io, 1, 0);
    broker.lock().without_coordinator = true;
    let error = refusal(&io, &broker);
    assert!(matches!(error, ConnectorError::Unavailable(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains("there is no transaction coordinator: has the topic `__transaction_state` the brokers"),
        "{error}"
    );
}

#[test]
fn a_topic_that_is_deleted_under_the_sink_is_named() {
    let io = runtime();
    for transaction_is_open in [true, false] {
        let broker = Broker::start(&io, 1, 0);
        let mut writer = start(&io, &broker, "job", Vec::new(), ExpiredTransaction::FailJob);
        write(&io, writer.as_mut(), &numbers(0..1)).unwrap();
        flush(&io, writer.as_mut()).unwrap();
        if !transaction_is_open {
            writer.prepare_commit(1).unwrap();
        }
        broker.lock().topic_deleted = true;
        let written = write(&io, writer.as_mut(), &numbers(1..2));
        let error = written.and_then(|()| flush(&io, writer.as_mut())).unwrap_err();
        assert!(matches!(error, ConnectorError::Refused(_)), "{error}");
        let expected = format!(
            "Kafka topic \"out\" doesn't exist on brokers {}: create it or correct its name",
            broker.servers
        );
        assert_eq!(error.to_string(), expected);
    }
}
