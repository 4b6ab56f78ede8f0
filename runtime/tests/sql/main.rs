//! SQL scripts whose results real Flink made: each gives the same here.
//!
//! `runtime/sql/tests/cases/AREA/NAME.sql` is the script, `NAME.out` what Flink printed (`e2e/parity/parity record`). Compared is
//! what is left of each printed changelog when it is applied, or with `-- compare: changelog` every line. Where Flink refuses or
//! fails, so must we; the words are our own.
//!
//! The same scripts in batch mode give what their streams leave, if batch mode has them.
//!
//! `runtime/sql/tests/pending.txt` names the cases that differ still: one that passes must leave that list.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Scripts at a time.
const AT_A_TIME: usize = 4;
/// How Flink's output says that a statement failed.
const ERROR: &str = "ERROR: ";
/// Stands for the folder of input files in what was printed.
const INPUT: &str = "${input}";

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/tests").join(name)
}

fn scripts(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            scripts(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "sql") {
            into.push(path);
        }
    }
    into.sort();
}

fn run(script: &Path) -> String {
    run_in("STREAMING", script)
}

fn run_in(mode: &str, script: &Path) -> String {
    let input = folder("input");
    // What a script writes, and reads again.
    let written = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .args(["sql", "-D", "table.dml-sync=true"])
        .args(["-D", &format!("execution.runtime-mode={mode}"), "-f"])
        .arg(script)
        .arg("-D")
        .arg(format!("input={}", input.display()))
        .args(["-D", &format!("output={}", written.path().display())])
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed = printed.replace(&input.display().to_string(), INPUT);
    if output.status.success() {
        return printed;
    }
    format!(
        "{printed}{ERROR}{}\n",
        String::from_utf8_lossy(&output.stderr).trim()
    )
}

/// Kind and row of a printed row, with the prefix that says which table.
fn row(line: &str) -> Option<(bool, String)> {
    let begin = ["+I[", "+U[", "-U[", "-D["]
        .iter()
        .filter_map(|kind| line.find(kind))
        .min()?;
    let (prefix, row) = line.split_at(begin);
    if !(prefix.is_empty() || prefix.ends_with("> ")) || !row.ends_with(']') {
        return None;
    }
    Some((row.starts_with('+'), format!("{prefix}{}", &row[2..])))
}

/// What is left of the changelogs, and the lines that are no rows.
fn materialised(text: &str) -> (BTreeMap<String, i64>, Vec<&str>) {
    let (mut rows, mut others) = (BTreeMap::new(), Vec::new());
    for line in text.lines() {
        match row(line) {
            Some((added, row)) => *rows.entry(row).or_default() += if added { 1 } else { -1 },
            None => others.push(line),
        }
    }
    rows.retain(|_, count| *count != 0);
    others.sort_unstable();
    (rows, others)
}

/// Without the runs of blanks and dashes that a column's width makes.
fn unsized_boxes(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if !(matches!(c, ' ' | '-') && shown.ends_with(c)) {
            shown.push(c);
        }
    }
    shown
}

fn difference(script: &str, expected: &str, found: &str) -> Option<String> {
    let both = || Some(format!("expected:\n{expected}\nfound:\n{found}"));
    if expected.contains(ERROR) || found.contains(ERROR) {
        return if expected.contains(ERROR) && found.contains(ERROR) {
            None
        } else {
            both()
        };
    }
    let equal = if expected.contains(INPUT) {
        // A path of another length makes its column as wide.
        unsized_boxes(expected) == unsized_boxes(found)
    } else if script.contains("-- compare: changelog") {
        expected == found
    } else {
        materialised(expected) == materialised(found)
    };
    if equal { None } else { both() }
}

#[test]
fn scripts_give_what_flink_gives() {
    let cases = folder("cases");
    let mut all = Vec::new();
    scripts(&cases, &mut all);
    assert!(!all.is_empty());
    let wanted = std::env::var("THALWEG_SQL_CASES").unwrap_or_default();
    let name = |script: &Path| {
        script
            .strip_prefix(&cases)
            .unwrap()
            .with_extension("")
            .display()
            .to_string()
    };
    let pending = fs::read_to_string(folder("pending.txt")).unwrap();
    let pending: BTreeSet<&str> = pending.lines().filter(|line| !line.starts_with('#')).collect();
    let (next, differing) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(script) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !name(script).contains(&wanted) {
                        continue;
                    }
                    let text = fs::read_to_string(script).unwrap();
                    let expected = fs::read_to_string(script.with_extension("out")).unwrap();
                    let differs = difference(&text, &expected, &run(script));
                    if let Some(differs) = differs {
                        differing.lock().unwrap().insert(name(script), differs);
                    }
                }
            });
        }
    });
    let differing = differing.into_inner().unwrap();
    let unexpected: Vec<_> = differing
        .iter()
        .filter(|(name, _)| !pending.contains(name.as_str()))
        .collect();
    for (name, differs) in &unexpected {
        println!("---- {name}\n{differs}");
    }
    let names: Vec<_> = unexpected.iter().map(|(name, _)| name.as_str()).collect();
    assert!(
        names.is_empty(),
        "{} of {} scripts differ:\n{}",
        names.len(),
        all.len(),
        names.join("\n")
    );
    let passes = |case: &&str| case.contains(&wanted) && !differing.contains_key(*case);
    let passing: Vec<_> = pending.iter().copied().filter(|case| passes(case)).collect();
    assert!(
        passing.is_empty(),
        "these pass now and must leave pending.txt: {passing:#?}"
    );
}

/// Why batch mode refuses a script that is a stream's: parts of messages.
const NOT_IN_BATCH: [&str; 3] = [
    "is currently only possible for INSERT-only table sources",
    "Unaligned windows like session are not supported in batch mode",
    "FOR SYSTEM_TIME AS OF",
];

#[test]
fn scripts_give_in_batch_mode_what_their_streams_leave() {
    let mut all = Vec::new();
    scripts(&folder("cases"), &mut all);
    let wanted = std::env::var("THALWEG_SQL_CASES").unwrap_or_default();
    all.retain(|script| script.display().to_string().contains(&wanted));
    let (next, compared) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let differing = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(script) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let expected = fs::read_to_string(script.with_extension("out")).unwrap();
                    // A console shows no kinds in batch mode, and of upserts the last ones are left.
                    let others = [ERROR, "+--", INPUT];
                    let are_upserts = expected.contains("+U[") && !expected.contains("-U[");
                    if others.iter().any(|other| expected.contains(other)) || are_upserts {
                        continue;
                    }
                    let found = run_in("BATCH", script);
                    if NOT_IN_BATCH.iter().any(|refusal| found.contains(refusal)) {
                        continue;
                    }
                    compared.fetch_add(1, Ordering::Relaxed);
                    let has_changes = ["-U[", "-D["].iter().any(|kind| found.contains(kind));
                    if has_changes || materialised(&expected) != materialised(&found) {
                        let differs = format!("{}\nstream:\n{expected}\nbatch:\n{found}", script.display());
                        differing.lock().unwrap().push(differs);
                    }
                }
            });
        }
    });
    let differing = differing.into_inner().unwrap();
    assert!(differing.is_empty(), "{}", differing.join("\n----\n"));
    println!("{} scripts give the same in batch mode", compared.into_inner());
}
