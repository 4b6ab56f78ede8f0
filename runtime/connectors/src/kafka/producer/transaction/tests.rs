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

#[test]
fn a_name_belongs_to_one_prefix_only() {
    assert_eq!(parse("a", "a-1-0"), Some((1, 0)));
    assert_eq!(parse("a-1", "a-1-0"), None);
    assert_eq!(
        (parse("a", "a-1-0-0"), parse("a-1", "a-1-0-0")),
        (None, Some((0, 0)))
    );
    assert_eq!((parse("a", "a-01-0"), parse("a", "b-1-0")), (None, None));
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
        writer_state("p", &["p-0-1".to_owned()]),
        writer_state("old", &["old-4-0".to_owned()]),
    ];
    let restored = restored(states.concat(), vec![prepared("old-4-0").committable()]);
    let recoveries = [0, 1, 2].map(|subtask| Recovery::new("p", subtask, 3, Some(&restored)).unwrap());
    let aborting = |id: &str| recoveries.iter().filter(|recovery| recovery.aborts(id)).count();
    for open in ["p-0-0", "p-1-1", "p-8-3", "old-4-1"] {
        assert_eq!(aborting(open), 1, "{open}");
    }
    for kept in ["p-0-1", "old-4-0", "other-0-0", "p-x-0"] {
        assert_eq!(aborting(kept), 0, "{kept}");
    }
}

#[test]
fn an_id_is_never_given_twice_whenever_it_comes_back() {
    let restored = restored(
        writer_state("p", &["p-0-0".to_owned(), "p-0-2".to_owned()]),
        Vec::new(),
    );
    let recovery = Recovery::new("p", 0, 1, Some(&restored)).unwrap();
    let mut pool = Pool::new("p", &recovery);
    let mut take = |given_back: &[&str]| {
        given_back.iter().for_each(|id| pool.put_back(id, IDENTITY));
        let (id, known) = pool.take();
        (id, known.is_some())
    };
    let known = |id: &str| (id.to_owned(), true);
    let fresh = |id: &str| (id.to_owned(), false);
    assert_eq!(take(&["p-0-0"]), known("p-0-0"));
    assert_eq!((take(&[]), take(&[])), (fresh("p-0-1"), fresh("p-0-3")));
    assert_eq!(take(&["p-0-2", "p-1-7", "p-0-1"]), known("p-0-1"));
    assert_eq!((take(&[]), take(&[])), (known("p-0-2"), fresh("p-0-4")));
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
