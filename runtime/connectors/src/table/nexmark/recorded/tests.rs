//! Recorded events are the generator's, and bytes that are none are named.

use std::fs;
use std::path::Path;

use thalweg_types::StreamBatch;
use thalweg_types::config::Configuration;
use tokio::runtime::Runtime;

use super::record;
use crate::SourceEvent;
use crate::table::create_source;
use crate::table::nexmark::tests::nexmark;
use crate::table::testing::{read, texts, whole};
use crate::testing::{batches, context_of, next, restored_context_of};

const EVENTS: u64 = 30_000;

fn recorded(folder: &Path) -> Vec<(String, String)> {
    record(folder, 2, EVENTS, 7, 10_000).unwrap();
    vec![("recorded.path".to_owned(), folder.display().to_string())]
}

fn sorted(batches: &[StreamBatch]) -> Vec<String> {
    let mut texts = texts(batches);
    texts.sort();
    texts
}

fn rows(options: &[(String, String)], parallelism: u32) -> Result<Vec<String>, String> {
    let options: Vec<(&str, &str)> = options.iter().map(|(key, value)| (&**key, &**value)).collect();
    let table = nexmark(&options);
    let (spec, output) = whole(&table);
    let read = read(&spec, &output, parallelism)?;
    Ok(sorted(&read))
}

#[test]
fn recorded_events_are_those_of_the_generator_with_the_same_seed() {
    let folder = tempfile::tempdir().unwrap();
    let options = recorded(folder.path());
    let made = rows(&[("events.num".to_owned(), EVENTS.to_string())], 1).unwrap();
    assert_eq!(rows(&options, 1).unwrap(), made);
    assert_eq!(rows(&options, 3).unwrap(), made);
}

#[test]
fn a_restored_reader_goes_on_behind_the_block_it_gave() {
    let folder = tempfile::tempdir().unwrap();
    let options = recorded(folder.path());
    let table = nexmark(&[(&options[0].0, &options[0].1)]);
    let (spec, output) = whole(&table);
    let source = create_source(&spec, &output, &Configuration::default(), None).unwrap();
    let io = Runtime::new().unwrap();
    let mut reader = source.create_reader(context_of(&io, 0, 1)).unwrap();
    let SourceEvent::Batch(first) = next(reader.as_mut()).unwrap() else {
        panic!("a batch is expected");
    };
    let states = reader.snapshot(1).unwrap();
    let mut given = vec![first];
    for subtask in 0..2 {
        let context = restored_context_of(&io, subtask, 2, states.clone());
        given.extend(batches(source.create_reader(context).unwrap().as_mut()).unwrap());
    }
    assert_eq!(sorted(&given), rows(&options, 1).unwrap());
}

#[test]
fn what_is_no_recording_is_named_with_its_file_and_byte() {
    let folder = tempfile::tempdir().unwrap();
    let options = recorded(folder.path());
    let path = folder.path().join("events-1");
    let whole = fs::read(&path).unwrap();

    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let error = rows(&options, 1).unwrap_err();
    assert!(
        error.contains("events-1 at byte") && error.contains("ends within a record"),
        "{error}"
    );

    let mut kind = whole.clone();
    kind[12] = 9;
    fs::write(&path, &kind).unwrap();
    let error = rows(&options, 1).unwrap_err();
    assert!(
        error.contains("events-1 at byte 8: an event of kind 9"),
        "{error}"
    );

    let mut text = whole;
    *text.last_mut().unwrap() = 0xff;
    fs::write(&path, &text).unwrap();
    let error = rows(&options, 1).unwrap_err();
    assert!(error.contains("no UTF-8"), "{error}");

    fs::write(&path, b"something").unwrap();
    let error = rows(&options, 1).unwrap_err();
    assert!(error.contains("doesn't begin as recorded events do"), "{error}");
}
