//! The log on a store in memory that fails, and on a local folder.

#[allow(dead_code)] // other tests use the rest of it
#[path = "../../../../storage/tests/storage/server.rs"]
mod server;

use super::super::probe::probe;
use super::super::testing::Memory;
use super::*;
use thalweg_proto::ha::v1::{Base, CancelRequested, LeadershipTaken, Submitted};

fn writer(instance: &str, epoch: u64) -> Writer {
    Writer {
        instance: instance.to_owned(),
        epoch,
    }
}

fn submitted() -> Content {
    Content::Submitted(Submitted::default())
}

fn taken() -> Content {
    Content::LeadershipTaken(LeadershipTaken {})
}

fn canceled() -> Content {
    Content::CancelRequested(CancelRequested {})
}

async fn log_of(memory: &Arc<Memory>, contents: Vec<Content>) -> RecordLog {
    let log = RecordLog::of_job(memory.clone(), "job");
    for (index, content) in contents.into_iter().enumerate() {
        let number = index as u64 + 1;
        log.append(&writer("me", 1), number, number, content, 0)
            .await
            .unwrap();
    }
    log
}

fn path(number: u64) -> String {
    format!("jobs/job/{number:020}")
}

#[tokio::test]
async fn of_two_writers_of_one_number_one_wins_and_the_other_is_told_who() {
    let log = RecordLog::of_job(Memory::new(), "job");
    log.append(&writer("first", 1), 1, 1, submitted(), 0)
        .await
        .unwrap();
    let (old, new) = (writer("first", 1), writer("second", 2));
    let (one, other) = futures::future::join(
        log.append(&old, 2, 1, canceled(), 0),
        log.append(&new, 2, 1, taken(), 0),
    )
    .await;
    assert_eq!([&one, &other].iter().filter(|result| result.is_ok()).count(), 1);
    let lost = one.err().or(other.err()).unwrap();
    let LogError::Superseded { epoch, instance, .. } = lost else {
        panic!("{lost}");
    };
    let record = log.read(2).await.unwrap();
    assert_eq!((record.epoch, record.instance), (epoch, instance));
}

#[tokio::test]
async fn an_append_whose_answer_was_lost_is_found_again() {
    for tries_again in [true, false] {
        let memory = Memory::new();
        let log = RecordLog::of_job(memory.clone(), "job");
        memory.lose_answers(1, tries_again);
        let first = log.append(&writer("me", 1), 1, 42, submitted(), 0).await;
        assert_eq!(first.is_ok(), tries_again);
        log.append(&writer("me", 1), 1, 42, submitted(), 0).await.unwrap();
        // Its own writer, but another append.
        let other = log.append(&writer("me", 1), 1, 43, submitted(), 0).await;
        assert!(matches!(other, Err(LogError::Superseded { .. })));
    }
}

#[tokio::test]
async fn a_full_store_is_a_failure_that_may_pass_and_leaves_nothing() {
    let memory = Memory::new();
    let log = RecordLog::of_job(memory.clone(), "job");
    memory.be_full(1);
    let full = log
        .append(&writer("me", 1), 1, 1, submitted(), 0)
        .await
        .unwrap_err();
    assert_eq!(full.class(), FailureClass::Retryable);
    assert_eq!(memory.files(), Vec::<String>::new());
    log.append(&writer("me", 1), 1, 1, submitted(), 0).await.unwrap();
}

#[tokio::test]
async fn a_log_is_read_from_its_submission_or_from_the_newest_base() {
    let memory = Memory::new();
    let mut contents = vec![submitted()];
    contents.extend((0..40).map(|_| canceled()));
    let log = log_of(&memory, contents).await;
    assert_eq!(log.load(41).await.unwrap().len(), 41);
    let base = Content::Base(Base::default());
    log.append(&writer("me", 1), 42, 42, base, 0).await.unwrap();
    log.append(&writer("me", 1), 43, 43, canceled(), 0).await.unwrap();
    let numbers = |records: Vec<Record>| records.iter().map(|record| record.number).collect::<Vec<_>>();
    assert_eq!(numbers(log.load(43).await.unwrap()), [42, 43]);
    log.delete_before(42).await.unwrap();
    assert_eq!(memory.files(), [path(42), path(43)]);
    assert_eq!(numbers(log.load(43).await.unwrap()), [42, 43]);
}

#[tokio::test]
async fn a_missing_a_damaged_and_a_foreign_record_are_named() {
    let said = async |spoil: &dyn Fn(&Memory)| {
        let memory = Memory::new();
        let log = log_of(&memory, vec![submitted(), canceled(), canceled(), taken()]).await;
        spoil(&memory);
        log.load(4).await.unwrap_err().to_string()
    };
    let missing = said(&|memory| memory.remove(&path(3))).await;
    assert_eq!(
        missing,
        format!("memory:///{} is missing: the log goes on behind it", path(3))
    );
    let first = said(&|memory| memory.remove(&path(1))).await;
    assert!(first.contains(&path(1)) && first.contains("missing"), "{first}");
    let damaged = said(&|memory| memory.put(&path(2), b"THALHALGxxxxyyyyzzzz")).await;
    assert!(
        damaged.contains(&path(2)) && damaged.contains("damaged"),
        "{damaged}"
    );
    let foreign = said(&|memory| memory.put(&path(2), b"a note")).await;
    assert!(
        foreign.contains(&path(2)) && foreign.contains("no record"),
        "{foreign}"
    );
    let other = log_of(&Memory::new(), vec![submitted()])
        .await
        .read(1)
        .await
        .unwrap();
    let copied = said(&|memory| memory.put(&path(2), &record::encode(&other))).await;
    assert!(copied.contains("record 1 of job"), "{copied}");
}

#[tokio::test]
async fn of_a_log_that_can_not_be_read_the_submission_may_still_be() {
    let memory = Memory::new();
    let log = log_of(&memory, vec![submitted(), canceled(), taken()]).await;
    memory.put(&path(2), b"a note");
    assert_eq!(log.begin().await.unwrap().number, 1);
    memory.remove(&path(1));
    assert!(log.begin().await.is_none());
}

#[tokio::test]
async fn a_local_folder_keeps_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let uri = format!("file://{}", folder.path().display());
    let opened = FileSystem::open(&uri, &thalweg_types::config::Configuration::default()).unwrap();
    let log = RecordLog::of_leaders(Arc::new(opened));
    assert_eq!(log.newest().await.unwrap(), 0);
    log.append(&writer("a", 1), 1, 1, taken(), 0).await.unwrap();
    let second = log.append(&writer("b", 1), 1, 1, taken(), 0).await;
    assert!(matches!(second, Err(LogError::Superseded { .. })));
    assert_eq!(log.numbers().await.unwrap(), [1]);
}

#[tokio::test]
async fn an_s3_server_keeps_a_log_and_what_it_does_not_answer_is_found_again() {
    let server = server::Server::start().await;
    let settings = [
        ("s3.endpoint", server.endpoint()),
        ("s3.access-key", "user".to_owned()),
        ("s3.secret-key", "secret".to_owned()),
        ("s3.region", "here".to_owned()),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value));
    let configuration = thalweg_types::config::Configuration::from_map(settings);
    let opened = FileSystem::open("s3://bucket/high-availability/default", &configuration).unwrap();
    let store: Arc<dyn RecordStore> = Arc::new(opened);
    probe(&store).await.unwrap();
    let log = RecordLog::of_job(store, "job");
    server.fail_next(&[server::Fault::LostAfter]);
    log.append(&writer("me", 1), 1, 1, submitted(), 0).await.unwrap();
    server.fail_next(&[server::Fault::LostAfter, server::Fault::Unavailable]);
    log.append(&writer("me", 1), 2, 2, canceled(), 0).await.unwrap();
    let other = log.append(&writer("other", 2), 2, 3, taken(), 0).await;
    assert!(matches!(other, Err(LogError::Superseded { epoch: 1, .. })));
    assert_eq!(log.load(2).await.unwrap().len(), 2);
}
