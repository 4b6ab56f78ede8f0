//! Windows: table functions, and groups of their windows.
//!
//! ```text
//!   GROUP BY window_start, window_end, k
//!     over TUMBLE(t) itself       WindowAggregate(Assign) over t: rows are not repeated for each window
//!     over rows that have windows WindowAggregate(Attached)
//! ```
//!
//! A draft's [`WindowProperties`] say which columns are a window's bounds; whoever passes the columns on passes the properties on.

use thalweg_plan::data_type::TimeKind;
use thalweg_plan::spec::{
    AggregateCall, WindowAggregateSpec, WindowColumns, WindowKind, WindowProperty, WindowSpec, Windowing,
};
use thalweg_plan::{DataType, Distribution, Expr, Field, NodeSpec, Schema, TypeRoot};

use super::calc::{calc, unique_names};
use super::draft::{Draft, DraftInput, Kinds, Monotonicity, WindowProperties, keyed};
use super::expr::{as_column, columns};
use super::lower::Planner;
use super::program::Program;
use super::upsert_keys;
use crate::error::SqlError;
use crate::logical::{Rel, RelKind};

/// Whether a time column is of event time, and whether it is of the session's zone; an error if it is no time attribute.
pub(crate) fn time_attribute(input: &Draft, time: usize) -> Result<(bool, bool), SqlError> {
    let data_type = input.schema.fields.get(time).map(|field| &field.data_type);
    let local = matches!(data_type.map(|it| &it.root), Some(TypeRoot::TimestampLtz(..)));
    match data_type.map(DataType::time_kind) {
        Some(TimeKind::Rowtime) => Ok((true, local)),
        Some(TimeKind::Proctime) => Ok((false, true)),
        _ => {
            let found = data_type.map(DataType::to_string).unwrap_or_default();
            let message =
                format!("The window function requires the timecol is a time attribute type, but is {found}.");
            Err(SqlError::semantic(message, None))
        }
    }
}

/// TUMBLE, HOP, CUMULATE, SESSION as an operator of its own.
pub(crate) fn table_function(input: Draft, window: &WindowSpec, rel: &Rel) -> Result<Draft, SqlError> {
    let (event_time, local_time) = time_attribute(&input, window.time)?;
    let first = input.width();
    let added = rel.schema.fields.get(first..).unwrap_or_default();
    let fields = input.schema.fields.iter().chain(added).cloned().collect();
    let distribution = match window.kind {
        WindowKind::Session { .. } => keyed(&window.partition),
        _ => Distribution::Forward,
    };
    if matches!(window.kind, WindowKind::Session { .. }) && !input.is_insert_only() {
        return Err(super::changelog::unsupported_input("WindowTableFunction", &input));
    }
    Ok(Draft {
        window: Some(WindowProperties::behind(window, event_time, local_time, first)),
        schema: Schema {
            fields: unique_names(fields),
        },
        upsert_keys: Vec::new(),
        monotonicity: input
            .is_insert_only()
            .then(|| vec![Monotonicity::Constant; first + added.len()]),
        ..Draft::over(input, distribution, NodeSpec::WindowTableFunction(window.clone()))
    })
}

/// What a group by windows is of.
pub(crate) struct WindowedInput {
    /// Its rows.
    pub(crate) input: Draft,
    /// Its windows.
    pub(crate) windowing: Windowing,
    /// Which they are; columns of the grouped relation's input.
    pub(crate) properties: WindowProperties,
    /// Where columns of the grouped relation's input are in `input`; windows' columns may be nowhere.
    pub(crate) places: Vec<Option<usize>>,
}

/// The input of a group whose keys hold a window's bounds; else the input as it is.
pub(crate) fn windowed(
    planner: &Planner<'_>,
    input: &Rel,
    groups: &[usize],
    read: &[usize],
) -> Result<Result<WindowedInput, Box<Draft>>, SqlError> {
    match assigned(planner, input, groups, read)? {
        Some(assigned) => Ok(Ok(assigned)),
        None => Ok(attached(planner.lower(input)?, groups)),
    }
}

/// Rows that have windows already; else they are given back.
pub(crate) fn attached(input: Draft, groups: &[usize]) -> Result<WindowedInput, Box<Draft>> {
    let Some(properties) = input.window.clone() else {
        return Err(Box::new(input));
    };
    match (properties.start, properties.end) {
        (Some(start), Some(end))
            if groups.contains(&start) && groups.contains(&end) && has_sessions_by(&properties, groups) =>
        {
            Ok(WindowedInput {
                places: (0..input.width()).map(Some).collect(),
                windowing: Windowing::Attached(WindowColumns {
                    start,
                    end,
                    event_time: properties.event_time,
                    local_time: properties.local_time,
                }),
                properties,
                input,
            })
        }
        _ => Err(Box::new(input)),
    }
}

/// Whether sessions are by the groups' other columns; else a session is not over at the same time for all of a group.
fn has_sessions_by(properties: &WindowProperties, groups: &[usize]) -> bool {
    let Some(columns) = &properties.sessions_by else {
        return true;
    };
    let bounds = [properties.start, properties.end, properties.time];
    let others = groups.iter().filter(|group| !bounds.contains(&Some(**group)));
    let columns: Option<Vec<usize>> = columns.iter().copied().collect();
    columns.is_some_and(|columns| upsert_keys::key(columns) == upsert_keys::key(others.copied()))
}

/// The table function's own input, if nothing but the groups' bounds reads the windows.
fn assigned(
    planner: &Planner<'_>,
    input: &Rel,
    groups: &[usize],
    read: &[usize],
) -> Result<Option<WindowedInput>, SqlError> {
    let program = Program::of(input);
    let RelKind::WindowTableFunction { input: below, window } = &program.base.kind else {
        return Ok(None);
    };
    let first = below.schema.fields.len();
    let of_window = |column: usize| {
        let place = program.projection.get(column).and_then(as_column)?;
        place.checked_sub(first)
    };
    let bound = |which: usize| {
        groups
            .iter()
            .copied()
            .find(|&group| of_window(group) == Some(which))
    };
    let (Some(start), Some(end)) = (bound(0), bound(1)) else {
        return Ok(None);
    };
    let is_key = |column: usize| of_window(column).is_none();
    let reads_window = |expr: &Expr| columns(expr).iter().any(|&column| column >= first);
    let keys: Vec<usize> = groups.iter().copied().filter(|&group| is_key(group)).collect();
    let wanted: Vec<usize> = keys.iter().chain(read).copied().collect();
    if program.filter.is_some()
        || wanted
            .iter()
            .any(|&column| reads_window(&program.projection[column]))
    {
        return Ok(None);
    }
    if let WindowKind::Session { .. } = window.kind {
        let by = |&key: &usize| as_column(&program.projection[key]);
        let by: Option<Vec<usize>> = keys.iter().map(by).collect();
        let same = by.is_some_and(|by| upsert_keys::key(by) == upsert_keys::key(window.partition.clone()));
        if !same {
            return Ok(None);
        }
    }
    let below = planner.lower(below)?;
    let (event_time, local_time) = time_attribute(&below, window.time)?;
    let mut places = vec![None; program.projection.len()];
    let (mut exprs, mut names) = (Vec::new(), Vec::new());
    for column in wanted {
        if places[column].is_none() {
            places[column] = Some(exprs.len());
            exprs.push(program.projection[column].clone());
            names.push(program.names[column].clone());
        }
    }
    let time = exprs.iter().position(|expr| as_column(expr) == Some(window.time));
    let time = time.unwrap_or_else(|| {
        let field = &below.schema.fields[window.time];
        exprs.push(Expr::column(window.time, field.data_type.clone()));
        names.push(field.name.clone());
        exprs.len() - 1
    });
    let partition = keys.iter().filter_map(|&key| places[key]);
    let partition = match window.kind {
        WindowKind::Session { .. } => partition.collect(),
        _ => Vec::new(),
    };
    let properties = WindowProperties {
        start: Some(start),
        end: Some(end),
        time: bound(2),
        kind: window.kind,
        offset_ms: window.offset_ms,
        sessions_by: None,
        event_time,
        local_time,
    };
    Ok(Some(WindowedInput {
        input: calc(below, exprs, None, names),
        windowing: Windowing::Assign(WindowSpec {
            time,
            partition,
            ..window.clone()
        }),
        properties,
        places,
    }))
}

/// A window aggregate; output: keys, aggregates, properties.
pub(crate) fn aggregate(
    input: Draft,
    windowing: Windowing,
    keys: Vec<usize>,
    aggregates: Vec<AggregateCall>,
    properties: Vec<(WindowProperty, Field)>,
    legacy: bool,
) -> Draft {
    let key = |&column: &usize| {
        let field = &input.schema.fields[column];
        Field::new(&*field.name, field.data_type.clone().materialized())
    };
    let results = aggregates
        .iter()
        .map(|call| Field::new(&*call.name, call.data_type.clone()));
    let fields = keys.iter().map(key).chain(results);
    let fields: Vec<Field> = fields
        .chain(properties.iter().map(|(_, field)| field.clone()))
        .collect();
    let of = properties
        .into_iter()
        .map(|(property, field)| (property, field.data_type));
    let distribution = keyed(&keys);
    let width = fields.len();
    let spec = WindowAggregateSpec {
        keys,
        aggregates,
        windowing,
        properties: of.collect(),
        legacy,
    };
    Draft {
        kinds: Kinds::INSERT,
        monotonicity: Some(vec![Monotonicity::Constant; width]),
        position: input.position,
        schema: Schema {
            fields: unique_names(fields),
        },
        ..Draft::new(
            NodeSpec::WindowAggregate(spec),
            vec![DraftInput::new(input, distribution)],
            Schema::default(),
        )
    }
}
