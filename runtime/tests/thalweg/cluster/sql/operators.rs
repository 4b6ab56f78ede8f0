//! One script with every kind of operator that has state: killed, stopped and started at another parallelism it ends with what it ends with
//! when nothing happens.

use std::fs;

use super::*;

const OPERATORS: &str = include_str!("operators.sql");
/// Of the tables in files.
const FILES: [&str; 9] = [
    "firsts",
    "in_order",
    "intervals",
    "moving",
    "sessions",
    "temporal",
    "window_counts",
    "window_pairs",
    "window_tops",
];

/// The lines of a table's visible files, sorted.
fn lines(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_str().unwrap().starts_with('.') {
            lines.extend(fs::read_to_string(path).unwrap().lines().map(str::to_owned));
        }
    }
    lines.sort();
    lines
}

/// The lines of one that the other has not as often; both are sorted.
fn without<'a>(one: &'a [String], other: &[String]) -> Vec<&'a str> {
    let mut other = other.iter().peekable();
    let mut left = Vec::new();
    for line in one {
        while other.next_if(|known| *known < line).is_some() {}
        if other.next_if(|known| *known == line).is_none() {
            left.push(line.as_str());
        }
    }
    left
}

/// The newest value of each query and id that was printed.
fn newest_of_each(printed: &str) -> BTreeMap<(String, i64), i64> {
    let rows = printed.lines().filter_map(|line| {
        let begin = line.find("+I[").or_else(|| line.find("+U["))?;
        let mut row = line[begin + 3..].trim_end_matches(']').split(", ");
        Some((row.next()?.to_owned(), row.next()?, row.next()?))
    });
    rows.map(|(what, id, value)| ((what, id.parse().unwrap()), value.parse().unwrap()))
        .collect()
}

#[tokio::test]
async fn each_operator_goes_on_from_its_state_behind_a_kill_and_at_another_parallelism() {
    let scripts = Scripts::new();
    let whole = printed(&scripts.run(OPERATORS, AT_ONCE, "whole", &["-p", "1"]));
    let savepoint = stopped_behind_a_kill(&scripts, OPERATORS, "parts").await;
    let rest = printed(&scripts.run(OPERATORS, AT_ONCE, "parts", &["-p", "3", "-s", &savepoint]));

    for table in FILES {
        let expected = lines(&scripts.path("whole").join(table));
        assert!(!expected.is_empty(), "{table} has rows");
        let found = lines(&scripts.path("parts").join(table));
        let (missing, extra) = (without(&expected, &found), without(&found, &expected));
        assert_eq!((missing, extra), (Vec::new(), Vec::new()), "{table}");
    }
    let expected = newest_of_each(&whole);
    assert_eq!(expected.len(), 13 * 5 + 5 * 3 + 3);
    assert_eq!(newest_of_each(&rest), expected);
}
