//! The scripts of `tests/cases`, broken at random: no panic, every error has a place, and what is understood is understood again by itself.
//! `THALWEG_FUZZ_CASES` says how many times (`make test-full` tries more).

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;

use super::parse_statements;
use super::tests::errors_have_places;

/// All scripts of the cases, in the order of their paths.
static SCRIPTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut paths = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|end| end == "sql") => paths.push(path),
                false => {}
            }
        }
    }
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
});

/// What is done to the words of a script.
#[derive(Debug, Clone)]
enum Change {
    Drop(Index, Index),
    Swap(Index, Index),
    Repeat(Index, Index, u8),
    /// Words of another script.
    Borrow(Index, Index, Index),
    Cut(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    prop_oneof![
        (index(), index()).prop_map(|(at, length)| Change::Drop(at, length)),
        (index(), index()).prop_map(|(left, right)| Change::Swap(left, right)),
        (index(), index(), any::<u8>()).prop_map(|(at, length, times)| Change::Repeat(at, length, times)),
        (index(), index(), index()).prop_map(|(at, script, from)| Change::Borrow(at, script, from)),
        index().prop_map(Change::Cut),
    ]
}

/// Words, signs and what is between them, one behind another.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let end = match is_word(first) {
            true => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        let (word, behind) = rest.split_at(end);
        words.push(word);
        rest = behind;
    }
    words
}

fn changed(script: &'static str, changes: &[Change]) -> String {
    let mut words = words(script);
    for change in changes {
        let count = words.len();
        let piece = |at: &Index, length: &Index| {
            let from = at.index(count + 1);
            from..(from + length.index(8)).min(count)
        };
        match change {
            Change::Drop(at, length) => {
                let piece = piece(at, length);
                words.drain(piece);
            }
            Change::Swap(left, right) if count > 0 => words.swap(left.index(count), right.index(count)),
            Change::Repeat(at, length, times) => {
                let piece = words[piece(at, length)].to_vec();
                let at = at.index(count + 1);
                words.splice(at..at, piece.repeat(usize::from(*times)));
            }
            Change::Borrow(at, script, from) => {
                let others = self::words(&SCRIPTS[script.index(SCRIPTS.len())]);
                let from = from.index(others.len());
                let at = at.index(count + 1);
                words.splice(at..at, others[from..(from + 6).min(others.len())].iter().copied());
            }
            Change::Cut(at) => words.truncate(at.index(count + 1)),
            Change::Swap(..) => {}
        }
    }
    words.concat()
}

fn cases() -> u32 {
    let more = std::env::var("THALWEG_FUZZ_CASES").ok();
    more.and_then(|cases| cases.parse().ok()).unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_broken_script_is_refused_at_a_place_or_is_one(
        which in any::<Index>(),
        changes in prop::collection::vec(change(), 1..5),
    ) {
        let text = changed(&SCRIPTS[which.index(SCRIPTS.len())], &changes);
        errors_have_places(&text);
        for parsed in parse_statements(&text).unwrap_or_default() {
            let again = parse_statements(&parsed.text).map(|again| again.len());
            prop_assert_eq!(again, Ok(1), "{}", parsed.text);
        }
    }
}

#[test]
fn the_scripts_that_are_broken_are_there() {
    assert!(SCRIPTS.len() > 300);
    let text = &SCRIPTS[0];
    assert_eq!(words(text).concat(), *text);
}
