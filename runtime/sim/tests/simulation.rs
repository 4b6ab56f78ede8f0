//! The short run of every `make test`, mistakes that must be found, and one seed again.

use thalweg_sim::{Coverage, SEED_VARIABLE, Step, Variant, replay, run};

/// Worlds of the short run.
const SEEDS: u64 = 100;
/// Within so many a mistake is found.
const MISTAKE_SEEDS: u64 = 120;

#[test]
fn whatever_fails_each_row_is_committed_once_and_the_jobs_go_on() {
    let mut coverage = Coverage::default();
    for seed in 0..SEEDS {
        let outcome = run(seed, Variant::Sound);
        assert!(outcome.violations.is_empty(), "{}", outcome.report());
        coverage.add(&outcome.coverage);
    }
    let never: Vec<&str> = coverage
        .iter()
        .filter(|(_, count)| *count == 0)
        .map(|(step, _)| step.name())
        .collect();
    assert!(never.is_empty(), "steps that were never taken: {never:?}");
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in [3, 4] {
        let (one, other) = (replay(seed, Variant::Sound), replay(seed, Variant::Sound));
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert!(one.coverage.of(Step::LogAppended) > 0);
    }
}

#[test]
fn replay_of_one_seed() {
    let Ok(seed) = std::env::var(SEED_VARIABLE) else {
        return;
    };
    let outcome = replay(seed.parse().expect("a number"), Variant::Sound);
    println!("{}", outcome.report());
    assert!(outcome.violations.is_empty());
}

fn is_found(variant: Variant, in_words: &[&str]) {
    let found = (0..MISTAKE_SEEDS).find_map(|seed| run(seed, variant).violations.into_iter().next());
    let found = found.unwrap_or_else(|| panic!("{variant:?} was not found in {MISTAKE_SEEDS} worlds"));
    assert!(
        in_words.iter().any(|words| found.contains(words)),
        "{variant:?}: {found}"
    );
}

#[test]
fn completion_told_before_the_log_has_it_is_found() {
    is_found(Variant::NotifyBeforeLog, &["which no log has"]);
}

#[test]
fn a_store_that_lets_two_create_the_same_record_is_found() {
    is_found(
        Variant::StoreOverwrites,
        &["written twice", "behind one of epoch"],
    );
}

#[test]
fn a_commit_at_the_barrier_is_found() {
    is_found(Variant::CommitAtBarrier, &["which no log has"]);
}

#[test]
fn committables_that_are_forgotten_at_a_restore_are_found() {
    is_found(Variant::ForgetCommittables, &["rows of", "not enough", "is gone"]);
}

#[test]
fn an_end_that_is_told_before_the_log_has_it_is_found() {
    is_found(Variant::TellBeforeLog, &["which no log has"]);
}

#[test]
fn a_writer_that_starts_late_and_puts_away_what_a_later_one_prepared_is_found() {
    is_found(Variant::AbortLater, &["not enough", "can't be committed"]);
}

#[test]
fn a_restore_of_an_older_checkpoint_is_found() {
    is_found(
        Variant::RestoreOlder,
        &[
            "committed twice",
            "saw row",
            "is gone",
            "not enough",
            "deleted",
            "behind",
        ],
    );
}
