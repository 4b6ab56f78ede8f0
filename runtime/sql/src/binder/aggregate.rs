//! GROUP BY: what is grouped and aggregated becomes columns of one relation, and the expressions above it are put over these.
//!
//! ```text
//!   input --Project: keys, arguments, filters, the window's time--> Aggregate: keys, GROUPINGs, aggregates, window properties
//! ```

use sqlparser::ast as tree;
use thalweg_plan::{DataType, Expr, ExprKind, Field, Schema, TypeRoot};

use super::Binder;
use super::call::simple_name;
use super::calls::{AggregateCall, Calls, Placeholder, place_of, rewrite, same};
use super::expression::{Allowed, ExprBinder, position_of};
use super::scope::{OUTER, Scope};
use super::select::{names_of, projected};
use super::window::{WindowItem, is_window_time};
use crate::error::{Position, SqlError};
use crate::logical::{Aggregation, GroupWindow, Rel, RelKind};

/// More sets than this come from a CUBE that nobody wants.
const MAX_SETS: usize = 4096;

/// GROUP BY's items, bound.
struct Groups {
    keys: Vec<Expr>,
    /// Positions in `keys`.
    sets: Vec<Vec<usize>>,
    window: Option<WindowItem>,
}

impl Binder<'_> {
    /// Groups `rel`, and puts `exprs` and the OVERs of `calls` over the groups.
    pub(crate) fn grouped(
        &self,
        rel: Rel,
        scope: &Scope,
        group_by: &[tree::Expr],
        calls: &mut Calls,
        exprs: &mut [Expr],
        position: Option<Position>,
    ) -> Result<Rel, SqlError> {
        let groups = self.groups(scope, group_by)?;
        let mut aggregation = Aggregating::new(&rel, &groups, position);
        aggregation.add_calls(calls);
        aggregation.add_groupings(calls)?;
        aggregation.add_properties(calls)?;
        let (rel, outputs) = aggregation.finish(rel);
        for expr in exprs {
            *expr = outputs.lower(expr)?;
        }
        for over in &mut calls.overs {
            let order = over.order.iter_mut().map(|(expr, ..)| expr);
            let call = over.call.args.iter_mut().chain(&mut over.call.filter);
            for expr in over.partition.iter_mut().chain(order).chain(call) {
                *expr = outputs.lower(expr)?;
            }
        }
        Ok(rel)
    }

    fn groups(&self, scope: &Scope, group_by: &[tree::Expr]) -> Result<Groups, SqlError> {
        let mut calls = Calls::default();
        let mut binder = ExprBinder {
            binder: self,
            scope,
            calls: &mut calls,
            allowed: Allowed::Nothing("GROUP BY"),
            windows: &[],
            grouped: true,
        };
        let mut groups = Groups {
            keys: Vec::new(),
            sets: vec![Vec::new()],
            window: None,
        };
        for item in group_by {
            if let tree::Expr::Function(function) = item
                && let Some(name) = simple_name(function)
                && matches!(name.as_str(), "TUMBLE" | "HOP" | "SESSION")
            {
                if groups.window.is_some() {
                    return Err(SqlError::semantic(
                        "GROUP BY can have one window",
                        position_of(item),
                    ));
                }
                groups.window = Some(WindowItem::bind(&mut binder, &name, function)?);
                continue;
            }
            let alternatives = sets_of(item)?;
            let mut sets = Vec::new();
            for alternative in &alternatives {
                let places: Vec<usize> = alternative
                    .iter()
                    .map(|expr| Ok(place_of(&mut groups.keys, &binder.bind(expr)?)))
                    .collect::<Result<_, SqlError>>()?;
                sets.extend(groups.sets.iter().map(|set| united(set, &places)));
                if sets.len() > MAX_SETS {
                    return Err(SqlError::semantic(
                        format!("More than {MAX_SETS} grouping sets"),
                        position_of(item),
                    ));
                }
            }
            groups.sets = sets;
        }
        if let Some(scalar) = calls.scalars.first() {
            return Err(SqlError::unsupported(
                "A subquery in GROUP BY is not supported",
                scalar.position,
            ));
        }
        Ok(groups)
    }
}

fn united(set: &[usize], more: &[usize]) -> Vec<usize> {
    let mut united = set.to_vec();
    united.extend(more.iter().filter(|place| !set.contains(place)));
    united.sort_unstable();
    united.dedup();
    united
}

/// The sets that an item of GROUP BY stands for.
fn sets_of(item: &tree::Expr) -> Result<Vec<Vec<&tree::Expr>>, SqlError> {
    fn of<'a>(set: &[&'a Vec<tree::Expr>]) -> Vec<&'a tree::Expr> {
        set.iter().flat_map(|exprs| exprs.iter()).collect()
    }
    Ok(match item {
        tree::Expr::GroupingSets(sets) => sets.iter().map(|set| set.iter().collect()).collect(),
        tree::Expr::Rollup(parts) => {
            let parts: Vec<&Vec<tree::Expr>> = parts.iter().collect();
            (0..=parts.len())
                .rev()
                .map(|length| of(&parts[..length]))
                .collect()
        }
        tree::Expr::Cube(parts) if parts.len() > 12 => {
            return Err(SqlError::semantic(
                format!("More than {MAX_SETS} grouping sets"),
                position_of(item),
            ));
        }
        tree::Expr::Cube(parts) => {
            let subset = |mask: usize| {
                let wanted = parts
                    .iter()
                    .enumerate()
                    .filter(move |(place, _)| mask >> (parts.len() - 1 - place) & 1 == 1);
                of(&wanted.map(|(_, part)| part).collect::<Vec<_>>())
            };
            (0..1_usize << parts.len()).rev().map(subset).collect()
        }
        tree::Expr::Tuple(exprs) => vec![exprs.iter().collect()],
        expr => vec![vec![expr]],
    })
}

/// The relation of the groups while it is made.
struct Aggregating<'a> {
    groups: &'a Groups,
    key_types: Vec<DataType>,
    /// Columns of the projection below.
    needed: Vec<Expr>,
    calls: Vec<Aggregation>,
    grouping_ids: Vec<Vec<usize>>,
    properties: Vec<(thalweg_plan::spec::WindowProperty, DataType)>,
    outputs: Outputs,
    position: Option<Position>,
}

/// Where the placeholders are.
#[derive(Default)]
struct Outputs {
    /// Of the columns before they are grouped.
    names: Vec<String>,
    keys: Vec<(Expr, DataType)>,
    groupings: Vec<usize>,
    aggregates: Vec<usize>,
    windows: Vec<usize>,
}

impl<'a> Aggregating<'a> {
    fn new(input: &Rel, groups: &'a Groups, position: Option<Position>) -> Self {
        let key_types = groups.keys.iter().enumerate().map(|(place, key)| {
            // A time attribute stays one only as the time of a window that is grouped by.
            let keeps_time = matches!(key.kind, ExprKind::Column(column) if is_window_time(input, column));
            let data_type = match keeps_time {
                true => key.data_type.clone(),
                false => key.data_type.clone().materialized(),
            };
            let everywhere = groups.sets.iter().all(|set| set.contains(&place));
            let nullable = data_type.nullable || !everywhere;
            data_type.with_nullable(nullable)
        });
        let key_types: Vec<DataType> = key_types.collect();
        let mut needed = groups.keys.clone();
        if let Some(window) = &groups.window {
            place_of(&mut needed, &window.time);
        }
        Self {
            outputs: Outputs {
                names: names_of(input),
                keys: groups
                    .keys
                    .iter()
                    .cloned()
                    .zip(key_types.iter().cloned())
                    .collect(),
                ..Outputs::default()
            },
            groups,
            key_types,
            needed,
            calls: Vec::new(),
            grouping_ids: Vec::new(),
            properties: Vec::new(),
            position,
        }
    }

    fn several_sets(&self) -> bool {
        self.groups.sets.len() > 1
    }

    fn add_calls(&mut self, calls: &Calls) {
        for call in &calls.aggregates {
            let found = self.aggregation(call);
            let same_call = |known: &Aggregation| {
                (&known.function, &known.args, known.distinct, known.filter)
                    == (&found.function, &found.args, found.distinct, found.filter)
                    && known.data_type == found.data_type
            };
            let place = match self.calls.iter().position(same_call) {
                Some(place) => place,
                None => {
                    self.calls.push(found);
                    self.calls.len() - 1
                }
            };
            self.outputs.aggregates.push(place);
        }
    }

    fn aggregation(&mut self, call: &AggregateCall) -> Aggregation {
        let name = format!("EXPR${}", self.calls.len());
        Aggregation {
            function: call.function.clone(),
            args: call
                .args
                .iter()
                .map(|arg| place_of(&mut self.needed, arg))
                .collect(),
            distinct: call.distinct,
            filter: call
                .filter
                .as_ref()
                .map(|filter| place_of(&mut self.needed, filter)),
            data_type: call.data_type.clone(),
            name,
            position: call.position,
        }
    }

    fn add_groupings(&mut self, calls: &Calls) -> Result<(), SqlError> {
        for args in &calls.groupings {
            let places = args.iter().map(|arg| {
                let place = self.groups.keys.iter().position(|key| same(key, arg));
                place.ok_or_else(|| {
                    let position = arg.position.map(|(line, column)| Position { line, column });
                    SqlError::semantic("GROUPING asks for expressions of GROUP BY", position)
                })
            });
            let places: Vec<usize> = places.collect::<Result<_, _>>()?;
            let place = match self.grouping_ids.iter().position(|known| *known == places) {
                Some(place) => place,
                None => {
                    self.grouping_ids.push(places);
                    self.grouping_ids.len() - 1
                }
            };
            self.outputs.groupings.push(place);
        }
        Ok(())
    }

    fn add_properties(&mut self, calls: &Calls) -> Result<(), SqlError> {
        for call in &calls.windows {
            let Some(window) = self.groups.window.as_ref().filter(|window| window.is_of(call)) else {
                return Err(SqlError::semantic(
                    format!("GROUP BY has no {} with the same arguments", call.function),
                    call.position,
                ));
            };
            debug_assert_eq!(window.name, call.function);
            let property = (call.property, call.data_type.clone());
            let place = match self.properties.iter().position(|known| *known == property) {
                Some(place) => place,
                None => {
                    self.properties.push(property);
                    self.properties.len() - 1
                }
            };
            self.outputs.windows.push(place);
        }
        Ok(())
    }

    /// The relation; positions in the outputs become columns.
    fn finish(mut self, input: Rel) -> (Rel, Outputs) {
        let key_count = self.groups.keys.len();
        let several = self.several_sets();
        let mut fields: Vec<Field> = self
            .key_types
            .iter()
            .enumerate()
            .map(|(place, data_type)| {
                Field::new(
                    key_name(&input, &self.groups.keys[place], place),
                    data_type.clone(),
                )
            })
            .collect();
        if several {
            let numbers = 0..self.grouping_ids.len();
            fields.extend(
                numbers.map(|number| Field::new(format!("$g{number}"), DataType::not_null(TypeRoot::BigInt))),
            );
        }
        let first_call = fields.len();
        fields.extend(
            self.calls
                .iter()
                .map(|call| Field::new(call.name.clone(), call.data_type.clone())),
        );
        let first_property = fields.len();
        let properties = self.properties.iter().enumerate();
        fields.extend(
            properties.map(|(number, (_, data_type))| Field::new(format!("w$p{number}"), data_type.clone())),
        );
        for place in &mut self.outputs.groupings {
            *place = if several { *place + key_count } else { usize::MAX };
        }
        self.outputs
            .aggregates
            .iter_mut()
            .for_each(|place| *place += first_call);
        self.outputs
            .windows
            .iter_mut()
            .for_each(|place| *place += first_property);
        let time = self
            .groups
            .window
            .as_ref()
            .map(|window| place_of(&mut self.needed, &window.time));
        let names = self
            .needed
            .iter()
            .enumerate()
            .map(|(place, expr)| key_name(&input, expr, place));
        let names = names.collect();
        let window = self
            .groups
            .window
            .as_ref()
            .zip(time)
            .map(|(window, time)| GroupWindow {
                window: window.spec(time),
                properties: self.properties,
            });
        let rel = Rel {
            schema: Schema { fields },
            position: self.position,
            kind: RelKind::Aggregate {
                input: Box::new(projected(input, self.needed, names, self.position)),
                groups: (0..key_count).collect(),
                sets: if several {
                    self.groups.sets.clone()
                } else {
                    Vec::new()
                },
                grouping_ids: if several { self.grouping_ids } else { Vec::new() },
                calls: self.calls,
                window,
                ttl_ms: None,
            },
        };
        (rel, self.outputs)
    }
}

fn key_name(input: &Rel, key: &Expr, place: usize) -> String {
    match key.kind {
        ExprKind::Column(column) => input.schema.fields[column].name.clone(),
        _ => format!("$f{place}"),
    }
}

impl Outputs {
    /// An expression over the input, over the groups.
    fn lower(&self, expr: &Expr) -> Result<Expr, SqlError> {
        rewrite(expr, &mut |expr| {
            let column = |index: usize| Some(Expr::column(index, expr.data_type.clone()).at(expr.position));
            if let Some(place) = self.keys.iter().position(|(key, _)| same(key, expr)) {
                return Ok(Some(
                    Expr::column(place, self.keys[place].1.clone()).at(expr.position),
                ));
            }
            match (Placeholder::of(expr), &expr.kind) {
                (Some((Placeholder::Aggregate, index)), _) => Ok(column(self.aggregates[index])),
                (Some((Placeholder::Window, index)), _) => Ok(column(self.windows[index])),
                (Some((Placeholder::Grouping, index)), _) => Ok(match self.groupings[index] {
                    // One set has all columns: nothing is left out.
                    usize::MAX => Some(Expr::literal(
                        thalweg_plan::Literal::Int(0),
                        expr.data_type.clone(),
                    )),
                    place => column(place),
                }),
                (Some(_), _) => Ok(Some(expr.clone())),
                (None, ExprKind::Call { function, .. }) if &**function == OUTER => Ok(Some(expr.clone())),
                (None, ExprKind::Column(column)) => {
                    let position = expr.position.map(|(line, column)| Position { line, column });
                    let message = format!(
                        "Expression '{}' is not being grouped: put it in GROUP BY or in an aggregate function",
                        self.names[*column]
                    );
                    Err(SqlError::semantic(message, position))
                }
                _ => Ok(None),
            }
        })
    }
}
