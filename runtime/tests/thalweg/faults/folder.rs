//! The output as readers of finished files see it: whatever has a name that is not hidden is there, whole, and stays as it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::audit::{Ledger, Reader};

/// Reads along: each file once, when it is first seen.
pub(super) struct FolderReader {
    folder: PathBuf,
    /// Length of each that was read.
    read: BTreeMap<PathBuf, u64>,
}

impl FolderReader {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            read: BTreeMap::new(),
        }
    }
}

impl Reader for FolderReader {
    fn read(&mut self, ledger: &mut Ledger) -> Result<(), String> {
        for file in visible(&self.folder) {
            let told = |wrong: String| format!("{}: {wrong}", file.display());
            match self.read.get(&file) {
                None => {
                    let length = enter(&file, ledger).map_err(told)?;
                    self.read.insert(file, length);
                }
                Some(length) => {
                    let found = file.metadata().map_err(|error| told(error.to_string()))?.len();
                    if found != *length {
                        return Err(told(format!("it had {length} bytes and has {found}")));
                    }
                }
            }
        }
        Ok(())
    }

    fn ledger(&self, seed: u64) -> Ledger {
        Ledger::in_pieces(seed)
    }
}

/// Files that a writer has begun since its newest checkpoint, at most: a killed one can't take them back.
const BEGUN: usize = 4;

/// Reads all files again, and checks that hidden ones are left by faults only, not by checkpoints.
pub(super) fn check_all(folder: &Path, seed: u64, transfers: i64, faults: usize) -> anyhow::Result<()> {
    let mut ledger = Ledger::in_pieces(seed);
    for file in visible(folder) {
        let entered = enter(&file, &mut ledger).map_err(anyhow::Error::msg);
        entered.with_context(|| file.display().to_string())?;
    }
    ledger.complete(transfers)?;
    let hidden: Vec<PathBuf> = files(folder).into_iter().filter(|file| is_hidden(file)).collect();
    ensure!(
        hidden.len() <= BEGUN * faults,
        "hidden files are left over: {hidden:?}"
    );
    Ok(())
}

/// All lines of a file, which must be whole lines; its length.
fn enter(file: &Path, ledger: &mut Ledger) -> Result<u64, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    if !text.ends_with('\n') {
        return Err("it does not end with the end of a line".to_owned());
    }
    ledger.next_piece();
    for line in text.lines() {
        ledger.enter(line)?;
    }
    Ok(text.len() as u64)
}

fn visible(folder: &Path) -> Vec<PathBuf> {
    files(folder)
        .into_iter()
        .filter(|file| !is_hidden(file))
        .collect()
}

fn is_hidden(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(['.', '_'])
}

/// All of them, also in folders below; those that vanish meanwhile are left out.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::transfers::{FIRST_BALANCE, transfer};

    #[test]
    fn files_are_read_once_and_a_half_one_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let made = transfer(1, 0);
        let debit = format!(
            "0 {} {} {}\n",
            made.from,
            -made.amount,
            FIRST_BALANCE - made.amount
        );
        let credit = format!("0 {} {} {}\n", made.to, made.amount, FIRST_BALANCE + made.amount);
        std::fs::write(folder.path().join("part-a-0"), debit).unwrap();
        std::fs::write(folder.path().join(".part-a-1"), "0 1").unwrap();
        let (mut reader, mut ledger) = (FolderReader::new(folder.path().to_owned()), Ledger::in_pieces(1));
        reader.read(&mut ledger).unwrap();
        reader.read(&mut ledger).unwrap();
        assert!(check_all(folder.path(), 1, 1, 1).is_err(), "one half is missing");
        std::fs::write(folder.path().join("part-b-0"), credit).unwrap();
        reader.read(&mut ledger).unwrap();
        ledger.complete(1).unwrap();
        check_all(folder.path(), 1, 1, 1).unwrap();
        let error = check_all(folder.path(), 1, 1, 0).unwrap_err().to_string();
        assert!(error.contains("hidden files are left over"), "{error}");
        std::fs::rename(folder.path().join(".part-a-1"), folder.path().join("part-a-1")).unwrap();
        let error = reader.read(&mut ledger).unwrap_err();
        assert!(error.contains("does not end with the end of a line"), "{error}");
    }
}
