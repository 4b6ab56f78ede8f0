//! Columns that nobody reads go, down to the scans.
//!
//! ```text
//!   needed columns --top down--> inputs' needed columns        new places <--bottom up-- what is there
//! ```
//!
//! Invariant: every relation keeps at least one column, as a batch without columns has no rows.

use std::collections::BTreeSet;

use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::{JoinKind, RankEnd, SortKey};
use thalweg_plan::{Field, Schema};

use super::super::expr::{bigint_literal, columns, renumbered};
use super::{filter, joined, project, project_columns, width};
use crate::logical::{Aggregation, OverCall, Rel, RelKind};

/// A relation with fewer columns, and where the old ones are; those that were asked for are there.
struct Narrow {
    rel: Rel,
    places: Vec<Option<usize>>,
}

impl Narrow {
    /// Where a column that was asked for is now.
    fn place(&self, column: usize) -> usize {
        self.places.get(column).copied().flatten().unwrap_or_default()
    }

    fn places_of(&self, columns: &[usize]) -> Vec<usize> {
        columns.iter().map(|&column| self.place(column)).collect()
    }

    fn keys(&self, keys: &[SortKey]) -> Vec<SortKey> {
        let moved = |key: &SortKey| SortKey {
            column: self.place(key.column),
            ..*key
        };
        keys.iter().map(moved).collect()
    }

    fn calls(&self, calls: Vec<Aggregation>) -> Vec<Aggregation> {
        calls.into_iter().map(|call| self.call(call)).collect()
    }

    fn call(&self, call: Aggregation) -> Aggregation {
        Aggregation {
            args: self.places_of(&call.args),
            filter: call.filter.map(|column| self.place(column)),
            ..call
        }
    }
}

/// All columns of `rel`, of narrower relations below it.
pub(crate) fn prune(rel: Rel) -> Rel {
    let all: Vec<usize> = (0..width(&rel)).collect();
    exactly(rel, &all)
}

/// These columns in this order.
fn exactly(rel: Rel, wanted: &[usize]) -> Rel {
    let narrow = narrowed(rel, &wanted.iter().copied().collect());
    let places = narrow.places_of(wanted);
    if places.iter().copied().eq(0..width(&narrow.rel)) {
        return narrow.rel;
    }
    project_columns(narrow.rel, &places)
}

fn narrowed(rel: Rel, needed: &BTreeSet<usize>) -> Narrow {
    if rel.schema.fields.is_empty() {
        return without_columns(rel);
    }
    let needed = match needed.is_empty() {
        true => BTreeSet::from([cheapest(&rel.schema)]),
        false => needed.clone(),
    };
    let (schema, position) = (rel.schema, rel.position);
    let made = |kind: RelKind, schema: Schema| Rel {
        kind,
        schema,
        position,
    };
    match rel.kind {
        scan @ RelKind::Scan(_) => selected(made(scan, schema), &needed),
        RelKind::Values(rows) => {
            let row = |row: Vec<_>| {
                let cells = row.into_iter().enumerate();
                cells
                    .filter(|(column, _)| needed.contains(column))
                    .map(|(_, cell)| cell)
                    .collect()
            };
            let rows = rows.into_iter().map(row).collect();
            let fields = needed
                .iter()
                .map(|&column| schema.fields[column].clone())
                .collect();
            let rel = made(RelKind::Values(rows), Schema { fields });
            let places = places_in_order(schema.fields.len(), &needed);
            Narrow { rel, places }
        }
        RelKind::Project { input, exprs } => {
            let kept: Vec<_> = needed.iter().map(|&column| &exprs[column]).collect();
            let input = narrowed(*input, &kept.iter().flat_map(|expr| columns(expr)).collect());
            let exprs_kept = kept
                .iter()
                .map(|expr| renumbered(expr, |column| input.place(column)))
                .collect();
            let names = needed.iter().map(|&column| schema.fields[column].name.clone());
            let places = places_in_order(exprs.len(), &needed);
            let mut rel = project(input.rel, exprs_kept, names.collect::<Vec<_>>());
            rel.position = position;
            Narrow { rel, places }
        }
        RelKind::Filter { input, condition } => {
            let read = needed.iter().copied().chain(columns(&condition));
            let input = narrowed(*input, &read.collect());
            let condition = renumbered(&condition, |column| input.place(column));
            let places = input.places;
            let mut rel = filter(input.rel, vec![condition]);
            rel.position = position;
            Narrow { rel, places }
        }
        RelKind::WindowTableFunction { input, mut window } => {
            let first = width(&input);
            let mut read: BTreeSet<usize> = needed.range(..first).copied().collect();
            read.insert(window.time);
            read.extend(&window.partition);
            let input = narrowed(*input, &read);
            window.time = input.place(window.time);
            window.partition = input.places_of(&window.partition);
            let (rel, places) = appended(&input, &schema, first, 0..3, |input| {
                RelKind::WindowTableFunction { input, window }
            });
            Narrow {
                rel: Rel { position, ..rel },
                places,
            }
        }
        aggregate @ RelKind::Aggregate { .. } => aggregated(made(aggregate, schema), &needed),
        over @ RelKind::Over { .. } => over_narrowed(made(over, schema), &needed),
        RelKind::Rank {
            input,
            partition,
            order,
            start,
            end,
            with_rank,
        } => {
            let first = width(&input);
            let mut read: BTreeSet<usize> = needed.range(..first).copied().collect();
            read.extend(&partition);
            read.extend(order.iter().map(|key| key.column));
            if let RankEnd::Column(column) = end {
                read.insert(column);
            }
            let input = narrowed(*input, &read);
            let with_rank = with_rank && needed.contains(&first);
            let (partition, order) = (input.places_of(&partition), input.keys(&order));
            let end = match end {
                RankEnd::Column(column) => RankEnd::Column(input.place(column)),
                constant @ RankEnd::Constant(_) => constant,
            };
            let columns = 0..usize::from(with_rank);
            let (rel, places) = appended(&input, &schema, first, columns, |input| RelKind::Rank {
                input,
                partition,
                order,
                start,
                end,
                with_rank,
            });
            Narrow {
                rel: Rel { position, ..rel },
                places,
            }
        }
        join @ RelKind::Join { .. } => join_narrowed(made(join, schema), &needed),
        join @ RelKind::TemporalJoin { .. } => temporal_narrowed(made(join, schema), &needed),
        RelKind::Correlate {
            input,
            function,
            args,
            columns: function_columns,
            left_outer,
            with_ordinality,
        } => {
            let first = width(&input);
            let mut read: BTreeSet<usize> = needed.range(..first).copied().collect();
            read.extend(args.iter().flat_map(columns));
            let input = narrowed(*input, &read);
            let args = args
                .iter()
                .map(|arg| renumbered(arg, |column| input.place(column)))
                .collect();
            let count = function_columns.fields.len();
            let (rel, places) = appended(&input, &schema, first, 0..count, |input| RelKind::Correlate {
                input,
                function,
                args,
                columns: function_columns,
                left_outer,
                with_ordinality,
            });
            Narrow {
                rel: Rel { position, ..rel },
                places,
            }
        }
        RelKind::Union(inputs) => {
            let wanted: Vec<usize> = needed.iter().copied().collect();
            let inputs = inputs.into_iter().map(|input| exactly(input, &wanted)).collect();
            let fields = wanted
                .iter()
                .map(|&column| schema.fields[column].clone())
                .collect();
            let places = places_in_order(schema.fields.len(), &needed);
            let rel = made(RelKind::Union(inputs), Schema { fields });
            Narrow { rel, places }
        }
        RelKind::Sort {
            input,
            keys,
            offset,
            fetch,
        } => {
            let read = needed.iter().copied().chain(keys.iter().map(|key| key.column));
            let input = narrowed(*input, &read.collect());
            let kind = RelKind::Sort {
                keys: input.keys(&keys),
                offset,
                fetch,
                input: Box::new(input.rel.clone()),
            };
            Narrow {
                rel: made(kind, input.rel.schema),
                places: input.places,
            }
        }
        kind @ RelKind::SetOperation { .. } => {
            let places = (0..schema.fields.len()).map(Some).collect();
            let rel = made(kind, schema);
            Narrow { rel, places }
        }
    }
}

/// Rows without columns, as those of a SELECT without FROM or those that COUNT(*) counts: they have one that nobody reads.
fn without_columns(rel: Rel) -> Narrow {
    let rel = match rel.kind {
        RelKind::Values(rows) => {
            let zero = bigint_literal(0);
            let fields = vec![Field::new("ZERO", zero.data_type.clone())];
            Rel {
                kind: RelKind::Values(vec![vec![zero]; rows.len()]),
                schema: Schema { fields },
                position: rel.position,
            }
        }
        RelKind::Project { input, .. } => narrowed(*input, &BTreeSet::new()).rel,
        RelKind::Filter { input, condition } => {
            let input = narrowed(*input, &columns(&condition));
            let condition = renumbered(&condition, |column| input.place(column));
            filter(input.rel, vec![condition])
        }
        kind => Rel { kind, ..rel },
    };
    let places = Vec::new();
    Narrow { rel, places }
}

/// The column that costs least where none is needed.
fn cheapest(schema: &Schema) -> usize {
    let time = schema
        .fields
        .iter()
        .position(|field| field.data_type.time_kind() == TimeKind::Rowtime);
    time.unwrap_or_default()
}

fn places_in_order(width: usize, needed: &BTreeSet<usize>) -> Vec<Option<usize>> {
    let mut next = 0..;
    let place = |column| needed.contains(&column).then(|| next.next()).flatten();
    (0..width).map(place).collect()
}

fn selected(rel: Rel, needed: &BTreeSet<usize>) -> Narrow {
    let wanted: Vec<usize> = needed.iter().copied().collect();
    let places = places_in_order(width(&rel), needed);
    let rel = match wanted.len() == width(&rel) {
        true => rel,
        false => project_columns(rel, &wanted),
    };
    Narrow { rel, places }
}

/// A relation that gives its input's columns and some of those that stood from `first` on.
fn appended(
    input: &Narrow,
    schema: &Schema,
    first: usize,
    kept: impl Iterator<Item = usize>,
    make: impl FnOnce(Box<Rel>) -> RelKind,
) -> (Rel, Vec<Option<usize>>) {
    let mut places: Vec<Option<usize>> = input.places.iter().take(first).copied().collect();
    places.resize(schema.fields.len(), None);
    let mut fields = input.rel.schema.fields.clone();
    for column in kept {
        places[first + column] = Some(fields.len());
        fields.push(schema.fields[first + column].clone());
    }
    let rel = Rel {
        schema: Schema { fields },
        position: None,
        kind: make(Box::new(input.rel.clone())),
    };
    (rel, places)
}

fn aggregated(rel: Rel, needed: &BTreeSet<usize>) -> Narrow {
    let (schema, position) = (rel.schema, rel.position);
    let RelKind::Aggregate {
        input,
        groups,
        sets,
        grouping_ids,
        calls,
        mut window,
        ttl_ms,
    } = rel.kind
    else {
        return unchanged(rel.kind, schema, position);
    };
    let mut column = 0..;
    let mut places = Vec::new();
    let mut fields = Vec::new();
    let mut keep = |always: bool| {
        let old = column.next().unwrap_or_default();
        let kept = always || needed.contains(&old);
        places.push(kept.then_some(fields.len()));
        if kept {
            fields.push(schema.fields[old].clone());
        }
        kept
    };
    groups.iter().for_each(|_| {
        keep(true);
    });
    let grouping_ids: Vec<_> = grouping_ids.into_iter().filter(|_| keep(false)).collect();
    // A group without keys is there because of what is computed of it.
    let last = calls.len().saturating_sub(1);
    let none_needed = needed.range(groups.len()..).next().is_none();
    let mut number = 0..;
    let calls: Vec<Aggregation> = calls
        .into_iter()
        .filter(|_| keep(groups.is_empty() && none_needed && number.next() == Some(last)))
        .collect();
    if let Some(window) = &mut window {
        window.properties.retain(|_| keep(false));
    }
    let mut read: BTreeSet<usize> = groups.iter().copied().collect();
    read.extend(calls.iter().flat_map(|call| call.args.iter().chain(&call.filter)));
    if let Some(window) = &window {
        read.insert(window.window.time);
    }
    let input = narrowed(*input, &read);
    if let Some(window) = &mut window {
        window.window.time = input.place(window.window.time);
        window.window.partition = input.places_of(&window.window.partition);
    }
    let kind = RelKind::Aggregate {
        groups: input.places_of(&groups),
        sets,
        grouping_ids,
        calls: input.calls(calls),
        window,
        ttl_ms,
        input: Box::new(input.rel),
    };
    let rel = Rel {
        kind,
        schema: Schema { fields },
        position,
    };
    Narrow { rel, places }
}

fn over_narrowed(rel: Rel, needed: &BTreeSet<usize>) -> Narrow {
    let (schema, position) = (rel.schema, rel.position);
    let RelKind::Over {
        input,
        partition,
        order,
        calls,
    } = rel.kind
    else {
        return unchanged(rel.kind, schema, position);
    };
    let first = width(&input);
    let mut read: BTreeSet<usize> = needed.range(..first).copied().collect();
    if needed.range(first..).next().is_none() {
        let mut narrow = narrowed(*input, &read);
        narrow.places.resize(schema.fields.len(), None);
        return narrow;
    }
    let kept: Vec<usize> = (0..calls.len())
        .filter(|call| needed.contains(&(first + call)))
        .collect();
    let calls: Vec<OverCall> = kept.iter().map(|&call| calls[call].clone()).collect();
    read.extend(&partition);
    read.extend(order.iter().map(|key| key.column));
    read.extend(
        calls
            .iter()
            .flat_map(|call| call.call.args.iter().chain(&call.call.filter)),
    );
    let input = narrowed(*input, &read);
    let calls = calls.into_iter().map(|call| OverCall {
        call: input.call(call.call),
        ..call
    });
    let calls = calls.collect();
    let (partition, order) = (input.places_of(&partition), input.keys(&order));
    let (rel, places) = appended(&input, &schema, first, kept.into_iter(), |input| RelKind::Over {
        input,
        partition,
        order,
        calls,
    });
    Narrow {
        rel: Rel { position, ..rel },
        places,
    }
}

fn join_narrowed(rel: Rel, needed: &BTreeSet<usize>) -> Narrow {
    let (schema, position) = (rel.schema, rel.position);
    let RelKind::Join {
        left,
        right,
        kind,
        condition,
        ttl_ms,
        null_aware,
    } = rel.kind
    else {
        return unchanged(rel.kind, schema, position);
    };
    let read: BTreeSet<usize> = needed
        .iter()
        .copied()
        .chain(condition.iter().flat_map(columns))
        .collect();
    let sides = Sides::narrowed(*left, *right, &read, &BTreeSet::new());
    let condition = condition.map(|condition| sides.condition(&condition));
    let one_side = matches!(kind, JoinKind::Semi | JoinKind::Anti);
    let fields = match one_side {
        true => sides.left.rel.schema.clone(),
        false => Schema {
            fields: with_nullability(&sides, &schema),
        },
    };
    let places = sides.places(if one_side { schema.fields.len() } else { usize::MAX });
    let kind = RelKind::Join {
        left: Box::new(sides.left.rel),
        right: Box::new(sides.right.rel),
        kind,
        condition,
        ttl_ms,
        null_aware,
    };
    let rel = Rel {
        kind,
        schema: fields,
        position,
    };
    Narrow { rel, places }
}

fn temporal_narrowed(rel: Rel, needed: &BTreeSet<usize>) -> Narrow {
    let (schema, position) = (rel.schema, rel.position);
    let RelKind::TemporalJoin {
        left,
        right,
        kind,
        condition,
        time,
    } = rel.kind
    else {
        return unchanged(rel.kind, schema, position);
    };
    let mut read: BTreeSet<usize> = needed
        .iter()
        .copied()
        .chain(condition.iter().flat_map(columns))
        .collect();
    read.insert(time);
    // Versions are ordered by the right side's time.
    let times = right.schema.fields.iter().enumerate();
    let times = times.filter(|(_, field)| field.data_type.time_kind() == TimeKind::Rowtime);
    let times: BTreeSet<usize> = times.map(|(column, _)| column).collect();
    let sides = Sides::narrowed(*left, *right, &read, &times);
    let condition = condition.map(|condition| sides.condition(&condition));
    let fields = with_nullability(&sides, &schema);
    let places = sides.places(usize::MAX);
    let kind = RelKind::TemporalJoin {
        time: sides.left.place(time),
        left: Box::new(sides.left.rel),
        right: Box::new(sides.right.rel),
        kind,
        condition,
    };
    let rel = Rel {
        kind,
        schema: Schema { fields },
        position,
    };
    Narrow { rel, places }
}

/// Both inputs of a join.
struct Sides {
    left: Narrow,
    right: Narrow,
    /// Before.
    left_width: usize,
}

impl Sides {
    fn narrowed(left: Rel, right: Rel, read: &BTreeSet<usize>, right_too: &BTreeSet<usize>) -> Self {
        let left_width = width(&left);
        let of_left = read.range(..left_width).copied().collect();
        let mut of_right: BTreeSet<usize> = read
            .range(left_width..)
            .map(|column| column - left_width)
            .collect();
        of_right.extend(right_too);
        Self {
            left: narrowed(left, &of_left),
            right: narrowed(right, &of_right),
            left_width,
        }
    }

    fn condition(&self, condition: &thalweg_plan::Expr) -> thalweg_plan::Expr {
        let shift = width(&self.left.rel);
        renumbered(condition, |column| match column.checked_sub(self.left_width) {
            None => self.left.place(column),
            Some(column) => shift + self.right.place(column),
        })
    }

    fn places(&self, limit: usize) -> Vec<Option<usize>> {
        let shift = width(&self.left.rel);
        let right = self
            .right
            .places
            .iter()
            .map(|place| place.map(|place| shift + place));
        self.left
            .places
            .iter()
            .copied()
            .chain(right)
            .take(limit)
            .collect()
    }
}

/// Both sides' columns, null where the join makes them so.
fn with_nullability(sides: &Sides, before: &Schema) -> Vec<Field> {
    let mut fields = joined(&sides.left.rel, &sides.right.rel).fields;
    for (old, place) in sides.places(usize::MAX).into_iter().enumerate() {
        if let (Some(place), Some(field)) = (place, before.fields.get(old)) {
            fields[place] = field.clone();
        }
    }
    fields
}

fn unchanged(kind: RelKind, schema: Schema, position: Option<crate::Position>) -> Narrow {
    Narrow {
        places: (0..schema.fields.len()).map(Some).collect(),
        rel: Rel {
            kind,
            schema,
            position,
        },
    }
}
