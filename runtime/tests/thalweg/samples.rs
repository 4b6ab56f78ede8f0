//! `runtime/samples`: a snapshot of each format version is restored, looked into and exported, for ever; and what is said of
//! damaged ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::package::package;

const NUMBERS: i64 = 3000;
const KEYS: i64 = 13;

/// Each version's snapshot; paths in `runtime/samples`.
const SAMPLES: [&str; 2] = ["v1", "v2/chk-2"];

pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)
}

/// Of the job `remembering`.
pub(crate) fn arguments(numbers_per_second: i64) -> [String; 3] {
    [NUMBERS, KEYS, numbers_per_second].map(|argument| argument.to_string())
}

fn thalweg(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .args(arguments)
        .env_remove("THALWEG_CONF_DIR")
        .env("RUST_LOG", "off")
        .output()
        .unwrap()
}

fn succeeds(arguments: &[&str]) -> String {
    let output = thalweg(arguments);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn refused(arguments: &[&str], expected: &[&str]) {
    let output = thalweg(arguments);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = text.lines().last().unwrap_or_default();
    for expected in expected {
        assert!(last.contains(expected), "{last:?} should say {expected:?}");
    }
}

/// Restored at another parallelism and run to its end, the job remembers each number once in each kind of state.
pub(crate) fn goes_on_from(snapshot: &Path, package: &Path) {
    let (snapshot, package) = (snapshot.to_str().unwrap(), package.to_str().unwrap());
    let rest = arguments(10_000_000);
    let run = ["run", package, "-p", "3", "-s", snapshot, "--"];
    let run: Vec<&str> = run.into_iter().chain(rest.iter().map(String::as_str)).collect();
    let output = succeeds(&run);
    let lines = output.lines().map(|line| {
        let (_, said) = line.split_once("key ").unwrap();
        let (key, what) = said.split_once(": ").unwrap();
        (key.parse().unwrap(), what)
    });
    let remembered: BTreeMap<i64, &str> = lines.collect();
    assert_eq!(
        (remembered.len(), output.lines().count()),
        (KEYS as usize, KEYS as usize)
    );
    for key in 0..KEYS {
        let numbers: Vec<i64> = (key..NUMBERS).step_by(KEYS as usize).collect();
        let (count, sum) = (numbers.len(), numbers.iter().sum::<i64>());
        let largest = numbers[count - 1];
        let expected = format!(
            "counted {count}, listed {count}, mapped {count}, map sum {sum}, summed {sum}, largest {largest}, fired {count}, \
             in windows {count}"
        );
        assert_eq!(remembered[&key], expected, "key {key}");
    }
}

#[test]
fn every_versions_snapshot_is_restored_with_all_that_is_in_it() {
    let temporary = tempfile::tempdir().unwrap();
    let package = package("remembering", temporary.path());
    for sample in SAMPLES {
        goes_on_from(&folder(sample), &package);
    }
}

fn exported(path: &Path) -> RecordBatch {
    let file = std::fs::File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .unwrap()
        .build()
        .unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
}

fn numbers(batch: &RecordBatch, column: usize) -> Vec<i64> {
    let column = batch.column(column);
    assert_eq!(column.null_count(), 0);
    column.as_primitive::<Int64Type>().values().to_vec()
}

/// The last column by the first, which is the key; all of a key in order.
fn by_key(batch: &RecordBatch) -> BTreeMap<i64, Vec<i64>> {
    let mut by_key: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let values = numbers(batch, batch.num_columns() - 1);
    for (key, value) in numbers(batch, 0).into_iter().zip(values) {
        by_key.entry(key).or_default().push(value);
    }
    by_key.values_mut().for_each(|values| values.sort_unstable());
    by_key
}

#[test]
fn every_versions_snapshot_is_looked_into_and_exported() {
    for sample in SAMPLES {
        let sample = folder(sample);
        let sample = sample.to_str().unwrap();
        let inspected = succeeds(&["state", "inspect", sample]);
        for part in [
            "uid: ledger",
            "value state counted: ",
            "list state listed: ",
            "uid: numbers",
        ] {
            assert!(inspected.contains(part), "{part:?} is not in\n{inspected}");
        }
        let output = tempfile::tempdir().unwrap();
        let into = output.path().join("all");
        let told = succeeds(&[
            "state",
            "export",
            sample,
            "--operator",
            "ledger",
            "-o",
            into.to_str().unwrap(),
        ]);
        assert!(told.contains("value state counted: 13 rows -> "), "{told}");
        let state = |name: &str| by_key(&exported(&into.join(format!("{name}.parquet"))));
        let listed = state("listed");
        assert_eq!(listed.len(), KEYS as usize, "all keys of both subtasks");
        for (key, numbers) in &listed {
            let own = numbers.iter().all(|number| number % KEYS == *key);
            let once = numbers.windows(2).all(|pair| pair[0] < pair[1]);
            assert!(own && once, "{key}: {numbers:?}");
            assert_eq!(state("counted")[key], [numbers.len() as i64]);
            assert_eq!(state("summed")[key], [numbers.iter().sum::<i64>()]);
            assert_eq!(&state("mapped")[key], numbers);
        }
        let file = output.path().join("one.parquet");
        let file = file.to_str().unwrap();
        let one = [
            "state",
            "export",
            sample,
            "--operator",
            "ledger",
            "--state",
            "counted",
            "--output",
            file,
        ];
        succeeds(&[&one[..], &["--key-groups"]].concat());
        let schema = exported(Path::new(file)).schema();
        let names: Vec<&str> = schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        assert_eq!((names.len(), names[0]), (3, "$key_group"));
        refused(&one, &[file, "exists already"]);
    }
}

#[test]
fn what_can_not_be_exported_is_told_by_name_with_what_there_is() {
    let sample = folder("v1");
    let sample = sample.to_str().unwrap();
    let output = tempfile::tempdir().unwrap();
    let file = output.path().join("x.parquet");
    let export = |path: &str, rest: &[&str], expected: &[&str]| {
        let arguments = ["state", "export", path, "--output", file.to_str().unwrap()];
        refused(&[&arguments[..], rest].concat(), expected);
    };
    export(
        sample,
        &["--operator", "leger"],
        &["no operator \"leger\"", "did you mean \"ledger\"?", "\"numbers\""],
    );
    export(
        sample,
        &["--operator", "ledger", "--state", "count"],
        &[
            "(uid \"ledger\") has no state \"count\"",
            "did you mean \"counted\"?",
            "\"listed\"",
        ],
    );
    export(
        sample,
        &["--operator", "ledger"],
        &["a file takes one", "--state"],
    );
    export(
        "/no/such",
        &["--operator", "ledger"],
        &["/no/such/_metadata does not exist"],
    );
    assert!(!file.exists());
}

/// A copy of a sample, and all its files.
fn copied(name: &str, to: &Path) -> Vec<PathBuf> {
    let mut copied = Vec::new();
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(folder(name)).unwrap() {
        let path = entry.unwrap().path();
        let (relative, target) = (
            format!("{name}/{}", path.file_name().unwrap().to_str().unwrap()),
            to.join(path.file_name().unwrap()),
        );
        if path.is_dir() {
            copied.extend(self::copied(&relative, &target));
        } else {
            std::fs::copy(&path, &target).unwrap();
            copied.push(target);
        }
    }
    copied
}

#[test]
fn a_cut_flipped_or_missing_file_of_a_snapshot_is_named_by_inspect_export_and_run() {
    let temporary = tempfile::tempdir().unwrap();
    let package = package("remembering", temporary.path());
    let output = temporary.path().join("output");
    let rest = arguments(10_000_000);
    for (version, snapshot) in ["v1", "v2"].into_iter().zip(SAMPLES) {
        let copy = temporary.path().join(version);
        let files = copied(version, &copy);
        let snapshot = temporary.path().join(snapshot);
        let snapshot = snapshot.to_str().unwrap();
        let inspect = ["state", "inspect", snapshot];
        let operators = ["ledger", "windows", "numbers"];
        let outputs = operators.map(|operator| output.join(operator).to_str().unwrap().to_owned());
        let exports = [0, 1, 2].map(|index| {
            let (operator, output) = (operators[index], outputs[index].as_str());
            [
                "state",
                "export",
                snapshot,
                "--operator",
                operator,
                "--output",
                output,
            ]
        });
        let run = ["run", package.to_str().unwrap(), "-s", snapshot, "--"];
        let run: Vec<&str> = run.into_iter().chain(rest.iter().map(String::as_str)).collect();
        for file in files {
            let content = std::fs::read(&file).unwrap();
            let name = file.file_name().unwrap().to_str().unwrap();
            let metadata = name == "_metadata";
            let refused_by_name = |what: &str| {
                // Each run is a whole cluster: one a file is enough.
                if what == "flipped" {
                    refused(&run, &[name]);
                }
                let exports = exports.map(|export| thalweg(&export));
                let failed = exports.iter().filter(|output| !output.status.success());
                let errors: Vec<String> = failed
                    .map(|output| String::from_utf8_lossy(&output.stderr).into_owned())
                    .collect();
                assert!(
                    !errors.is_empty() && errors.iter().all(|error| error.contains(name)),
                    "{what} {name}: {errors:?}"
                );
                assert_eq!(
                    errors.len() == 3,
                    metadata,
                    "other operators' files are as they were"
                );
                let _ = std::fs::remove_dir_all(&output);
                if metadata {
                    refused(&inspect, &[name]);
                }
            };
            let mut flipped = content.clone();
            let middle = content.len() / 2;
            flipped[middle] ^= 1;
            std::fs::write(&file, &flipped).unwrap();
            refused_by_name("flipped");
            std::fs::write(&file, &content[..middle]).unwrap();
            refused_by_name("cut off");
            std::fs::remove_file(&file).unwrap();
            refused_by_name("missing");
            std::fs::write(&file, &content).unwrap();
        }
        // A version of the future.
        let metadata = Path::new(snapshot).join("_metadata");
        let mut content = std::fs::read(&metadata).unwrap();
        content.truncate(content.len() - 4);
        content[8] = 9;
        let checksum = crc32c::crc32c(&content);
        content.extend(checksum.to_le_bytes());
        std::fs::write(&metadata, content).unwrap();
        refused(&inspect, &["_metadata", "format version 9"]);
        refused(&exports[0], &["_metadata", "format version 9"]);
    }
}
