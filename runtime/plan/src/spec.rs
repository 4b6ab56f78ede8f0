//! What each operator of a plan does. Columns are indices into the input's schema; in conditions of operators with two inputs
//! into the left one's columns and, behind them, the right one's.

use crate::connector::{CatalogTable, SinkSpec, SourceColumn, SourceSpec};
use crate::data_type::DataType;
use crate::expr::{Expr, Literal};

/// An operator.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a plan has tens of them")]
pub enum NodeSpec {
    /// Rows of a table.
    Source(SourceSpec),
    /// Constant rows.
    Values(Vec<Vec<Literal>>),
    /// Projection and filter, the filter first: it sees the input's columns.
    Calc {
        /// The output's columns.
        projection: Vec<Expr>,
        /// Rows for which it isn't true go.
        filter: Option<Expr>,
    },
    /// Makes watermarks.
    WatermarkAssigner(WatermarkSpec),
    /// All inputs' rows; no operator.
    Union,
    /// Each row several times, for GROUPING SETS. Each list makes one output row.
    Expand(Vec<Vec<Expr>>),
    /// Rows of a table function, joined to the row that they are of.
    Correlate(CorrelateSpec),
    /// GROUP BY without windows.
    GroupAggregate(GroupAggregateSpec),
    /// Folds rows by key before they are sent: key columns, then the partial results of each aggregate.
    LocalGroupAggregate(GroupAggregateSpec),
    /// Takes what [`NodeSpec::LocalGroupAggregate`] gives. Keys are the input's first columns; the spec is otherwise the local one's.
    GlobalGroupAggregate(GroupAggregateSpec),
    /// Adds `window_start`, `window_end`, `window_time` to each row.
    WindowTableFunction(WindowSpec),
    /// GROUP BY windows of a window TVF, or the legacy group windows.
    WindowAggregate(WindowAggregateSpec),
    /// OVER.
    OverAggregate(OverAggregateSpec),
    /// A join that keeps both sides.
    Join(JoinSpec),
    /// A join whose sides' times are near each other.
    IntervalJoin(IntervalJoinSpec),
    /// FOR SYSTEM_TIME AS OF with a versioned table on the right.
    TemporalJoin(TemporalJoinSpec),
    /// FOR SYSTEM_TIME AS OF with a table that is asked row by row.
    LookupJoin(LookupJoinSpec),
    /// A join of rows of one window.
    WindowJoin(WindowJoinSpec),
    /// Top-N.
    Rank(RankSpec),
    /// Top-N of each window.
    WindowRank {
        /// The Top-N.
        rank: RankSpec,
        /// The window's end.
        window: WindowColumns,
    },
    /// The first or last row of each key.
    Deduplicate(DeduplicateSpec),
    /// The first or last row of each key and window.
    WindowDeduplicate {
        /// Which row.
        deduplicate: DeduplicateSpec,
        /// The window's end.
        window: WindowColumns,
    },
    /// Completes updates of an upsert stream from what it remembers by key.
    ChangelogNormalize {
        /// The key.
        keys: Vec<usize>,
        /// Whether -U is wanted.
        emit_update_before: bool,
        /// Of the state, in milliseconds; 0 = for ever.
        state_ttl_ms: u64,
    },
    /// Leaves -U out.
    DropUpdateBefore,
    /// The first rows, in any order.
    Limit {
        /// Left out before.
        offset: u64,
        /// So many.
        fetch: Option<u64>,
    },
    /// ORDER BY. Without a time: when the input has ended (`bounded`).
    Sort(Vec<SortKey>),
    /// ORDER BY a time attribute, then others: sorted as watermarks pass.
    TemporalSort(Vec<SortKey>),
    /// ORDER BY with LIMIT: Top-N without a key.
    SortLimit(RankSpec),
    /// Orders updates by the sink's key, where they may have overtaken one another.
    SinkMaterializer {
        /// The sink's primary key.
        primary_key: Vec<usize>,
        /// What identifies the input's rows; `None`: all columns.
        input_upsert_key: Option<Vec<usize>>,
        /// Of the state, in milliseconds; 0 = for ever.
        state_ttl_ms: u64,
    },
    /// Writes to a table.
    Sink(SinkSpec),
}

/// WATERMARK.
#[derive(Debug, Clone, PartialEq)]
pub struct WatermarkSpec {
    /// The rowtime column.
    pub rowtime: usize,
    /// The watermark behind a row; a null is none.
    pub expression: Expr,
    /// `pipeline.auto-watermark-interval` in milliseconds; 0 = behind each row that moves it.
    pub interval_ms: u64,
    /// `table.exec.source.idle-timeout` in milliseconds; 0 = never.
    pub idle_timeout_ms: u64,
}

/// A call of a table function.
#[derive(Debug, Clone, PartialEq)]
pub struct CorrelateSpec {
    /// The function's name; UNNEST of an array, map or multiset is "UNNEST".
    pub function: String,
    /// Its arguments, over the input.
    pub args: Vec<Expr>,
    /// Its columns, which come behind the input's.
    pub columns: Vec<DataType>,
    /// Whether rows without a result stay, with nulls.
    pub left_outer: bool,
    /// WITH ORDINALITY: the last column counts from 1.
    pub with_ordinality: bool,
    /// Over the input's columns and the function's: others go.
    pub condition: Option<Expr>,
}

/// An aggregate function and what it is of.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateCall {
    /// Upper case: "COUNT", "SUM", "SUM0", "AVG", "MIN", "MAX", "FIRST_VALUE", "LISTAGG", ..
    pub function: String,
    /// Columns; COUNT(*) has none. Casts were made before.
    pub args: Vec<usize>,
    /// Their types.
    pub arg_types: Vec<DataType>,
    /// DISTINCT.
    pub distinct: bool,
    /// FILTER: a boolean column.
    pub filter: Option<usize>,
    /// Of the result.
    pub data_type: DataType,
    /// Its name in the output.
    pub name: String,
    /// Whether rows are taken back: input with -U or -D.
    pub retracts: bool,
}

/// GROUP BY. Output: the keys, then the aggregates.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupAggregateSpec {
    /// The key; empty: one group, which is there without rows, too.
    pub keys: Vec<usize>,
    /// What is computed.
    pub aggregates: Vec<AggregateCall>,
    /// Whether rows are taken back: input with -U or -D.
    pub retracts: bool,
    /// Whether -U is wanted.
    pub emit_update_before: bool,
    /// Whether updates within a batch are folded to one. Else every row gives its own changes, as Flink without mini-batch.
    pub fold_batches: bool,
    /// Of the state, in milliseconds; 0 = for ever.
    pub state_ttl_ms: u64,
}

/// How rows are put in windows.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowSpec {
    /// Which windows.
    pub kind: WindowKind,
    /// The time column of the input; its type says which time attribute it is.
    pub time: usize,
    /// Shifts all windows, in milliseconds.
    pub offset_ms: i64,
    /// SESSION .. PARTITION BY.
    pub partition: Vec<usize>,
    /// Of a TIMESTAMP_LTZ time attribute: windows begin at this zone's midnights; `table.local-time-zone`.
    pub time_zone: String,
}

/// Which windows, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "Flink's names")]
pub enum WindowKind {
    Tumble { size_ms: i64 },
    Hop { slide_ms: i64, size_ms: i64 },
    Cumulate { step_ms: i64, size_ms: i64 },
    Session { gap_ms: i64 },
}

/// The windows that an input's rows are in already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowColumns {
    /// `window_start`.
    pub start: usize,
    /// `window_end`.
    pub end: usize,
    /// Whether they are windows of event time: over when the watermark has reached `window_end - 1`.
    pub event_time: bool,
    /// Whether they are windows of a TIMESTAMP_LTZ: their bounds are local times of the session's time zone. So are all windows of
    /// processing time.
    pub local_time: bool,
}

/// Where a window aggregate's windows are from.
#[derive(Debug, Clone, PartialEq)]
pub enum Windowing {
    /// It makes them.
    Assign(WindowSpec),
    /// Rows have them.
    Attached(WindowColumns),
}

/// What of a window is put out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowProperty {
    /// `window_start`, TUMBLE_START.
    Start,
    /// `window_end`, TUMBLE_END: exclusive.
    End,
    /// `window_time`, TUMBLE_ROWTIME, TUMBLE_PROCTIME: the last millisecond; a time attribute.
    Time,
}

/// GROUP BY windows. Output: the keys, the aggregates, the properties. Emitted once, when the window is over; late rows are
/// dropped and counted.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowAggregateSpec {
    /// The key without the window's columns.
    pub keys: Vec<usize>,
    /// What is computed.
    pub aggregates: Vec<AggregateCall>,
    /// The windows.
    pub windowing: Windowing,
    /// Behind the aggregates, in this order, with these types.
    pub properties: Vec<(WindowProperty, DataType)>,
    /// A legacy group window: its rows may be retracted, and an empty window gives nothing.
    pub legacy: bool,
}

/// OVER. Output: the input's columns, then the aggregates of each group.
#[derive(Debug, Clone, PartialEq)]
pub struct OverAggregateSpec {
    /// PARTITION BY.
    pub partition: Vec<usize>,
    /// ORDER BY; a time attribute first in a stream.
    pub order: Vec<SortKey>,
    /// What is computed, by frame.
    pub groups: Vec<(Frame, Vec<AggregateCall>)>,
    /// Of the state, in milliseconds; 0 = for ever.
    pub state_ttl_ms: u64,
}

/// ROWS or RANGE BETWEEN .. AND CURRENT ROW.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// So many rows before the current one; `None` = all.
    Rows(Option<u64>),
    /// So many milliseconds before the current one, and its peers; `None` = all.
    Range(Option<u64>),
}

/// Kinds of joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "SQL's names")]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
    /// Left rows that have a partner.
    Semi,
    /// Left rows that have none.
    Anti,
}

/// Columns that must be equal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JoinKeys {
    /// Of the left input; their types equal those of `right`.
    pub left: Vec<usize>,
    /// Of the right input, by its own positions.
    pub right: Vec<usize>,
    /// Whether a null equals a null (IS NOT DISTINCT FROM, INTERSECT), by key.
    pub null_safe: Vec<bool>,
}

/// What a side of a join knows of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinSideKey {
    /// The join key identifies a row.
    JoinKey,
    /// These columns do.
    Columns(Vec<usize>),
    /// Rows may repeat.
    None,
}

/// A regular join. Output: left, then right columns; of Semi and Anti left only.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinSpec {
    /// Which rows stay.
    pub kind: JoinKind,
    /// Empty: all rows meet, in one subtask.
    pub keys: JoinKeys,
    /// Beside the keys.
    pub condition: Option<Expr>,
    /// How the left side's rows are told apart.
    pub left_key: JoinSideKey,
    /// How the right side's rows are told apart.
    pub right_key: JoinSideKey,
    /// Of the left state, in milliseconds; 0 = for ever.
    pub left_ttl_ms: u64,
    /// Of the right state, in milliseconds; 0 = for ever.
    pub right_ttl_ms: u64,
}

/// A join of append-only inputs with `right.time + lower <= left.time <= right.time + upper`.
#[derive(Debug, Clone, PartialEq)]
pub struct IntervalJoinSpec {
    /// Not Semi or Anti.
    pub kind: JoinKind,
    /// Equal columns.
    pub keys: JoinKeys,
    /// Beside keys and interval.
    pub condition: Option<Expr>,
    /// The left input's time; its type says which time attribute it is.
    pub left_time: usize,
    /// The right input's time, by its own positions.
    pub right_time: usize,
    /// `left.time - right.time` at least, in milliseconds.
    pub lower_ms: i64,
    /// `left.time - right.time` at most, in milliseconds.
    pub upper_ms: i64,
}

/// A join with the version of the right row that held at the left row's time.
#[derive(Debug, Clone, PartialEq)]
pub struct TemporalJoinSpec {
    /// Inner or Left.
    pub kind: JoinKind,
    /// Equal columns; those of the right are its primary key.
    pub keys: JoinKeys,
    /// Beside the keys.
    pub condition: Option<Expr>,
    /// The left input's time.
    pub left_time: usize,
    /// The right input's rowtime, by its own positions; `None`: processing time, the newest version.
    pub right_time: Option<usize>,
    /// Of the state, in milliseconds; 0 = for ever.
    pub state_ttl_ms: u64,
}

/// A join with a table that is asked for each row's keys. Output: left, then the table's columns.
#[derive(Debug, Clone, PartialEq)]
pub struct LookupJoinSpec {
    /// Inner or Left.
    pub kind: JoinKind,
    /// The table.
    pub table: CatalogTable,
    /// What is read of it.
    pub columns: Vec<SourceColumn>,
    /// Equal columns; `right` are positions in `columns`.
    pub keys: JoinKeys,
    /// On the table's rows alone, over `columns`.
    pub filter: Option<Expr>,
    /// Beside the keys.
    pub condition: Option<Expr>,
}

/// A join of rows in one window. Output: left, then right columns; of Semi and Anti left only.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowJoinSpec {
    /// Which rows stay.
    pub kind: JoinKind,
    /// Equal columns beside the windows.
    pub keys: JoinKeys,
    /// Beside them.
    pub condition: Option<Expr>,
    /// The left rows' windows.
    pub left_window: WindowColumns,
    /// The right rows' windows, by its own positions.
    pub right_window: WindowColumns,
}

/// One of ORDER BY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortKey {
    /// The column.
    pub column: usize,
    /// DESC.
    pub descending: bool,
    /// Flink's default: nulls are low.
    pub nulls_first: bool,
}

/// How a Top-N keeps its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RankStrategy {
    /// Rows are only added: the first N are enough.
    AppendFast,
    /// Rows are updated by this key, and only ever towards the top.
    UpdateFast(Vec<usize>),
    /// All rows are kept.
    Retract,
}

/// Top-N. Output: the input's columns and, if wanted, the rank as BIGINT NOT NULL.
#[derive(Debug, Clone, PartialEq)]
pub struct RankSpec {
    /// PARTITION BY.
    pub partition: Vec<usize>,
    /// ORDER BY; rows that are equal by it keep the order in which they came.
    pub order: Vec<SortKey>,
    /// The first rank, from 1.
    pub start: u64,
    /// The last rank.
    pub end: RankEnd,
    /// Whether the rank is a column.
    pub with_rank: bool,
    /// How rows are kept.
    pub strategy: RankStrategy,
    /// Whether -U is wanted.
    pub emit_update_before: bool,
    /// Of the state, in milliseconds; 0 = for ever.
    pub state_ttl_ms: u64,
}

/// The last rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankEnd {
    /// A constant.
    Constant(u64),
    /// The value of a BIGINT column, the same in a partition.
    Column(usize),
}

/// Deduplication.
#[derive(Debug, Clone, PartialEq)]
pub struct DeduplicateSpec {
    /// The key.
    pub keys: Vec<usize>,
    /// The time that orders rows; `None`: the order in which they come (processing time).
    pub rowtime: Option<usize>,
    /// The last row instead of the first.
    pub keep_last: bool,
    /// Whether -U is wanted.
    pub emit_update_before: bool,
    /// Whether a first row is +I (else +U).
    pub emit_insert: bool,
    /// Of the state, in milliseconds; 0 = for ever.
    pub state_ttl_ms: u64,
}
