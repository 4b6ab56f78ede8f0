use super::*;
use crate::file::sink::rolling::RollingPolicy;
use std::time::Duration;

fn parts(keeps_tail: bool, policy: RollingPolicy) -> Parts {
    let limits = Limits {
        piece_bytes: 8,
        keeps_tail,
        most_part_bytes: 1_000,
        most_open: 2,
        most_buffered: 12,
    };
    let settings = PartSettings {
        folder: "s3://b/out".into(),
        prefix: "part".to_owned(),
        suffix: ".txt".to_owned(),
        policy,
        bulk: None,
        limits,
    };
    Parts::new(settings, "u".to_owned())
}

fn by_size(bytes: u64) -> RollingPolicy {
    RollingPolicy::default().with_max_part_size(bytes)
}

fn write(parts: &mut Parts, bucket: &str, rows: &[&str], now_ms: i64) {
    parts.write(bucket, rows.iter().map(|row| row.as_bytes()), now_ms);
}

/// The actions as text, for each part in order.
fn actions(parts: &mut Parts) -> Vec<String> {
    let word = |action: Action| {
        let step = match action.step {
            Step::Begin(file) => format!("begin {}", file.path),
            Step::Adopt(file, _, length) => format!("adopt {} {length}", file.path),
            Step::Write(piece) => format!("write {}", String::from_utf8(piece).unwrap().replace('\n', "|")),
            Step::Sync => "sync".to_owned(),
            Step::Close => "close".to_owned(),
        };
        format!("{} {step}", action.part)
    };
    parts.take_actions().unwrap().into_iter().map(word).collect()
}

fn upload(parts: &[&str]) -> Staged {
    Staged::Upload {
        id: "id".to_owned(),
        parts: parts.iter().map(|part| (*part).to_owned()).collect(),
    }
}

fn hidden() -> Staged {
    Staged::File {
        name: ".hidden".to_owned(),
        older: Vec::new(),
    }
}

fn closed(part: PartId, staged: Staged) -> Report {
    Report {
        part,
        staged,
        closed: true,
    }
}

fn synced(part: PartId, staged: Staged) -> Report {
    Report {
        closed: false,
        ..closed(part, staged)
    }
}

fn state(bucket: &str, staged: Option<Staged>, tail: &str) -> PartState {
    PartState {
        bucket: bucket.to_owned(),
        created_ms: 0,
        part: staged.map(|staged| FileCommittable {
            file: PartFile {
                folder: "s3://b/out".to_owned(),
                path: format!("{bucket}/old"),
            },
            staged,
            bytes: 10,
            rows: 3,
        }),
        tail: tail.as_bytes().to_vec(),
        tail_rows: tail.matches('\n').count() as u64,
    }
}

#[test]
fn a_part_that_is_larger_than_the_policy_says_takes_no_more_rows() {
    let mut parts = parts(false, by_size(4));
    write(&mut parts, "h", &["aaaa", "bb", "cc", "dd"], 0);
    assert_eq!(
        actions(&mut parts),
        [
            "0 begin h/part-u-0.txt",
            "0 write aaaa|",
            "0 close",
            "1 begin h/part-u-1.txt",
            "1 write bb|cc|",
            "1 close"
        ]
    );
}

#[test]
fn a_file_grows_over_checkpoints_and_its_synced_length_is_in_the_state() {
    let mut parts = parts(false, by_size(100));
    write(&mut parts, "", &["a"], 0);
    parts.barrier(0, false);
    assert_eq!(
        actions(&mut parts),
        ["0 begin part-u-0.txt", "0 write a|", "0 sync"]
    );
    parts.barrier(0, false);
    assert!(actions(&mut parts).is_empty(), "it was asked for already");
    assert!(!parts.is_flushed());
    parts.report(synced(0, hidden()));
    assert!(parts.is_flushed() && parts.prepare().is_empty());
    let (states, counted) = parts.snapshot();
    let part = states[0].part.clone().unwrap();
    assert_eq!((part.bytes, part.rows, counted), (2, 1, vec![0]));
    write(&mut parts, "", &["b"], 1);
    parts.barrier(1, true);
    assert_eq!(actions(&mut parts), ["0 write b|", "0 close"]);
    parts.report(closed(0, hidden()));
    let closed = parts.prepare();
    assert_eq!((closed[0].1.bytes, closed[0].1.rows), (4, 2));
    assert!(parts.snapshot().0.is_empty());
}

#[test]
fn an_object_keeps_what_is_less_than_a_piece_in_the_state() {
    let mut parts = parts(true, by_size(100));
    write(&mut parts, "", &["12345678", "9"], 0);
    parts.barrier(0, false);
    assert_eq!(
        actions(&mut parts),
        ["0 begin part-u-0.txt", "0 write 12345678|", "0 sync"]
    );
    parts.report(synced(0, upload(&["e1"])));
    let (states, _) = parts.snapshot();
    assert_eq!(
        (states[0].tail.as_slice(), states[0].tail_rows),
        (b"9\n".as_slice(), 1)
    );
    assert_eq!(states[0].part.clone().unwrap().bytes, 9);
    // Less than a piece needs no upload, nor a wait.
    let mut small = self::parts(true, by_size(100));
    write(&mut small, "", &["1"], 0);
    small.barrier(0, false);
    assert!(small.is_flushed() && actions(&mut small).is_empty());
    assert_eq!(small.snapshot().0[0].part, None);
}

#[test]
fn a_restored_file_goes_on_and_further_ones_of_its_bucket_are_closed() {
    let mut parts = parts(false, by_size(100));
    parts.restore(
        vec![
            state("h", Some(hidden()), ""),
            state("h", Some(hidden()), ""),
            state("i", Some(hidden()), ""),
        ],
        5,
    );
    write(&mut parts, "h", &["x"], 5);
    parts.barrier(5, false);
    let mut done = actions(&mut parts);
    done.sort();
    assert_eq!(
        done,
        [
            "0 adopt h/old 10",
            "0 sync",
            "0 write x|",
            "1 adopt h/old 10",
            "1 close",
            "2 adopt i/old 10",
            "2 sync"
        ]
    );
    parts.report(synced(0, hidden()));
    parts.report(closed(1, hidden()));
    assert!(
        !parts.is_flushed(),
        "a snapshot counts on no file that another writer may write to"
    );
    parts.report(synced(2, hidden()));
    assert!(parts.is_flushed());
    assert_eq!(parts.prepare().len(), 1);
    let (states, _) = parts.snapshot();
    assert_eq!(
        states
            .iter()
            .map(|state| state.part.clone().unwrap().bytes)
            .collect::<Vec<_>>(),
        [12, 10]
    );
}

#[test]
fn a_restored_upload_is_closed_as_it_is_and_its_tail_begins_another() {
    let mut parts = parts(true, by_size(100));
    parts.restore(
        vec![
            state("h", Some(upload(&["e1"])), "a\n"),
            state("h", None, "b\nc\n"),
        ],
        5,
    );
    parts.barrier(5, true);
    assert_eq!(
        actions(&mut parts),
        [
            "0 adopt h/old 10",
            "0 close",
            "1 begin h/part-u-1.txt",
            "1 write a|b|c|",
            "1 close"
        ]
    );
    parts.report(closed(0, upload(&["e1"])));
    parts.report(closed(1, upload(&["e2"])));
    let rows: Vec<u64> = parts.prepare().iter().map(|(_, part)| part.rows).collect();
    assert_eq!(rows, [3, 3]);
}

#[test]
fn parts_of_a_folder_that_the_sink_had_before_are_finished_there() {
    let mut parts = parts(false, by_size(100));
    let mut old = state("h", Some(hidden()), "");
    old.part.as_mut().unwrap().file.folder = "file:///old".to_owned();
    parts.restore(vec![old], 0);
    assert_eq!(actions(&mut parts), ["0 adopt h/old 10", "0 close"]);
}

#[test]
fn too_many_open_parts_close_the_one_that_was_written_to_longest_ago() {
    let mut parts = parts(true, by_size(100));
    for (bucket, now_ms) in [("a", 0), ("b", 1), ("a", 2), ("c", 3)] {
        write(&mut parts, bucket, &["1"], now_ms);
    }
    parts.bound();
    assert_eq!(
        actions(&mut parts),
        ["1 begin b/part-u-1.txt", "1 write 1|", "1 close"]
    );
}

#[test]
fn too_many_buffered_bytes_are_handed_over_or_their_part_closed_where_pieces_may_not_be_small() {
    for keeps_tail in [false, true] {
        let mut parts = parts(keeps_tail, by_size(100));
        write(&mut parts, "a", &["123456"], 0);
        write(&mut parts, "b", &["12345"], 0);
        parts.bound();
        let mut expected = vec!["0 begin a/part-u-0.txt", "0 write 123456|"];
        expected.extend(keeps_tail.then_some("0 close"));
        assert_eq!(actions(&mut parts), expected);
    }
}

#[test]
fn time_closes_a_part_at_the_next_rows_or_at_the_barrier() {
    let policy = RollingPolicy::default().with_rollover_interval(Duration::from_millis(10));
    let mut parts = parts(false, policy);
    write(&mut parts, "a", &["1"], 0);
    write(&mut parts, "a", &["2"], 10);
    assert_eq!(
        actions(&mut parts),
        ["0 begin a/part-u-0.txt", "0 write 1|", "0 close"]
    );
    parts.barrier(20, false);
    assert_eq!(
        actions(&mut parts),
        ["1 begin a/part-u-1.txt", "1 write 2|", "1 close"]
    );
}

#[test]
fn a_part_whose_time_ends_while_it_is_synced_is_closed_with_what_its_close_says() {
    let policy = RollingPolicy::default().with_rollover_interval(Duration::from_millis(10));
    let mut parts = parts(true, policy);
    write(&mut parts, "", &["12345678", "9"], 0);
    parts.barrier(9, false);
    parts.barrier(10, false);
    assert_eq!(actions(&mut parts)[2..], ["0 sync", "0 write 9|", "0 close"]);
    parts.report(synced(0, upload(&["e1"])));
    assert!(!parts.is_flushed());
    parts.report(closed(0, upload(&["e1", "e2"])));
    assert!(parts.is_flushed());
    let part = parts.prepare().remove(0).1;
    assert_eq!(
        (part.staged, part.bytes, part.rows),
        (upload(&["e1", "e2"]), 11, 2)
    );
}
