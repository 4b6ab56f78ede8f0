//! What a query means, as a tree of relations: names are resolved, types and implicit casts written out, subqueries unnested. How
//! it is run is not yet decided.
//!
//! ```text
//!   ast --binder--> Rel --physical--> thalweg_plan::Plan (operators, changelog, distribution, uids)
//! ```
//!
//! Invariants: columns are indices into the schema of the input; with two inputs the right one's columns stand behind the left one's.
//! Rows of a relation are a changelog: every relation holds for streams and for bounded input alike.

use std::sync::Arc;

use thalweg_plan::connector::CatalogTable;
use thalweg_plan::spec::{JoinKind, RankEnd, SortKey, WindowProperty, WindowSpec};
use thalweg_plan::{DataType, Expr, Schema};

use crate::ast::ConflictAction;
use crate::error::Position;

/// A relation.
#[derive(Debug, Clone, PartialEq)]
pub struct Rel {
    /// What it is.
    pub kind: RelKind,
    /// Its columns; names may repeat below the top of a query.
    pub schema: Schema,
    /// Where it stands in the script.
    pub position: Option<Position>,
}

/// Kinds of relations.
#[derive(Debug, Clone, PartialEq)]
pub enum RelKind {
    /// All columns of a table in the table's order, hints' options put in. Computed columns and the watermark are the physical
    /// step's to add.
    Scan(Arc<CatalogTable>),
    /// Constant rows; expressions have no columns.
    Values(Vec<Vec<Expr>>),
    /// An expression a column.
    Project {
        /// Its rows.
        input: Box<Rel>,
        /// The columns.
        exprs: Vec<Expr>,
    },
    /// Rows for which `condition` is true. WHERE, HAVING and conditions over OVER's columns (Top-N).
    Filter {
        /// Its rows.
        input: Box<Rel>,
        /// Of BOOLEAN.
        condition: Expr,
    },
    /// TUMBLE, HOP, CUMULATE, SESSION as table functions: the input's columns, then `window_start`, `window_end`, `window_time`.
    WindowTableFunction {
        /// Its rows.
        input: Box<Rel>,
        /// The windows.
        window: WindowSpec,
    },
    /// GROUP BY; DISTINCT; set operations by groups. Output: the groups' columns, with several sets also the columns of
    /// `grouping_ids`, the aggregates, the properties of the group window.
    Aggregate {
        /// Its rows.
        input: Box<Rel>,
        /// The groups' columns.
        groups: Vec<usize>,
        /// GROUPING SETS, ROLLUP, CUBE: positions in `groups` for each set; empty = one set of all. Columns that are not in a set are
        /// NULL in its rows.
        sets: Vec<Vec<usize>>,
        /// With several sets: for each GROUPING(..), GROUPING_ID(..) of the query the positions in `groups` that it asks; BIGINT NOT NULL.
        grouping_ids: Vec<Vec<usize>>,
        /// What is computed.
        calls: Vec<Aggregation>,
        /// TUMBLE(..), HOP(..), SESSION(..) in GROUP BY, and what of the window is in the output.
        window: Option<GroupWindow>,
        /// STATE_TTL in milliseconds; `None`: the session's.
        ttl_ms: Option<u64>,
    },
    /// Functions with OVER. Output: the input's columns, then the calls'.
    Over {
        /// Its rows.
        input: Box<Rel>,
        /// All with the same PARTITION BY and ORDER BY.
        partition: Vec<usize>,
        /// ORDER BY.
        order: Vec<SortKey>,
        /// The calls; ROW_NUMBER, RANK and DENSE_RANK are among them.
        calls: Vec<OverCall>,
    },
    /// Top-N, which the physical step makes of a condition over ROW_NUMBER's column; no binder does. Output: the input's columns and, if
    /// wanted, the rank as BIGINT NOT NULL.
    Rank {
        /// Its rows.
        input: Box<Rel>,
        /// PARTITION BY.
        partition: Vec<usize>,
        /// ORDER BY.
        order: Vec<SortKey>,
        /// The first rank, from 1.
        start: u64,
        /// The last rank.
        end: RankEnd,
        /// Whether the rank is a column.
        with_rank: bool,
    },
    /// A join. Output: left, then right columns; of Semi and Anti left only.
    Join {
        /// Left.
        left: Box<Rel>,
        /// Right.
        right: Box<Rel>,
        /// Which rows stay.
        kind: JoinKind,
        /// ON, without USING's columns merged; `None`: all rows meet.
        condition: Option<Expr>,
        /// STATE_TTL hints, in milliseconds.
        ttl_ms: [Option<u64>; 2],
        /// NOT IN of values that may be null; `condition` says itself what a null means: `a = b OR a IS NULL OR b IS NULL`.
        null_aware: bool,
    },
    /// FOR SYSTEM_TIME AS OF. Output: left, then right columns.
    TemporalJoin {
        /// Left.
        left: Box<Rel>,
        /// A table or view with a primary key, or one that can be looked up.
        right: Box<Rel>,
        /// Inner or Left.
        kind: JoinKind,
        /// ON.
        condition: Option<Expr>,
        /// The left input's time attribute.
        time: usize,
    },
    /// A table function for each row: UNNEST, LATERAL TABLE(..). Output: the input's columns, then the function's.
    Correlate {
        /// Its rows.
        input: Box<Rel>,
        /// Upper case: "UNNEST" or a function's name.
        function: String,
        /// Over the input's columns.
        args: Vec<Expr>,
        /// Of the function's columns.
        columns: Schema,
        /// LEFT JOIN .. ON TRUE.
        left_outer: bool,
        /// WITH ORDINALITY.
        with_ordinality: bool,
    },
    /// UNION ALL. (UNION is a DISTINCT above it.)
    Union(Vec<Rel>),
    /// INTERSECT, EXCEPT, with or without ALL.
    SetOperation {
        /// EXCEPT instead of INTERSECT.
        except: bool,
        /// ALL.
        all: bool,
        /// Left.
        left: Box<Rel>,
        /// Right.
        right: Box<Rel>,
    },
    /// ORDER BY, OFFSET, LIMIT/FETCH.
    Sort {
        /// Its rows.
        input: Box<Rel>,
        /// ORDER BY; empty: only OFFSET and LIMIT.
        keys: Vec<SortKey>,
        /// OFFSET.
        offset: u64,
        /// LIMIT.
        fetch: Option<u64>,
    },
}

mod display;

impl Rel {
    /// Visits all expressions in it and below it.
    pub(crate) fn visit_exprs(&self, visit: &mut impl FnMut(&Expr)) {
        match &self.kind {
            RelKind::Scan(_) => {}
            RelKind::Values(rows) => rows.iter().flatten().for_each(|expr| expr.visit(visit)),
            RelKind::Project { input, exprs }
            | RelKind::Correlate {
                input, args: exprs, ..
            } => {
                exprs.iter().for_each(|expr| expr.visit(visit));
                input.visit_exprs(visit);
            }
            RelKind::Filter { input, condition } => {
                condition.visit(visit);
                input.visit_exprs(visit);
            }
            RelKind::WindowTableFunction { input, .. }
            | RelKind::Aggregate { input, .. }
            | RelKind::Over { input, .. }
            | RelKind::Rank { input, .. }
            | RelKind::Sort { input, .. } => input.visit_exprs(visit),
            RelKind::Join {
                left,
                right,
                condition,
                ..
            }
            | RelKind::TemporalJoin {
                left,
                right,
                condition,
                ..
            } => {
                condition.iter().for_each(|condition| condition.visit(visit));
                left.visit_exprs(visit);
                right.visit_exprs(visit);
            }
            RelKind::Union(inputs) => inputs.iter().for_each(|input| input.visit_exprs(visit)),
            RelKind::SetOperation { left, right, .. } => {
                left.visit_exprs(visit);
                right.visit_exprs(visit);
            }
        }
    }
}

/// An aggregate function and what it is of.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregation {
    /// Upper case.
    pub function: String,
    /// Columns of the input, cast as the function wants; COUNT(*) has none.
    pub args: Vec<usize>,
    /// DISTINCT.
    pub distinct: bool,
    /// FILTER: a boolean column of the input.
    pub filter: Option<usize>,
    /// Of the result.
    pub data_type: DataType,
    /// As EXPLAIN names it, "EXPR$1" or the alias.
    pub name: String,
    /// Where it stands.
    pub position: Option<Position>,
}

/// A legacy group window.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupWindow {
    /// The windows.
    pub window: WindowSpec,
    /// Output columns behind the aggregates: TUMBLE_START and its like.
    pub properties: Vec<(WindowProperty, DataType)>,
}

/// A function with OVER.
#[derive(Debug, Clone, PartialEq)]
pub struct OverCall {
    /// What is computed; ROW_NUMBER, RANK, LAG .. have their arguments in it, too.
    pub call: Aggregation,
    /// ROWS or RANGE.
    pub frame: OverFrame,
}

/// A frame, up to the current row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverFrame {
    /// Rows before the current one; `None` = all.
    Rows(Option<u64>),
    /// Milliseconds before the current one, and its peers; `None` = all.
    Range(Option<u64>),
}

/// What a script's query is for.
#[derive(Debug, Clone, PartialEq)]
pub enum BoundStatement {
    /// INSERT: the query's columns are the sink's physical columns in order, then its persisted metadata columns, cast already.
    Insert {
        /// The sink's table, hints' options put in.
        table: Arc<CatalogTable>,
        /// What is written.
        query: Rel,
        /// INSERT OVERWRITE.
        overwrite: bool,
        /// PARTITION (k = 'v').
        static_partition: std::collections::BTreeMap<String, String>,
        /// Which columns the script named, if it did.
        target_columns: Option<Vec<usize>>,
        /// ON CONFLICT DO ..
        on_conflict: Option<ConflictAction>,
        /// Of INSERT.
        position: Option<Position>,
    },
    /// SELECT to the console: the physical step adds a sink that takes every kind of row, named as `table`.
    Select {
        /// The query.
        query: Rel,
        /// A made-up table (connector "thalweg-collect") with the query's columns.
        table: Arc<CatalogTable>,
    },
}
