//! Rows of a checkpoint on their way into the tables.
//!
//! ```text
//!   in memory only:   table after table
//!   with a disk:      all tables together, by key: a key's rows are complete when memory is short, and can be written at once
//!
//!     table a:  k1 k1 k3 k4 | k5 ..       the least last key of the pieces at hand (k4) is how far all tables go,
//!     table b:  k1 k2 k4 k6 | k7 ..       then those that are through take their next piece
//! ```

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, UInt64Type};
use thalweg_types::key_group::key_group;

use super::KeyedState;
use crate::disk::codec::Keys;
use crate::evolution::Adapter;
use crate::key_index::Slot;
use crate::snapshot::{RestoredRows, RestoredState, RestoredTable, StateError, TableDescriptor};
use crate::table::TableRows;

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
            if !table.descriptor.has_columns_of(&descriptor) {
                self.full_for.get_or_insert_with(|| descriptor.name.clone());
            }
            sources.push(Source::new(place, &descriptor, table)?);
        }
        match self.disk {
            Some(_) => self.restore_by_key(sources, now_ms)?,
            None => self.restore_by_table(sources, now_ms)?,
        }
        state.columns_changed |= self.full_for.is_some();
        self.release_vacant();
        Ok(())
    }

    fn restore_by_table(&mut self, sources: Vec<Source>, now_ms: i64) -> Result<(), StateError> {
        let mut slots = Vec::new();
        for mut source in sources {
            while let Some(batch) = source.rows.next() {
                self.restore_rows(&source, &batch?, now_ms, &mut slots)?;
                self.check_memory()?;
            }
        }
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
                    self.restore_rows(&part.source, &rows, now_ms, &mut slots)?;
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

    fn restore_rows(
        &mut self,
        source: &Source,
        batch: &RecordBatch,
        now_ms: i64,
        slots: &mut Vec<Slot>,
    ) -> Result<(), StateError> {
        let columns = batch.columns();
        let hashes = columns[0].as_primitive::<UInt64Type>();
        self.find_slots(&columns[1..source.sub_key], hashes, slots)?;
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
        };
        self.table_at(source.place).restore(&rows)
    }
}
