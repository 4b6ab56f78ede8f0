//! Rows of a checkpoint on their way into the tables.
//!
//! ```text
//!   in memory only:   table after table, read and decoded on a thread of its own; values that have memory of their own stay in the
//!                     columns that they came in until they are used
//!   with a disk:      all tables together, by key: a key's rows are complete when memory is short, and can be written at once
//!
//!     table a:  k1 k1 k3 k4 | k5 ..       the least last key of the pieces at hand (k4) is how far all tables go,
//!     table b:  k1 k2 k4 k6 | k7 ..       then those that are through take their next piece
//! ```

mod read_ahead;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, UInt64Type};
use thalweg_types::key_group::key_group;

use super::KeyedState;
use crate::disk::codec::Keys;
use crate::evolution::Adapter;
use crate::file::builder::column_bytes;
use crate::key_index::{RestoredKeys, Slot};
use crate::snapshot::{RestoredRows, RestoredState, RestoredTable, StateError, TableDescriptor};
use crate::table::{TableRows, key_error};
use read_ahead::ReadAhead;

/// Bytes that any key takes at least: room is made for no more keys than memory can hold.
const LEAST_KEY_BYTES: usize = 32;

/// One table on its way.
struct Source {
    place: usize,
    adapter: Adapter,
    has_ttl: bool,
    sub_key: usize,
    value: usize,
    name: String,
    rows: RestoredRows,
}

/// Rows of one table that are restored before memory is looked at.
const ROWS_AT_A_TIME: usize = 1024;

/// A table's batch at hand.
struct Part {
    source: Source,
    batch: Option<(RecordBatch, Keys)>,
    from: usize,
}

impl Part {
    /// The last of the keys that come next.
    fn last<'a>(&self, keys: &'a Keys) -> &'a [u8] {
        keys.get((self.from + ROWS_AT_A_TIME).min(keys.len()) - 1)
    }
}

impl Source {
    fn new(place: usize, wanted: &TableDescriptor, table: RestoredTable) -> Result<Self, StateError> {
        let sub_key = 1 + wanted.key.len();
        Ok(Self {
            place,
            adapter: Adapter::new(&table.descriptor, wanted)?,
            has_ttl: wanted.ttl.is_some(),
            sub_key,
            value: sub_key + wanted.sub_key.len(),
            name: wanted.name.clone(),
            rows: table.rows,
        })
    }

    /// Begins to read its rows.
    fn read_ahead(mut self) -> Result<(Self, ReadAhead), StateError> {
        let rows = std::mem::replace(&mut self.rows, Box::new(std::iter::empty()));
        Ok((self, ReadAhead::start(rows)?))
    }
}

impl KeyedState {
    /// Takes the registered tables and the timers out of `state`, once, before the first batch. Rows that are expired at
    /// `now_ms` are left out. What the next snapshot gives builds on what was restored, unless columns have changed
    /// ([`RestoredState::columns_changed`] is set then): it must be a full one.
    ///
    /// With a disk the rows of each table have to come by key group and key, as those of files do.
    pub fn restore(&mut self, state: &mut RestoredState, now_ms: i64) -> Result<(), StateError> {
        if state.checkpoint_id == 0 {
            return Ok(());
        }
        self.track_changes();
        self.advance_clock(now_ms);
        let mut sources = Vec::new();
        for place in 0..=self.tables.len() {
            let descriptor = std::sync::Arc::clone(self.table_at(place).descriptor());
            let Some(table) = state.take_table(&descriptor.name) else {
                continue;
            };
            if self.config.settings.exact_columns {
                table.descriptor.check_same_columns(&descriptor)?;
            }
            if !table.descriptor.has_columns_of(&descriptor) {
                self.full_for.get_or_insert_with(|| descriptor.name.clone());
            }
            sources.push(Source::new(place, &descriptor, table)?);
        }
        if let Some(left) = state
            .tables
            .first()
            .filter(|_| self.config.settings.exact_columns)
        {
            return Err(StateError::Incompatible {
                state: left.descriptor.name.clone(),
                message: "it was stored and the operator has no such state now".to_owned(),
            });
        }
        match self.disk {
            Some(_) => self.restore_by_key(sources, now_ms)?,
            None => {
                self.reserve(state.keys);
                self.restore_by_table(sources, now_ms)?;
            }
        }
        state.columns_changed |= self.full_for.is_some();
        self.release_vacant();
        Ok(())
    }

    /// Makes room for about so many keys, at once instead of in steps.
    fn reserve(&mut self, keys: usize) {
        let keys = keys.min(self.config.settings.memory_bytes / LEAST_KEY_BYTES);
        self.index.reserve(keys);
        self.all_tables().for_each(|table| table.reserve(keys));
    }

    /// A table is read ahead while the one before it goes in.
    fn restore_by_table(&mut self, sources: Vec<Source>, now_ms: i64) -> Result<(), StateError> {
        let mut slots = Vec::new();
        let mut sources = sources.into_iter().map(Source::read_ahead);
        let mut next = sources.next().transpose()?;
        while let Some((source, batches)) = next {
            next = sources.next().transpose()?;
            let mut keys = self.index.restored_keys(source.sub_key < source.value);
            for batch in batches {
                let batch = batch?;
                self.find_restored_slots(&source, &batch, &mut keys, &mut slots)?;
                let kept_bytes = batch.columns().iter().map(column_bytes).sum();
                self.restore_rows(&source, &batch, now_ms, &slots, Some(kept_bytes))?;
                self.check_memory()?;
            }
            self.index.end_restored(&keys);
        }
        Ok(())
    }

    fn find_restored_slots(
        &mut self,
        source: &Source,
        batch: &RecordBatch,
        keys: &mut RestoredKeys,
        slots: &mut Vec<Slot>,
    ) -> Result<(), StateError> {
        let columns = batch.columns();
        let hashes = columns[0].as_primitive::<UInt64Type>().values();
        self.index
            .restored_slots(&columns[1..source.sub_key], hashes, keys, slots)
            .map_err(key_error)?;
        let count = self.index.slot_count();
        self.all_tables().for_each(|table| table.resize(count));
        Ok(())
    }

    fn restore_by_key(&mut self, sources: Vec<Source>, now_ms: i64) -> Result<(), StateError> {
        let part = |source| Part {
            source,
            batch: None,
            from: 0,
        };
        let mut parts: Vec<Part> = sources.into_iter().map(part).collect();
        let mut slots = Vec::new();
        loop {
            for part in &mut parts {
                self.next_batch(part)?;
            }
            let lasts = parts
                .iter()
                .filter_map(|part| part.batch.as_ref().map(|(_, keys)| part.last(keys)));
            let Some(until) = lasts.min().map(<[u8]>::to_vec) else {
                return self.end_restore();
            };
            let mut unfinished = Vec::new();
            for part in &mut parts {
                let Some((batch, keys)) = &part.batch else {
                    continue;
                };
                let end = keys.partition_point(part.from, &until);
                if end > part.from {
                    let rows = batch.slice(part.from, end - part.from);
                    let hashes = rows.column(0).as_primitive::<UInt64Type>();
                    self.find_slots(&rows.columns()[1..part.source.sub_key], hashes, &mut slots)?;
                    self.restore_rows(&part.source, &rows, now_ms, &slots, None)?;
                    // The next batch may have more of the last key.
                    unfinished.extend(slots.last().copied());
                }
                part.from = end;
                if end == keys.len() {
                    part.batch = None;
                }
            }
            self.make_room_for_restore(&unfinished)?;
        }
    }

    /// Sees to it that there is a batch unless the rows are at their end.
    fn next_batch(&self, part: &mut Part) -> Result<(), StateError> {
        while part.batch.is_none()
            && let Some(batch) = part.source.rows.next()
        {
            let batch = batch?;
            if batch.num_rows() == 0 {
                continue;
            }
            let keys = self.keys_of(&part.source, &batch)?;
            part.from = 0;
            part.batch = Some((batch, keys));
        }
        Ok(())
    }

    fn keys_of(&self, source: &Source, batch: &RecordBatch) -> Result<Keys, StateError> {
        let columns = batch.columns();
        let hashes = columns[0].as_primitive::<UInt64Type>().values();
        let groups = hashes
            .iter()
            .map(|hash| key_group(*hash, self.config.max_parallelism));
        let keys = self.encode_keys(&columns[1..source.sub_key], groups)?;
        if !keys.is_sorted() {
            return Err(StateError::Malformed {
                state: source.name.clone(),
                message: "its restored rows don't come by key group and key".to_owned(),
            });
        }
        Ok(keys)
    }

    /// Rows whose keys have these slots. The table may keep the columns if that is `kept_bytes`.
    fn restore_rows(
        &mut self,
        source: &Source,
        batch: &RecordBatch,
        now_ms: i64,
        slots: &[Slot],
        kept_bytes: Option<usize>,
    ) -> Result<(), StateError> {
        let columns = batch.columns();
        let stored = &columns[source.value..];
        let accessed = source.has_ttl.then(|| match source.adapter.accessed(stored) {
            Some(column) => column.as_primitive::<Int64Type>().clone(),
            // It had no time-to-live when it was stored: its life begins now.
            None => Int64Array::from_value(now_ms, batch.num_rows()),
        });
        let rows = TableRows {
            slots,
            sub_key: columns[source.sub_key..source.value].to_vec(),
            value: source
                .adapter
                .columns(stored, batch.num_rows())
                .map_err(|source| StateError::Arrow {
                    step: "adapting stored columns",
                    source,
                })?,
            accessed,
            kept_bytes,
        };
        self.table_at(source.place).restore(&rows)
    }
}
