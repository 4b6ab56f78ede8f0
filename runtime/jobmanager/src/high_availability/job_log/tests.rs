//! Two leaders on one store.

use super::super::testing::Memory;
use super::*;
use thalweg_proto::ha::v1::{CancelRequested, CheckpointCompleted, Result as JobResult};

const JOB: JobId = JobId([7; 16]);

fn leader(store: &Arc<Memory>, epoch: u64) -> (JobLogs, Writer, Fence) {
    let fence = Fence::default();
    let logs = JobLogs::new(
        store.clone(),
        fence.clone(),
        Clock::start(),
        Duration::from_millis(500),
    );
    let instance = format!("instance-{epoch}");
    (logs, Writer { instance, epoch }, fence)
}

fn completed(id: u64) -> Content {
    Content::CheckpointCompleted(CheckpointCompleted {
        checkpoint_id: id,
        folder: folder(id),
        ..CheckpointCompleted::default()
    })
}

fn folder(id: u64) -> String {
    format!("file:///c/chk-{id}")
}

async fn begun(store: &Arc<Memory>) -> (JobLogs, Fence) {
    let (logs, writer, fence) = leader(store, 1);
    logs.begin(&writer, JOB, Submitted::default()).await.unwrap();
    (logs, fence)
}

#[tokio::test]
async fn what_one_leader_wrote_the_next_one_reads_and_the_first_is_fenced() {
    let store = Memory::new();
    let (first, fence) = begun(&store).await;
    first.append(JOB, completed(1)).await.unwrap().unwrap();
    let (second, writer, _) = leader(&store, 2);
    let history = second.take_over(&writer, JOB).await.unwrap();
    assert_eq!(history.newest().unwrap().0.checkpoint_id, 1);
    assert!(!fence.is_raised());
    assert_eq!(
        first.append(JOB, completed(2)).await.unwrap(),
        Err(AppendError::Fenced)
    );
    assert!(fence.raised().await.contains("instance-2, epoch 2"));
    second.append(JOB, completed(2)).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_was_away_while_its_next_number_was_taken_and_deleted_again_is_fenced() {
    let store = Memory::new();
    let (first, fence) = begun(&store).await;
    first.append(JOB, completed(1)).await.unwrap().unwrap();
    let leaders = RecordLog::of_leaders(store.clone());
    let (second, writer, _) = leader(&store, 2);
    let record = Content::Leader(thalweg_proto::ha::v1::Leader::default());
    leaders.append(&writer, 2, 2, record, 0).await.unwrap();
    second.take_over(&writer, JOB).await.unwrap();
    let next = format!("jobs/{JOB}/{:020}", 3);
    assert!(store.files().contains(&next));
    for id in 2..=100 {
        second.append(JOB, completed(id)).await.unwrap().unwrap();
    }
    assert!(!store.files().contains(&next));
    assert_eq!(
        first.append(JOB, completed(2)).await.unwrap(),
        Err(AppendError::Fenced)
    );
    assert!(fence.is_raised());
}

#[tokio::test]
async fn a_job_is_begun_once() {
    let store = Memory::new();
    let (logs, _) = begun(&store).await;
    let (_, writer, _) = leader(&store, 1);
    let again = logs.begin(&writer, JOB, Submitted::default()).await;
    assert_eq!(again, Err(AppendError::Exists(JOB)));
}

#[tokio::test]
async fn a_full_disk_is_waited_for_and_then_costs_leadership() {
    let store = Memory::new();
    let (logs, fence) = begun(&store).await;
    store.be_full(2);
    logs.append(JOB, completed(1)).await.unwrap().unwrap();
    store.be_full(usize::MAX);
    assert_eq!(
        logs.append(JOB, completed(2)).await.unwrap(),
        Err(AppendError::Fenced)
    );
    let reason = fence.raised().await;
    assert!(
        reason.contains("no space left") && reason.contains("log-timeout"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_log_does_not_grow_and_says_the_same_after_it_was_compacted() {
    let store = Memory::new();
    let (logs, _) = begun(&store).await;
    for id in 1..=200 {
        logs.append(JOB, completed(id)).await.unwrap().unwrap();
    }
    assert!(store.files().len() <= BASE_EVERY + 2, "{:?}", store.files());
    let (second, writer, _) = leader(&store, 2);
    let history = second.take_over(&writer, JOB).await.unwrap();
    assert_eq!(
        (
            history.newest().unwrap().0.checkpoint_id,
            history.highest_checkpoint_id
        ),
        (200, 200)
    );
}

#[tokio::test]
async fn a_folder_that_the_log_counts_on_is_struck_off_before_it_is_deleted() {
    let store = Memory::new();
    let (logs, _) = begun(&store).await;
    logs.append(JOB, completed(1)).await.unwrap().unwrap();
    logs.release(JOB, vec![folder(1)]).await.unwrap();
    let (second, writer, _) = leader(&store, 2);
    assert_eq!(second.take_over(&writer, JOB).await.unwrap().newest(), None);
}

#[tokio::test]
async fn a_checkpoint_whose_folder_goes_does_not_get_into_the_log_any_more() {
    let store = Memory::new();
    let (logs, fence) = begun(&store).await;
    let released = logs.release(JOB, vec![folder(1)]);
    let appended = logs.append(JOB, completed(1));
    released.await.unwrap();
    assert_eq!(appended.await.unwrap(), Err(AppendError::GivenUp));
    assert!(!fence.is_raised());
}

#[tokio::test]
async fn a_leader_with_a_successor_deletes_nothing() {
    let store = Memory::new();
    let (first, fence) = begun(&store).await;
    let leaders = RecordLog::of_leaders(store.clone());
    let (_, writer, _) = leader(&store, 2);
    let content = Content::Leader(thalweg_proto::ha::v1::Leader::default());
    leaders.append(&writer, 2, 1, content, 0).await.unwrap();
    assert!(first.release(JOB, vec![folder(1)]).await.is_err());
    assert!(fence.raised().await.contains("leader/00000000000000000002"));
}

#[tokio::test]
async fn a_forgotten_job_leaves_nothing() {
    let store = Memory::new();
    let (logs, _) = begun(&store).await;
    let result = Content::Result(JobResult::default());
    logs.append(JOB, result).await.unwrap().unwrap();
    logs.forget(JOB);
    let gone = async {
        while !store.files().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap();
}

#[tokio::test]
async fn a_log_with_a_missing_record_is_refused_by_name() {
    let store = Memory::new();
    let (logs, _) = begun(&store).await;
    for id in 1..=3 {
        logs.append(JOB, completed(id)).await.unwrap().unwrap();
    }
    store.remove(&format!("jobs/{JOB}/{:020}", 2));
    let (second, writer, _) = leader(&store, 2);
    let refusal = second.take_over(&writer, JOB).await.unwrap_err().to_string();
    assert!(
        refusal.contains(&format!("jobs/{JOB}/{:020} is missing", 2)),
        "{refusal}"
    );
    let canceled = Content::CancelRequested(CancelRequested {});
    assert!(
        second.append(JOB, canceled).await.is_err(),
        "nothing is appended to it"
    );
}

#[tokio::test]
async fn a_leader_that_is_slow_to_recover_does_not_fence_its_successor() {
    let store = Memory::new();
    begun(&store).await;
    let (late, late_writer, late_fence) = leader(&store, 2);
    let (newest, writer, fence) = leader(&store, 3);
    newest.take_over(&writer, JOB).await.unwrap();
    let refused = late.take_over(&late_writer, JOB).await.unwrap_err();
    assert!(
        matches!(refused, LogError::Superseded { epoch: 3, .. }),
        "{refused}"
    );
    assert!(late_fence.is_raised() && !fence.is_raised());
    newest.append(JOB, completed(1)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_job_that_another_leader_began_after_this_one_had_looked_costs_leadership() {
    let store = Memory::new();
    begun(&store).await;
    let (second, writer, fence) = leader(&store, 2);
    let refused = second.begin(&writer, JOB, Submitted::default()).await;
    assert_eq!(refused, Err(AppendError::Fenced));
    assert!(
        fence
            .raised()
            .await
            .contains("was not there when the jobs were recovered")
    );
}

#[tokio::test]
async fn of_logged_checkpoints_that_are_given_up_the_one_before_them_is_left_to_go_on_from() {
    let store = Memory::new();
    let (first, _) = begun(&store).await;
    for id in [1, 2, 3] {
        first.append(JOB, completed(id)).await.unwrap().unwrap();
    }
    for id in [2, 3] {
        first.release(JOB, vec![folder(id)]).await.unwrap();
    }
    let (second, writer, _) = leader(&store, 2);
    let history = second.take_over(&writer, JOB).await.unwrap();
    assert_eq!(history.newest().unwrap().0.checkpoint_id, 1);
}
