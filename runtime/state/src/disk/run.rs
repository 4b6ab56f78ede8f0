//! A sorted file of keys and their rows, with its index and its bloom filter in memory.
//!
//! Invariants: keys ascend; every page is under a checksum, which is in memory and verified before the page is used.

use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::DefaultHashBuilder;

use super::bloom::BloomFilter;
use super::folder::{LocalFile, LocalFolder, LocalWriter};
use super::page::{Entry, PAGE_BYTES, Page, PageBuilder};
use crate::StateError;

/// Neighbouring pages are read together up to this size.
const READ_BYTES: u64 = 256 << 10;

/// See the module.
pub(crate) struct LocalRun {
    file: LocalFile,
    pages: Vec<PagePlace>,
    /// First key of each page, one behind another, and where each ends.
    first_keys: Vec<u8>,
    first_key_ends: Vec<u32>,
    last_key: Vec<u8>,
    bloom: BloomFilter,
    entries: usize,
}

struct PagePlace {
    offset: u64,
    length: u32,
    /// Before LZ4; 0 = stored as it is.
    raw_length: u32,
    crc32c: u32,
}

impl LocalRun {
    pub(crate) fn file(&self) -> &LocalFile {
        &self.file
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    /// Keys, also those without rows.
    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    pub(crate) fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Bytes held.
    pub(crate) fn memory_size(&self) -> usize {
        self.bloom.memory_size()
            + self.first_keys.capacity()
            + self.first_key_ends.capacity() * size_of::<u32>()
            + self.pages.capacity() * size_of::<PagePlace>()
            + size_of::<Self>()
    }

    fn first_key(&self, page: usize) -> &[u8] {
        let start = match page {
            0 => 0,
            page => self.first_key_ends[page - 1] as usize,
        };
        &self.first_keys[start..self.first_key_ends[page] as usize]
    }

    /// The page that has the key if the run has it; None if it can't have it.
    #[inline]
    pub(crate) fn page_of(&self, key: &[u8], hash: u64) -> Option<usize> {
        if !self.bloom.may_hold(hash) || key > self.last_key.as_slice() {
            return None;
        }
        let (mut from, mut to) = (0, self.pages.len());
        while from < to {
            let middle = from + (to - from) / 2;
            if self.first_key(middle) <= key {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from.checked_sub(1)
    }

    /// These pages, whose numbers ascend.
    pub(crate) fn read_pages(&self, pages: &[usize]) -> Result<Vec<Page>, StateError> {
        let mut read = Vec::with_capacity(pages.len());
        let mut rest = pages;
        while let Some(first) = rest.first() {
            let together = self.neighbours(rest);
            let (part, behind) = rest.split_at(together);
            rest = behind;
            let start = self.pages[*first].offset;
            let last = &self.pages[part[together - 1]];
            let length = (last.offset - start) as usize + last.length as usize;
            let bytes = self.file.read(start, length)?;
            for page in part {
                let place = &self.pages[*page];
                let from = (place.offset - start) as usize;
                read.push(self.decode(place, &bytes.slice(from..from + place.length as usize))?);
            }
        }
        Ok(read)
    }

    /// How many of the first of these pages lie behind each other.
    fn neighbours(&self, pages: &[usize]) -> usize {
        let start = self.pages[pages[0]].offset;
        let goes_on = |pair: &[usize]| {
            let next = &self.pages[pair[1]];
            pair[1] == pair[0] + 1 && next.offset + u64::from(next.length) - start <= READ_BYTES
        };
        1 + pages.windows(2).take_while(|pair| goes_on(pair)).count()
    }

    fn decode(&self, place: &PagePlace, stored: &Bytes) -> Result<Page, StateError> {
        let damaged = |what: &str| {
            self.file
                .damaged(&format!("page at byte {}: {what}", place.offset))
        };
        if crc32c::crc32c(stored) != place.crc32c {
            return Err(damaged("its checksum differs"));
        }
        let raw = match place.raw_length {
            0 => stored.to_vec(),
            length => lz4_flex::block::decompress(stored, length as usize)
                .map_err(|error| damaged(&error.to_string()))?,
        };
        Page::new(raw).ok_or_else(|| damaged("it is no page"))
    }
}

/// Writes a run, key by key, ascending.
pub(crate) struct RunWriter {
    file: LocalWriter,
    hasher: DefaultHashBuilder,
    page: PageBuilder,
    raw: Vec<u8>,
    offset: u64,
    pages: Vec<PagePlace>,
    first_keys: Vec<u8>,
    first_key_ends: Vec<u32>,
    last_key: Vec<u8>,
    bloom: BloomFilter,
    entries: usize,
}

impl RunWriter {
    /// For about so many keys.
    pub(crate) fn new(
        folder: &Arc<LocalFolder>,
        hasher: &DefaultHashBuilder,
        keys: usize,
    ) -> Result<Self, StateError> {
        Ok(Self {
            file: folder.create()?,
            hasher: hasher.clone(),
            page: PageBuilder::default(),
            raw: Vec::new(),
            offset: 0,
            pages: Vec::new(),
            first_keys: Vec::new(),
            first_key_ends: Vec::new(),
            last_key: Vec::new(),
            bloom: BloomFilter::new(keys),
            entries: 0,
        })
    }

    pub(crate) fn push(&mut self, entry: Entry<'_>) -> Result<(), StateError> {
        debug_assert!(
            self.entries == 0 || entry.key > self.last_key.as_slice(),
            "keys ascend"
        );
        if !self.page.is_empty() && self.page.bytes() + entry.key.len() + entry.rows.len() > PAGE_BYTES {
            self.end_page()?;
        }
        if !self.page.push(entry.key, entry.rows) {
            return Err(StateError::Memory {
                message: format!(
                    "the rows of one key take {} bytes; the most is 4 GiB",
                    entry.rows.len()
                ),
            });
        }
        self.bloom.insert(self.hasher.hash_one(entry.key));
        self.last_key.clear();
        self.last_key.extend_from_slice(entry.key);
        self.entries += 1;
        Ok(())
    }

    fn end_page(&mut self) -> Result<(), StateError> {
        if self.page.is_empty() {
            return Ok(());
        }
        self.first_keys.extend_from_slice(self.page.first_key());
        let end = u32::try_from(self.first_keys.len()).map_err(|_| StateError::Memory {
            message: "the index of state on disk passes 4 GiB in one file: raise the parallelism".to_owned(),
        })?;
        self.first_key_ends.push(end);
        self.page.take(&mut self.raw);
        let compressed = lz4_flex::block::compress(&self.raw);
        let (stored, raw_length) = match compressed.len() < self.raw.len() / 8 * 7 {
            true => (&compressed, self.raw.len() as u32),
            false => (&self.raw, 0),
        };
        self.file.append(stored)?;
        self.pages.push(PagePlace {
            offset: self.offset,
            length: stored.len() as u32,
            raw_length,
            crc32c: crc32c::crc32c(stored),
        });
        self.offset += stored.len() as u64;
        Ok(())
    }

    /// None if there is nothing in it.
    pub(crate) fn finish(mut self) -> Result<Option<LocalRun>, StateError> {
        self.end_page()?;
        if self.entries == 0 {
            return Ok(None);
        }
        self.first_keys.shrink_to_fit();
        self.first_key_ends.shrink_to_fit();
        self.pages.shrink_to_fit();
        Ok(Some(LocalRun {
            file: self.file.finish()?,
            pages: self.pages,
            first_keys: self.first_keys,
            first_key_ends: self.first_key_ends,
            last_key: self.last_key,
            bloom: self.bloom,
            entries: self.entries,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::FileExt;

    use super::super::page::{put_row, rows_of};
    use super::super::pool;
    use super::*;

    fn key(number: u32) -> [u8; 4] {
        (2 * number).to_be_bytes()
    }

    fn written(folder: &Arc<LocalFolder>, hasher: &DefaultHashBuilder, count: u32) -> Arc<LocalRun> {
        let mut writer = RunWriter::new(folder, hasher, count as usize).unwrap();
        for number in 0..count {
            let mut rows = Vec::new();
            put_row(&mut rows, 1, [&number.to_le_bytes(), b"some text some text"]);
            let key = key(number);
            writer
                .push(Entry {
                    key: &key,
                    rows: &rows,
                })
                .unwrap();
        }
        Arc::new(writer.finish().unwrap().unwrap())
    }

    #[test]
    fn each_key_is_in_its_page_and_pages_are_read_in_any_number_and_on_any_thread() {
        let base = tempfile::tempdir().unwrap();
        let folder = LocalFolder::of_process(base.path()).unwrap();
        let hasher = DefaultHashBuilder::default();
        let run = written(&folder, &hasher, 50_000);
        assert!(run.page_count() > 100 && run.memory_size() < 50_000 * 3);
        for step in [1, 3, 70] {
            let pages: Vec<usize> = (0..run.page_count()).step_by(step).collect();
            let read = pool::read_pages(&run, &pages).unwrap();
            for (page, number) in read.iter().zip(&pages) {
                assert_eq!(page.entry(0).key, run.first_key(*number));
            }
        }
        for number in (0..50_000).step_by(997) {
            let key = key(number);
            let page = run.page_of(&key, hasher.hash_one(&key[..])).unwrap();
            let page = run.read_pages(&[page]).unwrap().remove(0);
            let entry = page.entry(page.find(&key).unwrap());
            let rows: Vec<(usize, &[u8])> = rows_of(entry.rows).collect();
            assert_eq!((rows[0].0, &rows[0].1[..4]), (1, &number.to_le_bytes()[..]));
        }
        let missing = (0..50_000_u32).map(|number| (2 * number + 1).to_be_bytes());
        let in_vain = missing.filter(|key| run.page_of(key, hasher.hash_one(&key[..])).is_some());
        assert!(in_vain.count() < 1_500);
    }

    #[test]
    fn a_changed_and_a_cut_file_are_noticed_and_named() {
        let base = tempfile::tempdir().unwrap();
        let folder = LocalFolder::of_process(base.path()).unwrap();
        let run = written(&folder, &DefaultHashBuilder::default(), 5_000);
        let file = OpenOptions::new().write(true).open(run.file().path()).unwrap();
        let mut byte = [0];
        run.file.file_for_tests().read_at(&mut byte, 5_000).unwrap();
        file.write_at(&[byte[0] ^ 1], 5_000).unwrap();
        let pages: Vec<usize> = (0..run.page_count()).collect();
        let error = run.read_pages(&pages).err().unwrap();
        assert!(matches!(error, StateError::LocalDisk { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("checksum differs") && text.contains(run.file().path().to_str().unwrap()));

        file.set_len(3_000).unwrap();
        let error = run.read_pages(&pages[pages.len() - 1..]).err().unwrap();
        assert!(matches!(error, StateError::LocalDisk { .. }), "{error}");
        assert!(error.to_string().contains("shorter"), "{error}");
    }
}
