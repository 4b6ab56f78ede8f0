//! What is decided about transactions, case by case.

use super::*;

const IDENTITY: ProducerIdentity = ProducerIdentity { id: 7, epoch: 3 };

fn prepared(id: &str) -> Transaction {
    Transaction::open(id.to_owned(), IDENTITY, "out", 5)
}

fn restored(states: Vec<Vec<u8>>, committables: Vec<Committable>) -> RestoredConnector {
    RestoredConnector {
        checkpoint_id: 1,
        states,
        committables,
    }
}

fn order(job_started_ms: u64, leader_epoch: u64, attempt: u32) -> AttemptOrder {
    AttemptOrder {
        job_started_ms,
        leader_epoch,
        attempt,
    }
}

#[test]
fn an_id_names_one_attempt_and_belongs_to_one_prefix_only() {
    let name = Name {
        subtask: 1,
        order: order(0x19a, 0xc, 12),
        counter: 3,
    };
    let id = name.id("a");
    assert_eq!(id, "a-1-19a.c.12-3");
    assert_eq!(Name::of("a", &id), Some(name));
    assert_eq!(Name::of("a-1", &id), None);
    for foreign in [
        "a-1-19a.c.12-3-0",
        "a-1-19A.c.12-3",
        "a-01-19a.c.12-3",
        "a-1-19a.c-3",
        "a-1-3",
        "b-1-19a.c.12-3",
    ] {
        assert_eq!(Name::of("a", foreign), None, "{foreign}");
    }
    assert!(Name::of("a-1-2", "a-1-2-3-0.0.0-4").is_some() && Name::of("a", "a-1-2-3-0.0.0-4").is_none());
}

#[test]
fn an_attempt_comes_after_those_that_it_goes_on_from_also_if_its_clock_is_behind() {
    let before = order(100, 7, 5);
    assert_eq!(order_behind(order(100, 8, 0), Some(before)), order(100, 8, 0));
    assert_eq!(order_behind(order(90, 1, 0), None), order(90, 1, 0));
    let first = order_behind(order(90, 1, 0), Some(before));
    assert!(first > before);
    let second = order_behind(order(90, 1, 1), Some(first));
    assert!(second > first && order_behind(order(90, 1, 2), Some(first)) > second);
}

#[test]
fn a_transaction_comes_back_from_a_checkpoint_with_the_data_that_it_wrote() {
    let mut written = prepared("p-0-0");
    written.wrote(2, 40, 10);
    written.wrote(0, 5, 1);
    written.wrote(2, 50, 5);
    written.wrote(2, -1, 5);
    let read = Transaction::of(&[written.committable()]).unwrap();
    assert_eq!(read, [written.clone()]);
    assert_eq!(read[0].identity(), IDENTITY);
    assert_eq!(
        written.data(),
        "topic \"out\" partition 2 offsets 40..=54, partition 0 offsets 5..=5"
    );
    let foreign = Committable { bytes: vec![0xff; 3] };
    assert!(matches!(
        Transaction::of(&[foreign]),
        Err(ConnectorError::Refused(_))
    ));
}

#[test]
fn what_any_subtask_prepared_is_kept_and_what_else_is_open_is_aborted_by_one() {
    let states = [
        writer_state("p", order(5, 1, 3), &["p-0-5.1.3-1".to_owned()]),
        writer_state("old", order(4, 1, 0), &["old-4-4.1.0-0".to_owned()]),
    ];
    let restored = restored(states.concat(), vec![prepared("old-4-4.1.0-0").committable()]);
    let recoveries =
        [0, 1, 2].map(|subtask| Recovery::new("p", (subtask, 3), order(5, 2, 1), Some(&restored)).unwrap());
    let aborting = |id: &str| recoveries.iter().filter(|recovery| recovery.aborts(id)).count();
    for open in [
        "p-0-5.1.3-0",
        "p-1-5.1.4-1",
        "p-8-4.9.9-3",
        "old-4-4.1.0-1",
        "p-2-5.2.1-0",
    ] {
        assert_eq!(aborting(open), 1, "{open}");
    }
    let kept = ["p-0-5.1.3-1", "old-4-4.1.0-0", "other-0-0.0.0-0", "p-x-0.0.0-0"];
    let later = ["p-0-5.2.2-0", "p-1-5.3.0-0", "old-2-6.1.0-0"];
    for kept in kept.into_iter().chain(later) {
        assert_eq!(aborting(kept), 0, "{kept}");
    }
}

#[test]
fn an_id_is_given_again_when_it_has_come_back_and_no_other_attempts_id_ever_is() {
    let recovery = Recovery::new("p", (0, 1), order(5, 2, 1), None).unwrap();
    let mut pool = Pool::new("p", &recovery);
    let mut take = |given_back: &[&str]| {
        given_back.iter().for_each(|id| pool.put_back(id, IDENTITY));
        let (id, known) = pool.take();
        (id, known.is_some())
    };
    let known = |counter: u32| (format!("p-0-5.2.1-{counter}"), true);
    let fresh = |counter: u32| (format!("p-0-5.2.1-{counter}"), false);
    assert_eq!((take(&[]), take(&[])), (fresh(0), fresh(1)));
    assert_eq!(take(&["p-0-5.2.0-7", "p-1-5.2.1-7", "q-0-5.2.1-7"]), fresh(2));
    assert_eq!(take(&["p-0-5.2.1-1"]), known(1));
    assert_eq!((take(&[]), take(&["p-0-5.2.1-0"])), (fresh(3), known(0)));
}

#[test]
fn an_answer_that_the_transaction_is_not_open_is_no_loss_before_the_log_was_asked() {
    use ResponseError as Code;
    assert_eq!(verdict(0), Verdict::Done);
    assert_eq!(verdict(Code::NotCoordinator.code()), Verdict::Elsewhere);
    for code in [Code::ConcurrentTransactions, Code::CoordinatorLoadInProgress] {
        assert_eq!(verdict(code.code()), Verdict::Again);
    }
    for code in [
        Code::InvalidTxnState,
        Code::ProducerFenced,
        Code::InvalidProducerEpoch,
        Code::InvalidProducerIdMapping,
        Code::TransactionalIdNotFound,
    ] {
        assert_eq!(verdict(code.code()), Verdict::NotOpen(code));
    }
    let denied = Code::TransactionalIdAuthorizationFailed;
    assert_eq!(verdict(denied.code()), Verdict::Refused(denied));
}
