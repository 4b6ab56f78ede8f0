//! Pages: what one read of a run brings.
//!
//! ```text
//!   page    number of entries u32 | end of each entry u32 .. | entries       stored as LZ4 where that is smaller
//!   entry   length of the key varint | key | rows ..                         no rows: the key has none
//!   row     number of the table varint | length varint | bytes
//! ```

/// Pages are cut at this size: with random reads, what else is in a page is read in vain.
pub(crate) const PAGE_BYTES: usize = 4 << 10;

const NUMBER: usize = size_of::<u32>();

/// Collects entries, in order, until they are a page.
#[derive(Default)]
pub(crate) struct PageBuilder {
    ends: Vec<u32>,
    entries: Vec<u8>,
    first_key: Vec<u8>,
}

impl PageBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of the page so far.
    pub(crate) fn bytes(&self) -> usize {
        NUMBER * (1 + self.ends.len()) + self.entries.len()
    }

    pub(crate) fn first_key(&self) -> &[u8] {
        &self.first_key
    }

    /// False if the page can't take as much.
    pub(crate) fn push(&mut self, key: &[u8], rows: &[u8]) -> bool {
        if self.entries.len() + key.len() + rows.len() + 16 > u32::MAX as usize {
            return false;
        }
        if self.is_empty() {
            self.first_key.clear();
            self.first_key.extend_from_slice(key);
        }
        put_varint(&mut self.entries, key.len());
        self.entries.extend_from_slice(key);
        self.entries.extend_from_slice(rows);
        self.ends.push(self.entries.len() as u32);
        true
    }

    /// The page's bytes; it is empty then.
    pub(crate) fn take(&mut self, into: &mut Vec<u8>) {
        into.clear();
        into.extend((self.ends.len() as u32).to_le_bytes());
        self.ends.iter().for_each(|end| into.extend(end.to_le_bytes()));
        into.append(&mut self.entries);
        self.ends.clear();
    }
}

/// A page in memory.
pub(crate) struct Page {
    bytes: Vec<u8>,
    count: usize,
}

/// What a run says of one key.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) key: &'a [u8],
    /// See [`rows_of`].
    pub(crate) rows: &'a [u8],
}

impl Page {
    /// None if these are no page's bytes.
    pub(crate) fn new(bytes: Vec<u8>) -> Option<Self> {
        let count = u32::from_le_bytes(bytes.get(..NUMBER)?.try_into().ok()?) as usize;
        let entries = bytes.len().checked_sub(NUMBER * (1 + count))?;
        let page = Self { bytes, count };
        (count > 0 && page.end(count - 1) == entries).then_some(page)
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    fn end(&self, entry: usize) -> usize {
        let at = NUMBER * (1 + entry);
        let mut end = [0; NUMBER];
        end.copy_from_slice(&self.bytes[at..at + NUMBER]);
        u32::from_le_bytes(end) as usize
    }

    pub(crate) fn entry(&self, entry: usize) -> Entry<'_> {
        let start = match entry {
            0 => 0,
            entry => self.end(entry - 1),
        };
        let entries = &self.bytes[NUMBER * (1 + self.count)..];
        let mut bytes = &entries[start..self.end(entry)];
        let length = take_varint(&mut bytes);
        let (key, rows) = bytes.split_at(length);
        Entry { key, rows }
    }

    pub(crate) fn find(&self, key: &[u8]) -> Option<usize> {
        let (mut from, mut to) = (0, self.count);
        while from < to {
            let middle = from + (to - from) / 2;
            match self.entry(middle).key.cmp(key) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        None
    }
}

/// Puts a row behind an entry's others.
pub(crate) fn put_row(rows: &mut Vec<u8>, table: usize, parts: [&[u8]; 2]) {
    put_varint(rows, table);
    put_varint(rows, parts[0].len() + parts[1].len());
    rows.extend_from_slice(parts[0]);
    rows.extend_from_slice(parts[1]);
}

/// The rows of an entry, each with the number of its table.
pub(crate) fn rows_of(mut rows: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    std::iter::from_fn(move || {
        if rows.is_empty() {
            return None;
        }
        let table = take_varint(&mut rows);
        let length = take_varint(&mut rows);
        let (row, rest) = rows.split_at(length);
        rows = rest;
        Some((table, row))
    })
}

fn put_varint(into: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn take_varint(bytes: &mut &[u8]) -> usize {
    let mut number = 0;
    let mut shift = 0;
    while let Some((byte, rest)) = bytes.split_first() {
        *bytes = rest;
        number |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_of_a_page_is_found_with_its_rows() {
        let mut builder = PageBuilder::default();
        let long = vec![7; 300];
        let mut rows = Vec::new();
        put_row(&mut rows, 0, [b"ab", b"c"]);
        put_row(&mut rows, 200, [&long, b""]);
        for key in 0..100_u8 {
            let rows = if key == 50 { &[][..] } else { &rows };
            assert!(builder.push(&[key, 1], rows));
        }
        assert_eq!(builder.first_key(), [0, 1]);
        let mut bytes = Vec::new();
        let length = builder.bytes();
        builder.take(&mut bytes);
        assert_eq!((bytes.len(), builder.is_empty()), (length, true));
        let page = Page::new(bytes).unwrap();
        assert_eq!(page.len(), 100);
        for key in 0..100_u8 {
            let entry = page.entry(page.find(&[key, 1]).unwrap());
            assert_eq!(entry.key, [key, 1]);
            let found: Vec<(usize, &[u8])> = rows_of(entry.rows).collect();
            match key {
                50 => assert!(found.is_empty()),
                _ => assert_eq!(found, [(0, &b"abc"[..]), (200, &long)]),
            }
        }
        assert!(page.find(&[3]).is_none() && page.find(&[200]).is_none());
    }

    #[test]
    fn other_bytes_are_no_page() {
        assert!(Page::new(Vec::new()).is_none());
        assert!(Page::new(vec![1, 0, 0, 0, 9, 0, 0, 0, 1]).is_none());
        assert!(Page::new(vec![255; 64]).is_none());
    }
}
