//! The state machine by its facts; the loop with two candidates on one store.

use thalweg_proto::ha::v1::Retired;

use super::super::election::{ElectionEvents, StorageElection};
use super::super::role::Role;
use super::super::testing::Memory;
use super::*;

fn configuration(parallelism: &str) -> Configuration {
    Configuration::from_map([
        ("parallelism.default".to_owned(), parallelism.to_owned()),
        ("s3.secret-key".to_owned(), "sesame".to_owned()),
        ("rest.port".to_owned(), parallelism.to_owned()),
    ])
}

fn leadership() -> Leadership {
    Leadership::new(configuration("1"))
}

fn leader(number: u64, parallelism: &str) -> Option<Box<Record>> {
    let configuration = hashed("them", &configuration(parallelism)).into_iter().collect();
    Some(Box::new(Record {
        number,
        instance: "them".to_owned(),
        content: Some(Content::Leader(Leader {
            rpc_address: "them:6123".to_owned(),
            configuration,
            ..Leader::default()
        })),
        ..Record::default()
    }))
}

fn granted() -> Fact {
    Fact::Election(ElectionEvent::Granted)
}

fn alive() -> Fact {
    let address = "them:6123".to_owned();
    Fact::Election(ElectionEvent::Leader { address })
}

fn stopped(actions: &[Action]) -> String {
    match actions {
        [Action::Stop(reason)] => reason.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_is_granted_leadership_takes_the_next_number_and_leads() {
    let mut leadership = leadership();
    assert_eq!(leadership.handle(granted()), [Action::Look]);
    assert_eq!(leadership.handle(Fact::Looked(leader(4, "1"))), [Action::Take(5)]);
    assert_eq!(leadership.handle(granted()), [], "one attempt at a time");
    assert_eq!(leadership.handle(Fact::Took(5)), [Action::Lead(5)]);
    assert_eq!(leadership.handle(granted()), [], "it leads already");
}

#[test]
fn who_was_too_slow_follows_until_it_is_granted_again() {
    let mut leadership = leadership();
    leadership.handle(granted());
    leadership.handle(Fact::Looked(None));
    assert_eq!(leadership.handle(Fact::NotTaken), [Action::Look]);
    assert_eq!(
        leadership.handle(Fact::Looked(leader(1, "1"))),
        [Action::Follow(leader(1, "1"))]
    );
    leadership.handle(granted());
    assert_eq!(leadership.handle(Fact::Looked(leader(1, "1"))), [Action::Take(2)]);
}

#[test]
fn a_leader_whose_election_is_revoked_goes_on_until_there_is_a_successor() {
    let mut leadership = leadership();
    leadership.handle(granted());
    leadership.handle(Fact::Looked(None));
    leadership.handle(Fact::Took(1));
    assert_eq!(
        leadership.handle(Fact::Election(ElectionEvent::Revoked)),
        [Action::Look]
    );
    assert_eq!(leadership.handle(Fact::Looked(leader(1, "1"))), []);
    assert_eq!(leadership.handle(Fact::Tick), [Action::Look]);
    let reason = stopped(&leadership.handle(Fact::Looked(leader(2, "1"))));
    assert_eq!(
        reason,
        "this JobManager leads no longer: them:6123 took over with epoch 2"
    );
    assert_eq!(leadership.handle(granted()), [], "it does not come back");
}

#[test]
fn whoever_sees_that_the_cluster_was_deleted_ends_but_for_the_leader_that_did_it() {
    let retired = |number: u64| {
        let record = Record {
            number,
            content: Some(Content::Retired(Retired {})),
            ..Record::default()
        };
        Fact::Looked(Some(Box::new(record)))
    };
    let leading = || {
        let mut leadership = leadership();
        leadership.handle(granted());
        leadership.handle(Fact::Looked(None));
        leadership.handle(Fact::Took(1));
        leadership
    };
    assert_eq!(leading().handle(retired(2)), []);
    for (mut late, number) in [(leading(), 3), (leadership(), 2)] {
        late.handle(granted());
        let reason = stopped(&late.handle(retired(number)));
        assert!(reason.contains("its cluster was deleted"), "{reason}");
    }
}

#[test]
fn a_standby_with_another_configuration_names_the_first_key_that_differs_and_ends() {
    let mut leadership = leadership();
    leadership.handle(alive());
    let reason = stopped(&leadership.handle(Fact::Looked(leader(3, "2"))));
    assert!(
        reason.contains("\"parallelism.default\"") && reason.contains("them:6123"),
        "{reason}"
    );
}

#[test]
fn a_configuration_may_change_while_nobody_leads_and_ports_may_differ() {
    let mut started_anew = leadership();
    started_anew.handle(granted());
    assert_eq!(
        started_anew.handle(Fact::Looked(leader(3, "2"))),
        [Action::Take(4)]
    );
    let theirs = hashed("them", &configuration("1")).into_iter().collect();
    let mut ours = configuration("1");
    ours.set("rest.port", "8082");
    assert_eq!(first_difference("them", &theirs, &ours), None);
    ours.set("a.key", "that they lack");
    assert_eq!(first_difference("them", &theirs, &ours).as_deref(), Some("a.key"));
    assert!(!format!("{theirs:?}").contains("sesame"));
}

/// Grants leadership over and over.
struct Always;

impl Election for Always {
    fn campaign(&self, _: Candidate) -> ElectionEvents {
        let again = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Some((ElectionEvent::Granted, ()))
        });
        Box::pin(again)
    }
}

fn campaign(store: &Arc<Memory>, instance: &str, election: Arc<dyn Election>) -> Campaign {
    Campaign {
        leaders: RecordLog::of_leaders(store.clone()),
        candidate: Candidate {
            instance: instance.to_owned(),
            rpc_address: format!("{instance}:6123"),
            rest_address: format!("{instance}:8081"),
        },
        configuration: Configuration::default(),
        election,
        fence: Fence::default(),
        clock: Clock::start(),
    }
}

#[tokio::test]
async fn a_leader_that_wakes_up_behind_a_successor_stops() {
    let store = Memory::new();
    let (sender, _role) = Role::standby();
    let (elected, first) = oneshot::channel();
    // It hears nothing of its election any more, as one that was paused.
    let election = StorageElection::new(store.clone(), Duration::from_secs(3600));
    let paused = campaign(&store, "first", Arc::new(election));
    let fence = paused.fence.clone();
    tokio::spawn(paused.run(sender, elected));
    assert_eq!(first.await.unwrap().epoch, 1);

    let (sender, _role) = Role::standby();
    let (elected, second) = oneshot::channel();
    tokio::spawn(campaign(&store, "second", Arc::new(Always)).run(sender, elected));
    assert_eq!(second.await.unwrap().epoch, 2);
    let reason = tokio::time::timeout(Duration::from_secs(60), fence.raised())
        .await
        .unwrap();
    assert!(reason.contains("second:6123 took over with epoch 2"), "{reason}");
}
