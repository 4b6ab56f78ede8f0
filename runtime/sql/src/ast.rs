//! Statements of Flink's dialect as the parser gives them.
//!
//! Queries and expressions are sqlparser's trees ([`Query`], [`Expr`]), made by our own parser; this is all that can be in them:
//!
//! | SQL | tree |
//! |---|---|
//! | `a.b.c` | `CompoundIdentifier`; table, column and fields are told apart by whoever binds it |
//! | `a.b[1].c`, `f(x).y`, `(row).y` | `CompoundFieldAccess`, root = all up to the first `[`, `)`: `Dot(Identifier)`, `Subscript(Index)` |
//! | `CAST(x AS T)`, `TRY_CAST` | `Cast`; the type by [`data_type_of`] |
//! | `DATE '..'`, `TIME '..'`, `TIMESTAMP '..'` | `TypedString` of `DataType::Date`, `Time(None, None)`, `Timestamp(None, None)` |
//! | `INTERVAL '1' DAY`, `INTERVAL -'1:2' HOUR(3) TO SECOND(6)` | `Interval`; value = string literal, or `UnaryOp(Minus)` of it |
//! | `X'0a'` | `Value(HexStringLiteral)`; `U&'..'` is `SingleQuotedString`, decoded |
//! | `ARRAY[..]`, `MAP[k, v, ..]` | `Array`, `Map`; `ARRAY(SELECT ..)` is a function "ARRAY" of a subquery |
//! | `ROW(a, b)`, `(a, b)` | function "ROW"; `Tuple` |
//! | `x BETWEEN SYMMETRIC a AND b` | expanded to AND and OR |
//! | `x IS JSON OBJECT` | function "IS JSON OBJECT"(x), "IS JSON", "IS JSON ARRAY", "IS JSON SCALAR" |
//! | `JSON_VALUE(j, p RETURNING T ..)` | "JSON_VALUE"(j, p, on empty, default, on error, default): behaviours are string literals 'NULL', 'ERROR', 'DEFAULT'; RETURNING is a clause `JsonReturningClause` |
//! | `JSON_QUERY(j, p ..)` | "JSON_QUERY"(j, p, wrapper, on empty, on error): wrapper 'WITHOUT', 'CONDITIONAL', 'UNCONDITIONAL'; behaviours 'NULL', 'ERROR', 'EMPTY ARRAY', 'EMPTY OBJECT'; RETURNING as above |
//! | `JSON_EXISTS(j, p ..)` | "JSON_EXISTS"(j, p, on error): 'TRUE', 'FALSE', 'UNKNOWN', 'ERROR' |
//! | `JSON_OBJECT(..)`, `JSON_ARRAY(..)` | ('NULL' or 'ABSENT', k1, v1, ..), ('NULL' or 'ABSENT', v, ..); also `JSON_OBJECTAGG`, `JSON_ARRAYAGG` |
//! | `EXTRACT`, `FLOOR`, `CEIL`, `TRIM`, `SUBSTRING`, `POSITION`, `OVERLAY` | sqlparser's own; a plain FLOOR(x), CEIL(x) has the field `NoDateTime`; other units are `Custom` |
//! | `TIMESTAMPADD(DAY, 1, t)`, `TIMESTAMPDIFF` | functions whose first argument is `Identifier("DAY")`, upper case |
//! | `CURRENT_DATE` and its like | functions without parentheses: `FunctionArguments::None` |
//! | `x = ANY (..)`, `SOME`, `ALL` | `AnyOp`, `AllOp` of a `Subquery` |
//! | `t /*+ OPTIONS('k' = 'v') */` | `TableFactor::Table::with_hints`; see [`table_hints`] |
//! | `SELECT /*+ STATE_TTL('a' = '1d') */` | `Select::optimizer_hints`; see [`select_hints`] |
//! | `TABLE(f(..))`, `f(..)` in FROM, `LATERAL TABLE(f(..))` | `TableFactor::Function`; `lateral` as written |
//! | `TABLE t [PARTITION BY ..] [ORDER BY ..]` as an argument | function "TABLE" of the name, or of a subquery; the clauses in `over` |
//! | `DESCRIPTOR(a, b)` | function "DESCRIPTOR" of identifiers |
//! | `name => value` | `FunctionArg::Named` |
//! | `UNNEST(x) [WITH ORDINALITY]` | `TableFactor::UNNEST` |
//! | joins | `Inner`, `LeftOuter`, `RightOuter`, `FullOuter` with a constraint, `CrossJoin`; commas are several `from` |
//! | GROUP BY | `GroupByExpr::Expressions` without modifiers; `GroupingSets`, `Cube`, `Rollup` are expressions in it; `()` = empty `Tuple` |
//! | LIMIT, OFFSET | `LimitClause::LimitOffset`; `LIMIT ALL` is none |
//!
//! Invariant: whatever is not in this table, the parser refused.

use sqlparser::ast::{Expr, Ident, ObjectName, Query};
use thalweg_plan::DataType;

use crate::error::Position;

pub use crate::parser::hints::{Hint, HintArg, select_hints, table_hints};
pub use crate::parser::types::data_type_of;

/// A string literal and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Without quotes.
    pub value: String,
    /// Of its first quote.
    pub position: Position,
}

/// `'key' = 'value'`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionEntry {
    /// What is set.
    pub key: Text,
    /// To what.
    pub value: Text,
}

/// A statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `SELECT`, `VALUES`, `WITH`: printed.
    Query(Box<Query>),
    /// `INSERT INTO`, `INSERT OVERWRITE`.
    Insert(Box<Insert>),
    /// `EXECUTE STATEMENT SET BEGIN .. END`, or the older `BEGIN STATEMENT SET; .. END;`: one job.
    StatementSet(Vec<Insert>),
    /// `CREATE TABLE`.
    CreateTable(Box<CreateTable>),
    /// `CREATE VIEW`.
    CreateView(Box<CreateView>),
    /// `CREATE FUNCTION`.
    CreateFunction(CreateFunction),
    /// `DROP TABLE`, `VIEW`, `FUNCTION`.
    Drop(Drop),
    /// `ALTER TABLE`.
    AlterTable(Box<AlterTable>),
    /// `ALTER VIEW`.
    AlterView(AlterView),
    /// `SET 'key' = 'value'`; `None`: `SET`, all that is set is shown.
    Set(Option<OptionEntry>),
    /// `RESET 'key'`; `None`: all.
    Reset(Option<Text>),
    /// `SHOW ..`.
    Show(Show),
    /// `DESCRIBE t`, `DESC t`.
    Describe(Describe),
    /// `EXPLAIN ..`.
    Explain(Explain),
    /// `USE CATALOG c`.
    UseCatalog(Ident),
    /// `USE [c.]d`.
    UseDatabase(ObjectName),
    /// `QUIT`, `EXIT`: the script ends here.
    Quit,
}

/// `INSERT INTO t [PARTITION (..)] [(columns)] query`.
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    /// Where rows go.
    pub table: ObjectName,
    /// `/*+ OPTIONS(..) */` behind the name.
    pub hints: Vec<Hint>,
    /// `PARTITION (k = 'v', ..)`: constants.
    pub partition: Vec<(Ident, Expr)>,
    /// Which columns the query gives; empty: all.
    pub columns: Vec<Ident>,
    /// `INSERT OVERWRITE`.
    pub overwrite: bool,
    /// What is written.
    pub query: Box<Query>,
    /// `ON CONFLICT DO ..`.
    pub on_conflict: Option<ConflictAction>,
    /// Of `INSERT`.
    pub position: Position,
    /// As it is written, for job names and EXPLAIN.
    pub text: String,
}

/// `ON CONFLICT DO ..`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "Flink's names")]
pub enum ConflictAction {
    Error,
    Nothing,
    Deduplicate,
}

/// `CREATE TABLE`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTable {
    /// `TEMPORARY`.
    pub temporary: bool,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// `OR REPLACE`.
    pub or_replace: bool,
    /// Its name.
    pub name: ObjectName,
    /// In order.
    pub columns: Vec<ColumnDef>,
    /// `WATERMARK FOR`.
    pub watermark: Option<WatermarkDef>,
    /// `PRIMARY KEY (..) NOT ENFORCED`, of the table or of one column.
    pub primary_key: Option<PrimaryKeyDef>,
    /// `COMMENT`.
    pub comment: Option<Text>,
    /// `DISTRIBUTED ..`.
    pub distribution: Option<DistributionDef>,
    /// `PARTITIONED BY`.
    pub partitioned_by: Vec<Ident>,
    /// `WITH`.
    pub options: Vec<OptionEntry>,
    /// `LIKE`.
    pub like: Option<LikeClause>,
    /// `AS query`.
    pub as_query: Option<Box<Query>>,
    /// Of `CREATE`.
    pub position: Position,
}

/// A type and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeDef {
    /// With its nullability.
    pub data_type: DataType,
    /// Of its first word.
    pub position: Position,
}

/// A column of CREATE TABLE.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDef {
    /// Its name.
    pub name: Ident,
    /// Where its values are from.
    pub kind: ColumnDefKind,
    /// `COMMENT`.
    pub comment: Option<Text>,
}

/// Where a column's values are from.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnDefKind {
    /// `c T`.
    Physical(TypeDef),
    /// `c AS expression`.
    Computed(Box<SourceExpr>),
    /// `c T METADATA [FROM 'key'] [VIRTUAL]`.
    Metadata {
        /// Of the column.
        data_type: TypeDef,
        /// `FROM`; else the column's name.
        key: Option<Text>,
        /// Never written.
        is_virtual: bool,
    },
}

/// An expression and how it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceExpr {
    /// The tree.
    pub expr: Expr,
    /// The text.
    pub text: String,
}

/// `WATERMARK FOR column AS expression`.
#[derive(Debug, Clone, PartialEq)]
pub struct WatermarkDef {
    /// The column, or a field in it.
    pub column: Vec<Ident>,
    /// The watermark.
    pub expression: SourceExpr,
    /// Of `WATERMARK`.
    pub position: Position,
}

/// `PRIMARY KEY (..) NOT ENFORCED`.
#[derive(Debug, Clone, PartialEq)]
pub struct PrimaryKeyDef {
    /// `CONSTRAINT name`.
    pub name: Option<Ident>,
    /// At least one.
    pub columns: Vec<Ident>,
    /// Of `PRIMARY`.
    pub position: Position,
}

/// `DISTRIBUTED [BY [HASH|RANGE] (..)] [INTO n BUCKETS]`.
#[derive(Debug, Clone, PartialEq)]
pub struct DistributionDef {
    /// "HASH", "RANGE"; `None` if it isn't said.
    pub kind: Option<String>,
    /// Empty if not said.
    pub columns: Vec<Ident>,
    /// `INTO n BUCKETS`.
    pub buckets: Option<u32>,
    /// Of `DISTRIBUTED`.
    pub position: Position,
}

/// `LIKE t (..)`.
#[derive(Debug, Clone, PartialEq)]
pub struct LikeClause {
    /// The table that is copied.
    pub table: ObjectName,
    /// In order; what isn't named has Flink's default.
    pub options: Vec<LikeOption>,
    /// Of `LIKE`.
    pub position: Position,
}

/// `INCLUDING CONSTRAINTS` and its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LikeOption {
    /// How.
    pub strategy: LikeStrategy,
    /// What.
    pub feature: LikeFeature,
    /// Of the strategy.
    pub position: Position,
}

/// How a part of a table is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "Flink's names")]
pub enum LikeStrategy {
    Including,
    Excluding,
    Overwriting,
}

/// A part of a table that LIKE copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "Flink's names")]
pub enum LikeFeature {
    All,
    Constraints,
    Distribution,
    Generated,
    Metadata,
    Options,
    Partitions,
    Watermarks,
}

/// `CREATE VIEW`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateView {
    /// `TEMPORARY`.
    pub temporary: bool,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// `OR REPLACE`.
    pub or_replace: bool,
    /// Its name.
    pub name: ObjectName,
    /// New names of the query's columns; empty: as they are.
    pub columns: Vec<Ident>,
    /// `COMMENT`.
    pub comment: Option<Text>,
    /// What it is.
    pub query: Box<Query>,
    /// The query as it is written.
    pub text: String,
    /// Of `CREATE`.
    pub position: Position,
}

/// `CREATE FUNCTION f AS 'class'`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateFunction {
    /// `TEMPORARY`.
    pub temporary: bool,
    /// `TEMPORARY SYSTEM`: beside the built-in ones.
    pub system: bool,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// Its name.
    pub name: ObjectName,
    /// Which implementation.
    pub class: Text,
    /// `LANGUAGE`, upper case: "JAVA", "SCALA", "PYTHON".
    pub language: Option<String>,
    /// Of `CREATE`.
    pub position: Position,
}

/// `DROP [TEMPORARY] TABLE [IF EXISTS] t`.
#[derive(Debug, Clone, PartialEq)]
pub struct Drop {
    /// A kind of thing.
    pub kind: ObjectKind,
    /// `TEMPORARY`.
    pub temporary: bool,
    /// `TEMPORARY SYSTEM FUNCTION`.
    pub system: bool,
    /// `IF EXISTS`.
    pub if_exists: bool,
    /// Its name.
    pub name: ObjectName,
}

/// A kind of thing in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "SQL's names")]
pub enum ObjectKind {
    Table,
    View,
    Function,
}

/// `ALTER TABLE [IF EXISTS] t ..`.
#[derive(Debug, Clone, PartialEq)]
pub struct AlterTable {
    /// The table.
    pub name: ObjectName,
    /// `IF EXISTS`.
    pub if_exists: bool,
    /// What changes.
    pub change: TableChange,
    /// Of the change.
    pub position: Position,
}

/// What ALTER TABLE changes.
#[derive(Debug, Clone, PartialEq)]
pub enum TableChange {
    /// `RENAME TO t`.
    Rename(ObjectName),
    /// `RENAME a TO b`.
    RenameColumn(Ident, Ident),
    /// `SET ('k' = 'v')`.
    Set(Vec<OptionEntry>),
    /// `RESET ('k')`.
    Reset(Vec<Text>),
    /// `ADD ..`: columns, watermark, key.
    Add(SchemaChange),
    /// `MODIFY ..`: columns, watermark, key.
    Modify(SchemaChange),
    /// `DROP c`, `DROP (c, d)`.
    DropColumns(Vec<Ident>),
    /// `DROP PRIMARY KEY`, `DROP CONSTRAINT name`.
    DropPrimaryKey,
    /// `DROP WATERMARK`.
    DropWatermark,
}

/// What is added or modified.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SchemaChange {
    /// Columns and where they go.
    pub columns: Vec<(ColumnDef, Option<ColumnPlace>)>,
    /// `WATERMARK FOR`.
    pub watermark: Option<WatermarkDef>,
    /// `PRIMARY KEY`.
    pub primary_key: Option<PrimaryKeyDef>,
}

/// Where a column goes.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnPlace {
    /// `FIRST`.
    First,
    /// `AFTER c`.
    After(Ident),
}

/// `ALTER VIEW v ..`.
#[derive(Debug, Clone, PartialEq)]
pub struct AlterView {
    /// The view.
    pub name: ObjectName,
    /// What changes.
    pub change: ViewChange,
}

/// What ALTER VIEW changes.
#[derive(Debug, Clone, PartialEq)]
pub enum ViewChange {
    /// `RENAME TO v`.
    Rename(ObjectName),
    /// `AS query`, with its text.
    Query(Box<Query>, String),
}

/// `SHOW ..`.
#[derive(Debug, Clone, PartialEq)]
pub struct Show {
    /// What.
    pub what: ShowKind,
    /// `FROM`, `IN`: a database, or the table of SHOW COLUMNS.
    pub from: Option<ObjectName>,
    /// `[NOT] LIKE 'pattern'`.
    pub like: Option<LikeFilter>,
    /// Of `SHOW`.
    pub position: Position,
}

/// What SHOW shows.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "Flink's names")]
pub enum ShowKind {
    Catalogs,
    Databases,
    Tables,
    Views,
    Functions,
    UserFunctions,
    Columns,
    Jobs,
    Jars,
    Modules,
    CurrentCatalog,
    CurrentDatabase,
    CreateTable(ObjectName),
    CreateView(ObjectName),
}

/// `[NOT] LIKE 'pattern'`, `[NOT] ILIKE 'pattern'`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LikeFilter {
    /// `NOT`.
    pub negated: bool,
    /// `ILIKE`.
    pub ignore_case: bool,
    /// With `%` and `_`.
    pub pattern: Text,
}

/// `DESCRIBE t`.
#[derive(Debug, Clone, PartialEq)]
pub struct Describe {
    /// A table or view.
    pub name: ObjectName,
    /// `EXTENDED`.
    pub extended: bool,
}

/// `EXPLAIN ..`.
#[derive(Debug, Clone, PartialEq)]
pub struct Explain {
    /// What beside the plans.
    pub details: Vec<ExplainDetail>,
    /// A query, INSERT or statement set.
    pub statement: Box<Statement>,
}

/// What EXPLAIN shows beside the plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "Flink's names")]
pub enum ExplainDetail {
    EstimatedCost,
    ChangelogMode,
    JsonExecutionPlan,
    PlanAdvice,
}
