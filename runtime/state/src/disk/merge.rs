//! Runs read as one: of each key the newest entry.

use std::sync::Arc;

use super::page::{Entry, Page};
use super::run::LocalRun;
use crate::StateError;

/// Pages that are read at a time.
const PAGES: usize = 32;

/// Reads a run from its begin to its end.
struct Cursor {
    run: Arc<LocalRun>,
    pages: std::vec::IntoIter<Page>,
    next_page: usize,
    page: Option<Page>,
    entry: usize,
}

impl Cursor {
    fn new(run: Arc<LocalRun>) -> Result<Self, StateError> {
        let mut cursor = Self {
            run,
            pages: Vec::new().into_iter(),
            next_page: 0,
            page: None,
            entry: 0,
        };
        cursor.turn_page()?;
        Ok(cursor)
    }

    fn turn_page(&mut self) -> Result<(), StateError> {
        self.entry = 0;
        self.page = self.pages.next();
        if self.page.is_none() && self.next_page < self.run.page_count() {
            let end = (self.next_page + PAGES).min(self.run.page_count());
            let numbers: Vec<usize> = (self.next_page..end).collect();
            self.next_page = end;
            self.pages = self.run.read_pages(&numbers)?.into_iter();
            self.page = self.pages.next();
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<(), StateError> {
        self.entry += 1;
        match &self.page {
            Some(page) if self.entry < page.len() => Ok(()),
            Some(_) => self.turn_page(),
            None => Ok(()),
        }
    }

    fn entry(&self) -> Option<Entry<'_>> {
        self.page.as_ref().map(|page| page.entry(self.entry))
    }
}

/// See the module.
pub(crate) struct MergedRuns {
    /// Newest first.
    cursors: Vec<Cursor>,
    /// Whose entry is the next, and those that have older ones of the same key.
    current: Vec<usize>,
}

impl MergedRuns {
    /// `runs`: oldest first.
    pub(crate) fn new(runs: &[Arc<LocalRun>]) -> Result<Self, StateError> {
        let cursors = runs.iter().rev().map(|run| Cursor::new(Arc::clone(run)));
        Ok(Self {
            cursors: cursors.collect::<Result<_, _>>()?,
            current: Vec::new(),
        })
    }

    /// The next key's newest entry.
    pub(crate) fn next(&mut self) -> Result<Option<Entry<'_>>, StateError> {
        for cursor in self.current.drain(..) {
            self.cursors[cursor].advance()?;
        }
        let mut least: Option<&[u8]> = None;
        for (number, cursor) in self.cursors.iter().enumerate() {
            let Some(entry) = cursor.entry() else { continue };
            let order = least.map_or(std::cmp::Ordering::Less, |least| entry.key.cmp(least));
            if order.is_lt() {
                self.current.clear();
                least = Some(entry.key);
            }
            if order.is_le() {
                self.current.push(number);
            }
        }
        let newest = self.current.first();
        Ok(newest.and_then(|newest| self.cursors[*newest].entry()))
    }
}
