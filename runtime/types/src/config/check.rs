//! Is each key known, and each value one of its type?

use std::fmt;

use super::flink_keys;
use super::option::AnyOption;
use super::options::SECTIONS;
use super::{ConfigError, Configuration};

/// A key that was accepted but has no effect, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// As it was given.
    pub key: String,
    /// Half a sentence: "there is no JVM here".
    pub reason: &'static str,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "configuration key {:?} has no effect: {}",
            self.key, self.reason
        )
    }
}

/// Similarity (1.0 = equal) from which a key is offered as what was meant.
const NEAR: f64 = 0.75;

pub(super) fn check(configuration: &Configuration) -> Result<Vec<Note>, ConfigError> {
    let mut notes = Vec::new();
    for (key, value) in configuration.iter() {
        if let Some(option) = option_of(key) {
            if !option.accepts(value) {
                return Err(ConfigError::Malformed {
                    key: key.to_owned(),
                    value: value.to_owned(),
                    expected: option.expected().to_owned(),
                });
            }
        } else if let Some(reason) = flink_keys::reason_without_effect(key) {
            notes.push(Note {
                key: key.to_owned(),
                reason,
            });
        } else {
            return Err(ConfigError::UnknownKey {
                key: key.to_owned(),
                nearest: nearest(key),
            });
        }
    }
    Ok(notes)
}

fn all_options() -> impl Iterator<Item = &'static dyn AnyOption> {
    SECTIONS.iter().flat_map(|(_, options)| options.iter().copied())
}

fn option_of(key: &str) -> Option<&'static dyn AnyOption> {
    all_options().find(|option| option.key() == key || option.older_keys().contains(&key))
}

/// The known key that looks most like this one.
fn nearest(key: &str) -> Option<String> {
    all_options()
        .map(AnyOption::key)
        .chain(flink_keys::all_keys())
        .map(|known| {
            (
                strsim::normalized_damerau_levenshtein(&key.to_lowercase(), &known.to_lowercase()),
                known,
            )
        })
        .filter(|(similarity, _)| *similarity >= NEAR)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, known)| known.to_owned())
}
