//! Barriers that overtake: nobody waits for anybody, and what was overtaken is in the checkpoint.

use super::*;

/// Two sources and one counter; the first checkpoint's barrier has come from one of the sources.
struct HalfWay {
    job: Job,
    sink: CollectSink,
    gate: SourceGate,
    late: Vec<control::ExecutionAttempt>,
}

fn half_way(then: Then, configure: impl Fn(&mut Job)) -> HalfWay {
    let source = ScriptedSource::new((0..6).map(|n| rows([n])).collect(), then);
    let gate = source.gate.clone();
    gate.limit(1);
    let sink = CollectSink::in_two_phases();
    let mut job = Job::keyed(source, counting(), &sink, 2, 1);
    configure(&mut job);
    job.deploy(None);
    eventually("a row of each", || sink.values().len() == 2);
    let sources = job.sources();
    job.trigger_at(1, &sources[..1]);
    job.await_answers(1, 1);
    HalfWay {
        job,
        sink,
        gate,
        late: sources[1..].to_vec(),
    }
}

#[test]
fn no_channel_is_blocked_and_the_late_channels_rows_are_in_the_checkpoint_and_come_again() {
    let HalfWay {
        mut job,
        sink,
        gate,
        late,
    } = half_way(Then::End, |job| job.options.unaligned = true);
    gate.limit(2);
    eventually("rows of both", || sink.values().len() == 4);
    job.trigger_at(1, &late);
    job.await_answers(1, 3);
    assert_eq!(job.declined(1), [] as [String; 0]);
    // Subtask 0 gave 0 before its barrier and 2 behind it; subtask 1 gave 1 and 3, the latter behind the snapshot.
    assert_eq!(job.counts(1, 2), HashMap::from([(0, 1), (1, 1)]));
    assert_eq!(job.overtaken(1, 2), HashMap::from([(3, 1)]));
    let metrics = job
        .metrics(1)
        .into_iter()
        .find(|metrics| metrics.unaligned)
        .unwrap();
    assert!(metrics.persisted_bytes > 0);
    job.cancel();

    let restore = job.restore(1);
    gate.open();
    job.deploy(Some(&restore));
    job.finish_with_checkpoints(2);
    assert_eq!(sink.committed(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_channel_waits_no_longer_than_the_alignment_timeout() {
    let HalfWay {
        mut job,
        sink,
        gate,
        late,
    } = half_way(Then::Wait, |job| job.options.alignment_timeout_ms = 20);
    gate.open();
    eventually("all rows, the first source's too", || sink.values().len() == 6);
    job.trigger_at(1, &late);
    job.await_answers(1, 3);
    assert_eq!(job.declined(1), [] as [String; 0]);
    let mut all = job.counts(1, 2);
    all.extend(job.overtaken(1, 2));
    // What subtask 0 gave behind its barrier is not in it.
    assert_eq!(all, HashMap::from([(0, 1), (1, 1), (3, 1), (5, 1)]));
    job.cancel();
}

#[test]
fn a_newer_checkpoint_takes_the_place_of_one_whose_elements_are_still_coming() {
    let HalfWay {
        mut job, sink, gate, ..
    } = half_way(Then::Wait, |job| job.options.unaligned = true);
    gate.open();
    eventually("all rows", || sink.values().len() == 6);
    job.checkpoint(2);
    let declined = job.declined(1);
    assert!(declined[0].contains("a newer one"), "{declined:?}");
    assert_eq!(job.counts(2, 2).len(), 6);
    assert!(job.overtaken(2, 2).is_empty());
    job.cancel();
}

#[test]
fn an_aborted_checkpoint_drops_what_it_had_recorded() {
    let HalfWay {
        mut job,
        sink,
        gate,
        late,
    } = half_way(Then::Wait, |job| job.options.unaligned = true);
    job.notify(1, false);
    gate.open();
    eventually("all rows", || sink.values().len() == 6);
    job.trigger_at(1, &late);
    job.checkpoint(2);
    assert_eq!(job.counts(2, 2).len(), 6);
    assert_eq!(job.metrics(1).len(), 2);
    job.cancel();
}

#[test]
fn a_task_whose_input_ends_meanwhile_completes_the_checkpoint_first() {
    let HalfWay {
        mut job, gate, late, ..
    } = half_way(Then::End, |job| job.options.unaligned = true);
    // The late source ends without a barrier: its end is as good.
    gate.open();
    job.await_answers(1, 2);
    assert_eq!(job.declined(1), [] as [String; 0]);
    assert_eq!(job.counts(1, 2), HashMap::from([(0, 1), (1, 1)]));
    assert_eq!(job.overtaken(1, 2), HashMap::from([(3, 1), (5, 1)]));
    job.trigger_at(1, &late);
    job.cancel();
}

#[test]
fn a_checkpoint_overtakes_what_lies_in_the_channels() {
    let batches: Vec<StreamBatch> = vec![rows((0..4096).map(|n| n % 5)), rows((0..4096).map(|n| n % 7))];
    let sink = CollectSink::closed();
    let mut job = Job::keyed(
        ScriptedSource::new(batches.clone(), Then::Repeat),
        counting(),
        &sink,
        2,
        1,
    );
    job.options.unaligned = true;
    job.deploy(None);
    let blocked =
        |task: &control::TaskMetrics| task.records_in == 0 && task.backpressured_ms_per_second > 999.0;
    eventually("backpressure in both sources", || {
        let tasks = job.process.executor.metrics();
        tasks.iter().filter(|task| blocked(task)).count() == 2
    });
    job.trigger_at(1, &job.sources());
    job.await_answers(1, 2);
    sink.open();
    job.await_answers(1, 3);
    assert_eq!(job.declined(1), [] as [String; 0]);
    let (mut found, overtaken) = (job.counts(1, 2), job.overtaken(1, 2));
    assert!(overtaken.values().sum::<i64>() > 10 * 4096, "{overtaken:?}");
    overtaken
        .into_iter()
        .for_each(|(n, count)| *found.entry(n).or_default() += count);
    let mut expected = HashMap::new();
    for (subtask, given) in job.positions(1) {
        let rows = values(&batches[subtask as usize]);
        rows.into_iter()
            .for_each(|n| *expected.entry(n).or_default() += given as i64);
    }
    assert_eq!(found, expected);
    job.cancel();
}

/// Each of an operator's batches becomes so many.
const COPIES: usize = 40;

/// A source, an operator that has no room for its output any more, and a sink that takes nothing.
struct StandStill {
    job: Job,
    sink: CollectSink,
    batches: Vec<StreamBatch>,
}

fn given_out(job: &Job) -> u64 {
    let tasks = job.process.executor.metrics();
    tasks.iter().map(|task| task.records_out).max().unwrap()
}

impl StandStill {
    fn new(configure: impl Fn(&mut Job)) -> Self {
        let batches: Vec<StreamBatch> = (0..12)
            .map(|batch| rows((0..4096).map(|n| n % 5 + 10 * batch)))
            .collect();
        let sink = CollectSink::in_two_phases();
        sink.close();
        let copies = operator(|_, batch| Ok(vec![batch; COPIES]));
        let source = ScriptedSource::new(batches.clone(), Then::Wait);
        let mut job = Job::in_three_steps(source, [counting(), copies], &sink);
        configure(&mut job);
        job.deploy(None);
        eventually("an operator that has no room for its output", || {
            let before = given_out(&job);
            std::thread::sleep(Duration::from_millis(50));
            sink.holds_someone_up() && before > 0 && given_out(&job) == before
        });
        Self { job, sink, batches }
    }

    /// Source and operator answer while the sink takes nothing.
    fn checkpoint_meanwhile(&mut self, id: u64) {
        let before = given_out(&self.job);
        self.job.trigger_at(id, &self.job.sources());
        self.job.await_answers(id, 2);
        assert!(
            self.sink.holds_someone_up(),
            "the consumer stands still all the time"
        );
        let out = given_out(&self.job);
        assert!(
            out - before < 4096 * COPIES as u64,
            "{before} rows were out, now {out}"
        );
    }

    /// The sink goes on, the checkpoint completes and has all that the source gave; from it each row comes out once.
    fn complete_and_restore(mut self, id: u64) {
        let Self { job, sink, batches } = &mut self;
        sink.open();
        job.await_answers(id, 3);
        assert_eq!(job.declined(id), [] as [String; 0]);
        let counted: i64 = job.counts(id, 2).values().sum();
        let overtaken: i64 = job.overtaken(id, 2).values().sum();
        assert_eq!(counted + overtaken, 4096 * job.positions(id)[&0] as i64);
        job.cancel();

        let restore = job.restore(id);
        job.deploy(Some(&restore));
        let mut expected: Vec<i64> = batches
            .iter()
            .flat_map(|batch| values(batch).repeat(COPIES))
            .collect();
        expected.sort_unstable();
        let mut next = id + 1;
        while sink.committed().len() < expected.len() {
            job.checkpoint(next);
            job.notify(next, true);
            next += 1;
        }
        job.cancel();
        assert!(sink.committed() == expected, "each row exactly once");
    }
}

#[test]
fn barriers_pass_a_chain_that_has_no_room_and_give_out_little_more_than_the_credit() {
    for (unaligned, alignment_timeout_ms) in [(true, 0), (false, 20)] {
        let mut still = StandStill::new(|job| {
            job.options.unaligned = unaligned;
            job.options.alignment_timeout_ms = alignment_timeout_ms;
        });
        still.checkpoint_meanwhile(1);
        still.complete_and_restore(1);
    }
}

#[test]
fn a_later_checkpoint_overtakes_the_barriers_of_one_that_was_given_up_as_well() {
    for (unaligned, alignment_timeout_ms) in [(true, 0), (false, 20)] {
        let mut still = StandStill::new(|job| {
            job.options.unaligned = unaligned;
            job.options.alignment_timeout_ms = alignment_timeout_ms;
        });
        for id in 1..4 {
            still.checkpoint_meanwhile(id);
            // Its sink's answer took too long; its barriers lie where they were, with rows before them.
            still.job.notify(id, false);
        }
        still.checkpoint_meanwhile(4);
        still.complete_and_restore(4);
    }
}

/// Two sources, an operator that has no room for its output any more, and a sink that takes nothing; one source or both have
/// finished, and what they gave lies before the operator.
fn stand_still_behind_ended_sources(ended: usize, configure: impl Fn(&mut Job)) -> StandStill {
    // One more batch for the first source than for the second.
    let batches: Vec<StreamBatch> = (0..7)
        .map(|batch| rows((0..4096).map(|n| n % 5 + 10 * batch)))
        .collect();
    let sink = CollectSink::in_two_phases();
    sink.close();
    let copies = operator(|_, batch| Ok(vec![batch; COPIES]));
    let source = ScriptedSource::new(batches.clone(), Then::End);
    let gate = source.gate.clone();
    gate.limit(4);
    let mut job = Job::in_three_steps_from(source, 2, [counting(), copies], &sink);
    configure(&mut job);
    job.deploy(None);
    if ended == 2 {
        gate.open();
    }
    job.process.await_ends(ended);
    eventually("an operator that has no room for its output", || {
        let before = given_out(&job);
        std::thread::sleep(Duration::from_millis(50));
        sink.holds_someone_up() && before > 0 && given_out(&job) == before
    });
    StandStill { job, sink, batches }
}

#[test]
fn what_finished_tasks_gave_is_overtaken_as_well() {
    for (unaligned, alignment_timeout_ms) in [(true, 0), (false, 20)] {
        for ended in [1, 2] {
            let mut still = stand_still_behind_ended_sources(ended, |job| {
                job.options.unaligned = unaligned;
                job.options.alignment_timeout_ms = alignment_timeout_ms;
            });
            // The coordinator asks those that have no running task before them.
            let begin = match ended {
                1 => still.job.sources()[..1].to_vec(),
                _ => {
                    let consumers = still.job.consumers();
                    let middle = |attempt: &&control::ExecutionAttempt| {
                        attempt.vertex_id == thalweg_types::VertexId::from_u128(2).to_string()
                    };
                    consumers.iter().filter(middle).cloned().collect()
                }
            };
            still.job.trigger_at(1, &begin);
            still.job.await_answers(1, 3 - ended);
            assert!(
                still.sink.holds_someone_up(),
                "the consumer stands still all the time"
            );
            still.sink.open();
            still.job.await_answers(1, 4 - ended);
            assert_eq!(still.job.declined(1), [] as [String; 0]);
            let counted: i64 = still.job.counts(1, 2).values().sum();
            let overtaken: i64 = still.job.overtaken(1, 2).values().sum();
            assert_eq!(counted + overtaken, 4096 * still.batches.len() as i64);
            assert!(overtaken > 0);
            still.job.cancel();
        }
    }
}
