//! Joins: which operator, and by which columns rows meet.
//!
//! ```text
//!   ON holds both sides' windows' bounds          WindowJoin
//!   ON bounds the distance of two time attributes IntervalJoin
//!   else                                          Join, both sides in state
//! ```
//!
//! An equality of two expressions, one of each side, is a key; what is no column is computed by a Calc below, and a Calc above drops it again.

use thalweg_plan::spec::{
    IntervalJoinSpec, JoinKeys, JoinKind, JoinSideKey, JoinSpec, WindowColumns, WindowJoinSpec,
};
use thalweg_plan::{Expr, ExprKind, Field, NodeSpec, Schema};

use super::calc::{extended, selected, unique_names};
use super::changelog::unsupported_input;
use super::draft::{Draft, DraftInput, Kinds, Monotonicity, WindowProperties, keyed};
use super::expr::{all_of, as_column, columns, conjuncts, is_deterministic, renumbered};
use super::interval;
use super::lower::Planner;
use super::upsert_keys::{self, Side};
use crate::error::SqlError;
use crate::logical::{Rel, RelKind};

/// Two expressions that must be equal, each over its own side's columns.
#[derive(Debug, Clone)]
pub(crate) struct Equal {
    pub(crate) left: Expr,
    pub(crate) right: Expr,
    pub(crate) null_safe: bool,
}

/// Both inputs of a join and what joins them.
pub(crate) struct Joining {
    pub(crate) kind: JoinKind,
    pub(crate) left: Draft,
    pub(crate) right: Draft,
    pub(crate) equal: Vec<Equal>,
    /// Over the left side's columns and, behind them, the right side's.
    pub(crate) rest: Vec<Expr>,
}

/// Both inputs with the keys as columns.
pub(crate) struct Prepared {
    pub(crate) left: Draft,
    pub(crate) right: Draft,
    pub(crate) keys: JoinKeys,
    pub(crate) condition: Option<Expr>,
    /// Which columns of the join are those that were asked for.
    pub(crate) wanted: Vec<usize>,
}

/// A join.
pub(crate) fn lower(planner: &Planner<'_>, rel: &Rel) -> Result<Draft, SqlError> {
    let RelKind::Join {
        left,
        right,
        kind,
        condition,
        ttl_ms,
        ..
    } = &rel.kind
    else {
        return Err(SqlError::new(crate::SqlErrorKind::Bug, "no join", rel.position));
    };
    let (left, right) = (planner.lower(left)?, planner.lower(right)?);
    let conditions = condition.clone().map(conjuncts).unwrap_or_default();
    let interval = match kind {
        JoinKind::Semi | JoinKind::Anti => None,
        _ => interval::extracted(&left, &right, &conditions),
    };
    if let Some(interval) = interval {
        let joining = Joining::new(*kind, left, right, interval.rest.clone());
        return interval_join(joining, &interval);
    }
    let joining = Joining::new(*kind, left, right, conditions);
    match joining.window_keys() {
        Some((start, end)) => window_join(joining, start, end),
        None => Ok(regular(planner, joining, *ttl_ms)),
    }
}

impl Joining {
    /// Tells keys from other conditions.
    pub(crate) fn new(kind: JoinKind, left: Draft, right: Draft, conditions: Vec<Expr>) -> Self {
        let (mut equal, mut rest) = (Vec::new(), Vec::new());
        for condition in conditions {
            match equality(&condition, left.width()) {
                Some(pair) => equal.push(pair),
                None => rest.push(condition),
            }
        }
        Self {
            kind,
            left,
            right,
            equal,
            rest,
        }
    }

    /// The keys that are the windows' bounds; `None`: there are none, or the sides' windows are others.
    fn window_keys(&self) -> Option<(usize, usize)> {
        let (Some(left), Some(right)) = (&self.left.window, &self.right.window) else {
            return None;
        };
        let of = |l: Option<usize>, r: Option<usize>| {
            let is = |pair: &Equal| l.is_some() && as_column(&pair.left) == l && as_column(&pair.right) == r;
            self.equal.iter().position(is)
        };
        let (Some(start), Some(end)) = (of(left.start, right.start), of(left.end, right.end)) else {
            return None;
        };
        left.same_windows(right).then_some((start, end))
    }

    /// Makes columns of the keys.
    pub(crate) fn prepared(self) -> Prepared {
        let (left_width, right_width) = (self.left.width(), self.right.width());
        let lefts = self.equal.iter().map(|pair| pair.left.clone()).collect();
        let rights = self.equal.iter().map(|pair| pair.right.clone()).collect();
        let (left, left_keys) = extended(self.left, lefts);
        let (right, right_keys) = extended(self.right, rights);
        let shift = left.width() - left_width;
        let place = |column: usize| {
            if column < left_width {
                column
            } else {
                column + shift
            }
        };
        let rest = self.rest.iter().map(|condition| renumbered(condition, place));
        let wanted = match self.kind {
            JoinKind::Semi | JoinKind::Anti => (0..left_width).collect(),
            _ => (0..left_width + right_width).map(place).collect(),
        };
        Prepared {
            condition: all_of(rest),
            keys: JoinKeys {
                left: left_keys,
                right: right_keys,
                null_safe: self.equal.iter().map(|pair| pair.null_safe).collect(),
            },
            left,
            right,
            wanted,
        }
    }
}

/// A key, if a condition is one.
fn equality(condition: &Expr, left_width: usize) -> Option<Equal> {
    let ExprKind::Call { function, args } = &condition.kind else {
        return None;
    };
    let null_safe = match &**function {
        "=" => false,
        "IS NOT DISTINCT FROM" => true,
        _ => return None,
    };
    let [a, b] = args.as_slice() else {
        return None;
    };
    if a.data_type.to_arrow() != b.data_type.to_arrow() || !is_deterministic(condition) {
        return None;
    }
    let of_left =
        |expr: &Expr| !columns(expr).is_empty() && columns(expr).iter().all(|&column| column < left_width);
    let of_right =
        |expr: &Expr| !columns(expr).is_empty() && columns(expr).iter().all(|&column| column >= left_width);
    let (left, right) = match (of_left(a), of_right(b), of_left(b), of_right(a)) {
        (true, true, _, _) => (a, b),
        (_, _, true, true) => (b, a),
        _ => return None,
    };
    Some(Equal {
        left: left.clone(),
        right: renumbered(right, |column| column - left_width),
        null_safe,
    })
}

/// Both sides' columns, nullable where rows may be padded; of semi and anti joins the left ones.
pub(crate) fn joined_schema(kind: JoinKind, left: &Schema, right: &Schema, keep_time: bool) -> Schema {
    let typed = |field: &Field, padded: bool| {
        let data_type = match keep_time {
            true => field.data_type.clone(),
            false => field.data_type.clone().materialized(),
        };
        let nullable = data_type.nullable || padded;
        Field::new(&*field.name, data_type.with_nullable(nullable))
    };
    let pads_left = matches!(kind, JoinKind::Right | JoinKind::Full);
    let pads_right = matches!(kind, JoinKind::Left | JoinKind::Full);
    let mut fields: Vec<Field> = left.fields.iter().map(|field| typed(field, pads_left)).collect();
    if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
        fields.extend(right.fields.iter().map(|field| typed(field, pads_right)));
    }
    Schema {
        fields: unique_names(fields),
    }
}

/// How a join tells a side's rows apart.
fn side_key(side: &Draft, join: &[usize]) -> JoinSideKey {
    if upsert_keys::are_unique(&side.upsert_keys, join) {
        return JoinSideKey::JoinKey;
    }
    match side.upsert_keys.iter().min_by_key(|key| key.len()) {
        Some(key) => JoinSideKey::Columns(key.clone()),
        None => JoinSideKey::None,
    }
}

/// What identifies the rows of a join.
pub(crate) fn keys_of(kind: JoinKind, prepared: &Prepared) -> upsert_keys::Keys {
    let Prepared {
        left, right, keys, ..
    } = prepared;
    upsert_keys::joined(
        kind,
        Side {
            keys: &left.upsert_keys,
            join: &keys.left,
            width: left.width(),
        },
        Side {
            keys: &right.upsert_keys,
            join: &keys.right,
            width: right.width(),
        },
    )
}

fn inputs(left: Draft, right: Draft, keys: &JoinKeys) -> Vec<DraftInput> {
    vec![
        DraftInput::new(left, keyed(&keys.left)),
        DraftInput::new(right, keyed(&keys.right)),
    ]
}

fn regular(planner: &Planner<'_>, joining: Joining, ttl_ms: [Option<u64>; 2]) -> Draft {
    let kind = joining.kind;
    let prepared = joining.prepared();
    let upsert_keys = keys_of(kind, &prepared);
    let Prepared {
        left,
        right,
        keys,
        condition,
        wanted,
    } = prepared;
    let kinds = match kind {
        JoinKind::Inner | JoinKind::Semi => left.kinds.or(right.kinds),
        _ => Kinds::ALL,
    };
    let schema = joined_schema(kind, &left.schema, &right.schema, false);
    let ttl = |hint: Option<u64>| hint.unwrap_or(planner.settings.state_ttl_ms);
    let spec = JoinSpec {
        kind,
        condition,
        left_key: side_key(&left, &keys.left),
        right_key: side_key(&right, &keys.right),
        left_ttl_ms: ttl(ttl_ms[0]),
        right_ttl_ms: ttl(ttl_ms[1]),
        keys: keys.clone(),
    };
    let join = Draft {
        kinds,
        upsert_keys,
        monotonicity: kinds
            .is_insert_only()
            .then(|| vec![Monotonicity::Constant; schema.fields.len()]),
        ..Draft::new(NodeSpec::Join(spec), inputs(left, right, &keys), schema)
    };
    selected(join, &wanted)
}

fn interval_join(joining: Joining, interval: &interval::Interval) -> Result<Draft, SqlError> {
    for side in [&joining.left, &joining.right] {
        if !side.is_insert_only() {
            return Err(unsupported_input("IntervalJoin", side));
        }
    }
    let kind = joining.kind;
    let prepared = joining.prepared();
    let upsert_keys = keys_of(kind, &prepared);
    let Prepared {
        left,
        right,
        keys,
        condition,
        wanted,
    } = prepared;
    let schema = joined_schema(kind, &left.schema, &right.schema, true);
    let spec = IntervalJoinSpec {
        kind,
        condition,
        left_time: interval.left_time,
        right_time: interval.right_time,
        lower_ms: interval.lower_ms,
        upper_ms: interval.upper_ms,
        keys: keys.clone(),
    };
    let join = Draft {
        upsert_keys,
        monotonicity: Some(vec![Monotonicity::Constant; schema.fields.len()]),
        ..Draft::new(NodeSpec::IntervalJoin(spec), inputs(left, right, &keys), schema)
    };
    Ok(selected(join, &wanted))
}

fn window_join(mut joining: Joining, start: usize, end: usize) -> Result<Draft, SqlError> {
    for side in [&joining.left, &joining.right] {
        if !side.is_insert_only() {
            return Err(unsupported_input("WindowJoin", side));
        }
    }
    let position = |index: &usize| *index != start && *index != end;
    let kept: Vec<usize> = (0..joining.equal.len()).filter(position).collect();
    joining.equal = kept
        .into_iter()
        .map(|index| joining.equal[index].clone())
        .collect();
    let kind = joining.kind;
    let (Some(left_window), Some(right_window)) = (bounds(&joining.left), bounds(&joining.right)) else {
        return Err(SqlError::new(
            crate::SqlErrorKind::Bug,
            "a window join without windows",
            None,
        ));
    };
    let Prepared {
        left,
        right,
        keys,
        condition,
        wanted,
    } = joining.prepared();
    let schema = joined_schema(kind, &left.schema, &right.schema, true);
    let window = joined_window(kind, &left, &right);
    let spec = WindowJoinSpec {
        kind,
        keys: keys.clone(),
        condition,
        left_window,
        right_window,
    };
    let join = Draft {
        window,
        monotonicity: Some(vec![Monotonicity::Constant; schema.fields.len()]),
        ..Draft::new(NodeSpec::WindowJoin(spec), inputs(left, right, &keys), schema)
    };
    Ok(selected(join, &wanted))
}

fn bounds(side: &Draft) -> Option<WindowColumns> {
    let window = side.window.as_ref()?;
    Some(WindowColumns {
        start: window.start?,
        end: window.end?,
        event_time: window.event_time,
        local_time: window.local_time,
    })
}

/// The windows of a window join's rows: those of a side that is never padded, else none are sure.
fn joined_window(kind: JoinKind, left: &Draft, right: &Draft) -> Option<WindowProperties> {
    match kind {
        JoinKind::Full => None,
        JoinKind::Right => {
            let shift = left.width();
            right.window.as_ref()?.moved(|column| Some(shift + column))
        }
        _ => left.window.clone(),
    }
}
