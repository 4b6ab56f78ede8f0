//! GROUP BY.
//!
//! ```text
//!   by a window's bounds      windows::aggregate               by TUMBLE(..), HOP(..), SESSION(..): the same, legacy
//!   else                      GroupAggregate, or Local -> Global with mini-batches
//!   GROUPING SETS             Expand below: a row for each set, its other groups null, and `$e` that says which set
//! ```

use std::collections::BTreeSet;

use thalweg_plan::aggregate::all_partial_fields;
use thalweg_plan::spec::{AggregateCall, GroupAggregateSpec, WindowProperty, WindowSpec, Windowing};
use thalweg_plan::{Distribution, Expr, Field, NodeSpec, Schema};

use super::calc::{calc, names, unique_names};
use super::draft::{Draft, DraftInput, Kinds, Monotonicity, WindowProperties, keyed};
use super::expr::{bigint_literal, boolean};
use super::lower::Planner;
use super::scan::null;
use super::windows::{self, WindowedInput};
use crate::error::SqlError;
use crate::logical::{Aggregation, GroupWindow, Rel, RelKind};

/// The column that says which grouping set a row is of.
const SET_ID: &str = "$e";

/// A grouping, its parts at hand.
struct Grouping<'a> {
    groups: &'a [usize],
    sets: Vec<Vec<usize>>,
    grouping_ids: &'a [Vec<usize>],
    calls: &'a [Aggregation],
    window: Option<&'a GroupWindow>,
    state_ttl_ms: u64,
    schema: &'a Schema,
}

/// An aggregation.
pub(crate) fn lower(planner: &Planner<'_>, rel: &Rel) -> Result<Draft, SqlError> {
    let RelKind::Aggregate {
        input,
        groups,
        sets,
        grouping_ids,
        calls,
        window,
        ttl_ms,
    } = &rel.kind
    else {
        return Err(SqlError::new(
            crate::SqlErrorKind::Bug,
            "no aggregation",
            rel.position,
        ));
    };
    let mut distinct_sets: Vec<Vec<usize>> = Vec::new();
    for set in sets {
        if !distinct_sets.contains(set) {
            distinct_sets.push(set.clone());
        }
    }
    let grouping = Grouping {
        groups,
        sets: distinct_sets,
        grouping_ids,
        calls,
        window: window.as_ref(),
        state_ttl_ms: ttl_ms.unwrap_or(planner.settings.state_ttl_ms),
        schema: &rel.schema,
    };
    if !grouping.sets.is_empty() {
        if window.is_some() {
            let message = "GROUPING SETS, ROLLUP and CUBE with TUMBLE, HOP or SESSION in GROUP BY are not supported: use window table functions";
            return Err(SqlError::unsupported(message, rel.position));
        }
        return grouping.of_sets(planner, input);
    }
    if window.is_some() {
        return grouping.legacy(planner.lower(input)?);
    }
    let read: Vec<usize> = calls
        .iter()
        .flat_map(|call| call.args.iter().chain(&call.filter))
        .copied()
        .collect();
    match windows::windowed(planner, input, groups, &read)? {
        Ok(windowed) => Ok(grouping.windowed(windowed)),
        Err(input) => Ok(grouping.unwindowed(planner, *input)),
    }
}

impl Grouping<'_> {
    /// By a window's bounds and other columns.
    fn windowed(&self, windowed: WindowedInput) -> Draft {
        let WindowedInput {
            input,
            windowing,
            properties,
            places,
        } = windowed;
        let place = |column: usize| places.get(column).copied().flatten().unwrap_or_default();
        let of_window = |group: usize| match Some(group) {
            it if it == properties.start => Some(WindowProperty::Start),
            it if it == properties.end => Some(WindowProperty::End),
            it if it == properties.time => Some(WindowProperty::Time),
            _ => None,
        };
        let keys: Vec<usize> = self
            .groups
            .iter()
            .copied()
            .filter(|&group| of_window(group).is_none())
            .collect();
        let calls: Vec<AggregateCall> = self
            .calls
            .iter()
            .map(|call| aggregate_call(call, &input, place))
            .collect();
        let mut wanted = Vec::new();
        let mut order = Vec::new();
        let mut next_key = 0;
        for (position, &group) in self.groups.iter().enumerate() {
            match of_window(group) {
                None => {
                    order.push(next_key);
                    next_key += 1;
                }
                Some(property) => {
                    order.push(keys.len() + calls.len() + wanted.len());
                    wanted.push((property, self.schema.fields[position].clone()));
                }
            }
        }
        order.extend((0..calls.len()).map(|call| keys.len() + call));
        let keys_of_input = keys.iter().map(|&key| place(key)).collect();
        let mut made = windows::aggregate(input, windowing, keys_of_input, calls, wanted.clone(), false);
        let first = keys.len() + self.calls.len();
        made.window = Some(moved_properties(&properties, &wanted, first));
        made.upsert_keys = vec![(0..keys.len()).chain(first..first + wanted.len()).collect()];
        super::calc::selected(made, &order)
    }

    /// By TUMBLE(..), HOP(..) or SESSION(..).
    fn legacy(&self, input: Draft) -> Result<Draft, SqlError> {
        let Some(window) = self.window else {
            return Ok(input);
        };
        windows::time_attribute(&input, window.window.time).map_err(|_| {
            SqlError::semantic("Window can only be defined over a time attribute column.", None)
        })?;
        let calls = self
            .calls
            .iter()
            .map(|call| aggregate_call(call, &input, |column| column))
            .collect();
        let first = self.groups.len() + self.calls.len();
        let properties = window.properties.iter().enumerate();
        let properties = properties.map(|(number, (property, data_type))| {
            let name = self
                .schema
                .fields
                .get(first + number)
                .map(|field| field.name.clone());
            (*property, Field::new(name.unwrap_or_default(), data_type.clone()))
        });
        Ok(windows::aggregate(
            input,
            Windowing::Assign(window.window.clone()),
            self.groups.to_vec(),
            calls,
            properties.collect(),
            true,
        ))
    }

    /// Each row once for each set, then by the groups and the set.
    fn of_sets(&self, planner: &Planner<'_>, input: &Rel) -> Result<Draft, SqlError> {
        let id = self.groups.len();
        let read: BTreeSet<usize> = self
            .calls
            .iter()
            .flat_map(|call| call.args.iter().chain(&call.filter))
            .copied()
            .collect();
        let read: Vec<usize> = read.into_iter().collect();
        let place =
            |column: usize| id + 1 + read.iter().position(|&known| known == column).unwrap_or_default();
        let calls = self.calls.iter().map(|call| Aggregation {
            args: call.args.iter().map(|&column| place(column)).collect(),
            filter: call.filter.map(place),
            ..call.clone()
        });
        let calls: Vec<Aggregation> = calls.collect();
        let groups: Vec<usize> = (0..=id).collect();
        let mut fields = self.schema.fields[..id].to_vec();
        fields.push(Field::new(SET_ID, bigint_literal(0).data_type));
        let with_id = Grouping {
            groups: &groups,
            sets: Vec::new(),
            grouping_ids: &[],
            calls: &calls,
            window: None,
            state_ttl_ms: self.state_ttl_ms,
            schema: &Schema { fields },
        };
        let in_all_sets: Vec<usize> = (0..id)
            .filter(|&group| self.stays(group))
            .map(|group| self.groups[group])
            .collect();
        let aggregated = match windows::windowed(planner, input, &in_all_sets, &self.read_by_sets(&read))? {
            Ok(windowed) => match windowed.windowing.clone() {
                Windowing::Assign(window) if window.partition.is_empty() => {
                    with_id.windowed(self.expanded_before(windowed, &window, &read))
                }
                Windowing::Assign(_) => {
                    with_id.unwindowed(planner, self.expanded(planner.lower(input)?, &read))
                }
                Windowing::Attached(_) => {
                    match windows::attached(self.expanded(windowed.input, &read), &groups) {
                        Ok(windowed) => with_id.windowed(windowed),
                        Err(expanded) => with_id.unwindowed(planner, *expanded),
                    }
                }
            },
            Err(input) => with_id.unwindowed(planner, self.expanded(*input, &read)),
        };
        Ok(self.with_grouping_ids(aggregated, id))
    }

    /// Without windows.
    fn unwindowed(&self, planner: &Planner<'_>, input: Draft) -> Draft {
        let settings = &planner.settings;
        let keys = self.groups;
        let aggregates: Vec<AggregateCall> = self
            .calls
            .iter()
            .map(|call| aggregate_call(call, &input, |it| it))
            .collect();
        let key_fields = keys.iter().map(|&column| {
            let field = &input.schema.fields[column];
            Field::new(&*field.name, field.data_type.clone().materialized())
        });
        let key_fields: Vec<Field> = key_fields.collect();
        let results = aggregates
            .iter()
            .map(|call| Field::new(&*call.name, call.data_type.clone()));
        let fields = key_fields.iter().cloned().chain(results).collect();
        let grows = input.is_insert_only();
        let monotonicity = grows.then(|| {
            let of_call = |call: &AggregateCall| match call.function.as_str() {
                "COUNT" | "MAX" => Monotonicity::Increasing,
                "MIN" => Monotonicity::Decreasing,
                _ => Monotonicity::None,
            };
            let keys = keys.iter().map(|_| Monotonicity::Constant);
            keys.chain(aggregates.iter().map(of_call)).collect()
        });
        // Without calls a partial result has no number of rows.
        let partial = all_partial_fields(&aggregates)
            .filter(|_| settings.two_phases && (grows || !aggregates.is_empty()));
        let position = input.position;
        let spec = GroupAggregateSpec {
            keys: keys.to_vec(),
            aggregates,
            retracts: !grows,
            emit_update_before: true,
            fold_batches: settings.fold_batches,
            state_ttl_ms: self.state_ttl_ms,
        };
        let (spec, input) = match partial {
            Some(partial) => {
                let fields = key_fields.into_iter().chain(partial).collect();
                let local = Draft::new(
                    NodeSpec::LocalGroupAggregate(spec.clone()),
                    vec![DraftInput::new(input, Distribution::Forward)],
                    Schema { fields },
                );
                let leading: Vec<usize> = (0..keys.len()).collect();
                let input = DraftInput::new(local, keyed(&leading));
                (NodeSpec::GlobalGroupAggregate(spec), input)
            }
            None => (
                NodeSpec::GroupAggregate(spec),
                DraftInput::new(input, keyed(keys)),
            ),
        };
        Draft {
            kinds: Kinds {
                insert: true,
                update: true,
                delete: !grows,
            },
            upsert_keys: vec![(0..keys.len()).collect()],
            monotonicity,
            position,
            schema: Schema {
                fields: unique_names(fields),
            },
            ..Draft::new(spec, vec![input], Schema::default())
        }
    }

    /// Whether a group is in all sets.
    fn stays(&self, group: usize) -> bool {
        self.sets.iter().all(|set| set.contains(&group))
    }

    /// What aggregates and the groups that are not in all sets read.
    fn read_by_sets(&self, read: &[usize]) -> Vec<usize> {
        let groups = (0..self.groups.len()).filter(|&group| !self.stays(group));
        groups
            .map(|group| self.groups[group])
            .chain(read.iter().copied())
            .collect()
    }

    /// The groups, with nulls where a set hasn't them, the set, the columns that are read.
    fn expanded(&self, input: Draft, read: &[usize]) -> Draft {
        let groups: Vec<(usize, usize)> = self.groups.iter().copied().enumerate().collect();
        let window = input.window.clone();
        let expanded = self.expand(input, &groups, read);
        let group_of = |column: Option<usize>| {
            let group = self.groups.iter().position(|&group| Some(group) == column)?;
            self.stays(group).then_some(group)
        };
        let window = window.map(|window| WindowProperties {
            start: group_of(window.start),
            end: group_of(window.end),
            time: group_of(window.time),
            sessions_by: window.sessions_by.map(|_| vec![None]),
            ..window
        });
        Draft { window, ..expanded }
    }

    /// The same of rows that have no windows yet: the windows' bounds are no columns, the time is one behind the others.
    fn expanded_before(&self, windowed: WindowedInput, window: &WindowSpec, read: &[usize]) -> WindowedInput {
        let place = |column: usize| windowed.places.get(column).copied().flatten();
        let groups = self.groups.iter().enumerate();
        let groups: Vec<(usize, usize)> = groups
            .filter_map(|(group, &column)| Some((group, place(column)?)))
            .collect();
        let position = |column: Option<usize>| self.groups.iter().position(|&group| Some(group) == column);
        let properties = WindowProperties {
            start: position(windowed.properties.start),
            end: position(windowed.properties.end),
            time: position(windowed.properties.time),
            ..windowed.properties.clone()
        };
        let mut passed: Vec<usize> = read.iter().filter_map(|&column| place(column)).collect();
        passed.push(window.time);
        let id = self.groups.len();
        let mut places = vec![None; id + 1 + read.len()];
        for (place, (group, _)) in groups.iter().enumerate() {
            places[*group] = Some(place);
        }
        for (behind, place) in places[id..].iter_mut().enumerate() {
            *place = Some(groups.len() + behind);
        }
        let input = self.expand(windowed.input, &groups, &passed);
        let time = input.width() - 1;
        WindowedInput {
            input,
            windowing: Windowing::Assign(WindowSpec {
                time,
                ..window.clone()
            }),
            properties,
            places,
        }
    }

    /// Rows of groups (positions among the groups, and the input's columns), the set, other columns of the input.
    fn expand(&self, input: Draft, groups: &[(usize, usize)], passed: &[usize]) -> Draft {
        let columns = super::expr::identity(input.schema.fields.iter().map(|field| &field.data_type));
        let row = |set: &Vec<usize>| {
            let groups = groups.iter().map(|(group, column)| match set.contains(group) {
                true => columns[*column].clone(),
                false => null(&columns[*column].data_type),
            });
            let id = std::iter::once(bigint_literal(self.set_id(set)));
            groups
                .chain(id)
                .chain(passed.iter().map(|&column| columns[column].clone()))
                .collect()
        };
        let rows: Vec<Vec<Expr>> = self.sets.iter().map(row).collect();
        let mut fields: Vec<Field> = Vec::new();
        for &(group, column) in groups {
            let mut field = input.schema.fields[column].clone();
            field.data_type.nullable |= !self.stays(group);
            fields.push(field);
        }
        fields.push(Field::new(SET_ID, bigint_literal(0).data_type));
        fields.extend(passed.iter().map(|&column| input.schema.fields[column].clone()));
        Draft {
            window: None,
            upsert_keys: Vec::new(),
            monotonicity: input
                .is_insert_only()
                .then(|| vec![Monotonicity::Constant; fields.len()]),
            schema: Schema {
                fields: unique_names(fields),
            },
            ..Draft::over(input, Distribution::Forward, NodeSpec::Expand(rows))
        }
    }

    /// A bit for each group, the first one's the highest; set if the set hasn't it.
    fn set_id(&self, set: &[usize]) -> i64 {
        bits(0..self.groups.len(), set)
    }

    /// The groups, GROUPING's values of the set, the aggregates.
    fn with_grouping_ids(&self, input: Draft, id: usize) -> Draft {
        let column = |column: usize| Expr::column(column, input.schema.fields[column].data_type.clone());
        let value = |asked: &Vec<usize>| {
            let mut args = Vec::new();
            for (number, set) in self.sets.iter().enumerate() {
                if number + 1 < self.sets.len() {
                    let is_set = vec![column(id), bigint_literal(self.set_id(set))];
                    args.push(Expr::call("=", is_set, boolean(false)));
                }
                args.push(bigint_literal(bits(asked.iter().copied(), set)));
            }
            match args.len() {
                1 => args.remove(0),
                _ => Expr::call("CASE", args, bigint_literal(0).data_type),
            }
        };
        let groups = (0..self.groups.len()).map(column);
        let calls = (0..self.calls.len()).map(|call| column(id + 1 + call));
        let exprs: Vec<Expr> = groups
            .chain(self.grouping_ids.iter().map(value))
            .chain(calls)
            .collect();
        calc(input, exprs, None, names(self.schema))
    }
}

fn bits(groups: impl Iterator<Item = usize>, set: &[usize]) -> i64 {
    groups.fold(0, |id, group| (id << 1) | i64::from(!set.contains(&group)))
}

fn moved_properties(
    of: &WindowProperties,
    columns: &[(WindowProperty, Field)],
    first: usize,
) -> WindowProperties {
    let place = |property: WindowProperty| {
        let place = columns.iter().position(|(known, _)| *known == property);
        place.map(|place| first + place)
    };
    WindowProperties {
        start: place(WindowProperty::Start),
        end: place(WindowProperty::End),
        time: place(WindowProperty::Time),
        sessions_by: None,
        ..of.clone()
    }
}

/// A call over an input's columns.
pub(crate) fn aggregate_call(
    call: &Aggregation,
    input: &Draft,
    place: impl Fn(usize) -> usize,
) -> AggregateCall {
    let args: Vec<usize> = call.args.iter().map(|&column| place(column)).collect();
    let arg_type = |&column: &usize| input.schema.fields[column].data_type.clone();
    AggregateCall {
        arg_types: args.iter().map(arg_type).collect(),
        args,
        function: call.function.clone(),
        distinct: call.distinct,
        filter: call.filter.map(place),
        data_type: call.data_type.clone(),
        name: call.name.clone(),
        retracts: !input.is_insert_only(),
    }
}
