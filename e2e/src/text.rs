//! Real text, and an independent count of its words.

use std::collections::HashMap;

use anyhow::Context;

/// Reads a text of real lines; empty lines are left out, as a Kafka record without bytes says nothing.
pub fn read_lines(path: &str) -> anyhow::Result<Vec<String>> {
    let bytes = std::fs::read(path).with_context(|| format!("{path} can't be read"))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect())
}

/// Counts words as `examples/word-count` says that it does (lower case, split at what is not alphanumeric), written
/// differently: character by character.
pub fn count_words<'a>(lines: impl IntoIterator<Item = &'a str>) -> HashMap<String, u64> {
    let mut counts = HashMap::new();
    for line in lines {
        let mut word = String::new();
        for character in line.chars().chain(std::iter::once(' ')) {
            if character.is_alphanumeric() {
                word.extend(character.to_lowercase());
            } else if !word.is_empty() {
                *counts.entry(std::mem::take(&mut word)).or_default() += 1;
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_at_what_is_not_alphanumeric_and_lowered() {
        let counts = count_words(["To be, or not to-be."]);
        assert_eq!(
            counts,
            [("to", 2), ("be", 2), ("or", 1), ("not", 1)]
                .map(|(w, n)| (w.to_owned(), n))
                .into()
        );
    }
}
