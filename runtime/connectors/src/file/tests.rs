//! The file source against real files, and the line cutter against readers that give few bytes at once.

use std::fs;
use std::io::{Cursor, Read};

use arrow::array::AsArray;
use futures::future::poll_fn;
use thalweg_types::StreamBatch;
use tokio::runtime::Runtime;

use super::lines::{self, LineBatcher, Stop};
use super::state::Position;
use super::*;
use crate::testing::{batches, context_of, next, restored_context_of};

fn lines_of(batch: &StreamBatch) -> Vec<String> {
    batch
        .rows
        .column(0)
        .as_string::<i32>()
        .iter()
        .map(|line| line.unwrap().to_owned())
        .collect()
}

fn read(source: &FileSource, subtask: u32, parallelism: u32) -> Result<Vec<String>, ConnectorError> {
    let io = Runtime::new().unwrap();
    let mut reader = source.create_reader(context_of(&io, subtask, parallelism))?;
    Ok(batches(reader.as_mut())?.iter().flat_map(lines_of).collect())
}

fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("in.txt");
    fs::write(&path, content).unwrap();
    (directory, path)
}

/// Gives `0` bytes at once at most, as a pipe or a slow disk does.
struct Trickle(Cursor<Vec<u8>>, usize);

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(self.1);
        self.0.read(&mut buffer[..length])
    }
}

fn cut(text: &str, bytes_at_once: usize, options: LineOptions) -> Result<Vec<String>, Stop> {
    let mut lines = LineBatcher::new(
        lines::text(FileSource::for_text_lines("x").schema(), options),
        options,
    );
    let mut given = Vec::new();
    let mut emit = |batch: StreamBatch, _: Progress| {
        given.extend(lines_of(&batch));
        Ok(())
    };
    let mut reader = Trickle(Cursor::new(text.as_bytes().to_vec()), bytes_at_once);
    let counters = FileCounters::default();
    lines.read_file(&mut reader, Path::new("x"), Position::START, &counters, &mut emit)?;
    lines.flush(&mut emit)?;
    Ok(given)
}

#[test]
fn lines_end_at_a_newline_with_or_without_carriage_return_and_the_last_needs_none() {
    let (_directory, path) = file("one\r\n\ntwo – ü\nthree".as_bytes());
    assert_eq!(
        read(&FileSource::for_text_lines(path), 0, 1).unwrap(),
        ["one", "", "two – ü", "three"]
    );
}

#[test]
fn lines_are_the_same_however_few_bytes_a_read_gives() {
    let text = (0..3_000)
        .map(|n| format!("{n}: {}\n", "ä".repeat(n % 50)))
        .collect::<String>();
    let options = LineOptions {
        max_line_bytes: 1_000,
        lossy: false,
        quoting: None,
    };
    let expected = text.lines().map(str::to_owned).collect::<Vec<_>>();
    for bytes_at_once in [1, 7, 4_096, usize::MAX] {
        assert_eq!(cut(&text, bytes_at_once, options).unwrap(), expected);
    }
}

#[test]
fn a_line_longer_than_a_block_is_whole() {
    let long = "x".repeat(1 << 20);
    let options = LineOptions {
        max_line_bytes: 1 << 20,
        lossy: false,
        quoting: None,
    };
    assert_eq!(
        cut(&format!("a\n{long}\nb"), 10_000, options).unwrap(),
        ["a".to_owned(), long, "b".to_owned()]
    );
}

#[test]
fn a_line_over_the_limit_is_named() {
    let (_directory, path) = file(b"short\nmuch too long\n");
    let error = read(&FileSource::for_text_lines(&path).max_line_bytes(5), 0, 1).unwrap_err();
    let expected = format!(
        "file source: {} line 2 is longer than 5 bytes: raise `max_line_bytes`",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_line_that_is_not_utf8_is_named_even_in_the_second_file_of_a_batch() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a"), "1\n2\n3\n").unwrap();
    fs::write(directory.path().join("b"), b"4\nb\xFFd\n").unwrap();
    let source = FileSource::for_text_lines(directory.path());
    let error = read(&source, 0, 1).unwrap_err().to_string();
    let expected = format!(
        "{} line 2 isn't UTF-8 from byte 2 on",
        directory.path().join("b").display()
    );
    assert!(error.contains(&expected), "{error}");
    assert_eq!(
        read(&source.lossy(), 0, 1).unwrap(),
        ["1", "2", "3", "4", "b\u{FFFD}d"]
    );
}

#[test]
fn every_file_of_a_directory_tree_is_read_by_one_subtask_and_hidden_ones_by_none() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("deep/_temporary")).unwrap();
    for name in [
        "a",
        "b",
        "c",
        "deep/d",
        "deep/e",
        ".hidden",
        "_SUCCESS",
        "deep/_temporary/f",
    ] {
        fs::write(directory.path().join(name), format!("{name}\n")).unwrap();
    }
    let source = FileSource::for_text_lines(directory.path());
    let mut all = (0..3)
        .flat_map(|subtask| read(&source, subtask, 3).unwrap())
        .collect::<Vec<_>>();
    all.sort();
    assert_eq!(all, ["a", "b", "c", "deep/d", "deep/e"]);
}

#[test]
fn a_path_that_does_not_exist_is_refused_by_name() {
    let error = read(&FileSource::for_text_lines("/no/such/file"), 0, 1).unwrap_err();
    let expected =
        "file source: /no/such/file doesn't exist; it has to be there for every TaskManager that reads it";
    assert_eq!(error.to_string(), expected);
    assert!(matches!(error, ConnectorError::Refused(_)));
}

#[test]
fn a_watched_directory_gives_the_lines_of_files_that_come_later_once() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("first"), "1\n").unwrap();
    let io = Runtime::new().unwrap();
    let source = FileSource::for_text_lines(directory.path()).monitor_continuously(Duration::from_millis(1));
    let mut reader = source.create_reader(context_of(&io, 0, 1)).unwrap();
    let mut next_lines = || loop {
        if let SourceEvent::Batch(batch) = next(reader.as_mut()).unwrap() {
            return lines_of(&batch);
        }
    };
    assert_eq!(next_lines(), ["1"]);
    for name in ["second", "third"] {
        let hidden = directory.path().join(".new");
        fs::write(&hidden, format!("{name}\n")).unwrap();
        fs::rename(hidden, directory.path().join(name)).unwrap();
        assert_eq!(next_lines(), [name]);
    }
}

#[test]
fn a_reader_that_is_dropped_ends_its_job_on_the_runtime() {
    let directory = tempfile::tempdir().unwrap();
    let io = Runtime::new().unwrap();
    let source =
        FileSource::for_text_lines(directory.path()).monitor_continuously(Duration::from_secs(3_600));
    let mut reader = source.create_reader(context_of(&io, 0, 1)).unwrap();
    let polled = io.block_on(poll_fn(|cx| Poll::Ready(reader.poll_next(cx).is_pending())));
    assert!(polled);
    drop(reader);
    // waits for blocking jobs: returns only if the job saw that its reader is gone
    drop(io);
}

#[test]
fn restored_readers_read_on_behind_the_line_they_gave_last_at_any_parallelism() {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for name in 0..5 {
        let lines: Vec<String> = (0..9_000).map(|line| format!("{name} {line}")).collect();
        fs::write(directory.path().join(format!("{name}.txt")), lines.join("\r\n")).unwrap();
        expected.extend(lines);
    }
    fs::write(directory.path().join("empty.txt"), "").unwrap();
    let io = Runtime::new().unwrap();
    let source = FileSource::for_text_lines(directory.path());
    for batches_before in [0, 1, 4] {
        let mut given = Vec::new();
        let mut states = Vec::new();
        for subtask in 0..2 {
            let mut reader = source.create_reader(context_of(&io, subtask, 2)).unwrap();
            for _ in 0..batches_before {
                if let SourceEvent::Batch(batch) = next(reader.as_mut()).unwrap() {
                    given.extend(lines_of(&batch));
                }
            }
            states.extend(reader.snapshot(1).unwrap());
        }
        for subtask in 0..3 {
            let context = restored_context_of(&io, subtask, 3, states.clone());
            let mut reader = source.create_reader(context).unwrap();
            given.extend(batches(reader.as_mut()).unwrap().iter().flat_map(lines_of));
        }
        given.sort();
        expected.sort();
        assert_eq!(given, expected);
    }
}

#[test]
fn a_file_that_became_shorter_than_what_was_read_is_refused() {
    let lines: String = (0..9_000).map(|line| format!("{line}\n")).collect();
    let (_directory, path) = file(lines.as_bytes());
    let io = Runtime::new().unwrap();
    let source = FileSource::for_text_lines(&path);
    let mut reader = source.create_reader(context_of(&io, 0, 1)).unwrap();
    next(reader.as_mut()).unwrap();
    let states = reader.snapshot(1).unwrap();
    fs::write(&path, "1\n").unwrap();
    let mut reader = source
        .create_reader(restored_context_of(&io, 0, 1, states))
        .unwrap();
    let error = next(reader.as_mut()).unwrap_err().to_string();
    assert!(
        error.contains("and has 2 bytes now: files must not change"),
        "{error}"
    );
}

#[test]
fn a_state_of_something_else_is_refused() {
    let io = Runtime::new().unwrap();
    let context = restored_context_of(&io, 0, 1, vec![vec![0xff; 7]]);
    let error = FileSource::for_text_lines("x")
        .create_reader(context)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("is no state of such a source"), "{error}");
}

#[test]
fn a_reader_says_where_the_rows_of_its_last_batch_came_from() {
    let rows = thalweg_types::element::TARGET_BATCH_ROWS;
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("a.txt"), directory.path().join("b.txt"));
    fs::write(&first, "x\n".repeat(10)).unwrap();
    fs::write(&second, "yy\n".repeat(rows)).unwrap();
    let io = Runtime::new().unwrap();
    let source = FileSource::for_text_lines(directory.path());
    let mut reader = source.create_reader(context_of(&io, 0, 1)).unwrap();
    assert_eq!(reader.position(), None);
    let mut positions = Vec::new();
    while let SourceEvent::Batch(_) = next(reader.as_mut()).unwrap() {
        positions.push(reader.position().unwrap());
    }
    let (first, second, line) = (first.display(), second.display(), rows - 10);
    let byte = line * 3;
    assert_eq!(
        positions,
        [
            format!("file {first} from line 1 (byte 0) to file {second} to line {line} (before byte {byte})"),
            format!("file {second} from line {} (byte {byte}) to its end", line + 1),
        ]
    );
    assert_eq!(reader.position(), None, "the end has no rows");
}
