//! Tables as the catalog has them, and what a plan asks of a connector.
//!
//! The planner asks [`Connectors`] what a table's connector can do; a job's sources and sinks are then made from
//! [`SourceSpec`] and [`SinkSpec`] by the crate that has the connectors.

use std::collections::BTreeMap;
use std::fmt;

use crate::data_type::{DataType, Schema};
use crate::expr::Expr;
use crate::node::ChangelogMode;

/// Where a table is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectPath {
    /// "default_catalog" unless said otherwise.
    pub catalog: String,
    /// "default_database" unless said otherwise.
    pub database: String,
    /// The table's own name.
    pub name: String,
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.catalog, self.database, self.name)
    }
}

/// A table of CREATE TABLE, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct CatalogTable {
    /// Where it is.
    pub path: ObjectPath,
    /// Its columns.
    pub schema: TableSchema,
    /// WITH, hints included.
    pub options: BTreeMap<String, String>,
    /// PARTITIONED BY.
    pub partition_keys: Vec<String>,
    /// COMMENT.
    pub comment: Option<String>,
}

/// A table's columns, watermark and key.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TableSchema {
    /// In order.
    pub columns: Vec<TableColumn>,
    /// WATERMARK FOR.
    pub watermark: Option<Watermark>,
    /// PRIMARY KEY NOT ENFORCED, names of columns.
    pub primary_key: Option<Vec<String>>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// Its type; a rowtime column's says so.
    pub data_type: DataType,
    /// Where its values are from.
    pub kind: ColumnKind,
    /// COMMENT.
    pub comment: Option<String>,
}

/// Where a column's values are from.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnKind {
    /// The connector's rows.
    Physical,
    /// Computed; columns are indices into [`TableSchema::columns`]. Never written.
    Computed(Expr),
    /// What the connector knows of a row.
    Metadata {
        /// Its key, as "timestamp".
        key: String,
        /// Never written.
        is_virtual: bool,
    },
}

/// WATERMARK FOR column AS expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Watermark {
    /// Index into [`TableSchema::columns`].
    pub column: usize,
    /// Columns are indices into [`TableSchema::columns`].
    pub expression: Expr,
}

/// A scan. Its node's schema has the types of `columns`, in that order.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSpec {
    /// The table, with all its columns.
    pub table: CatalogTable,
    /// What it has to produce.
    pub columns: Vec<SourceColumn>,
    /// Conditions that it may use to leave rows out, over `columns`; they are evaluated again behind it.
    pub filters: Vec<Expr>,
    /// So many rows are enough.
    pub limit: Option<u64>,
    /// Watermarks by split, if the connector can; over `columns`.
    pub watermark: Option<crate::spec::WatermarkSpec>,
}

/// One column that a scan produces.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceColumn {
    /// A physical column, or a field in it.
    Physical {
        /// The column's name, and those of the fields below it.
        path: Vec<String>,
        /// Of what `path` leads to.
        data_type: DataType,
    },
    /// What the connector knows of a row.
    Metadata {
        /// Its key.
        key: String,
        /// As the table declares it.
        data_type: DataType,
    },
}

/// A sink. Its input's columns are the table's physical columns in order, then its metadata columns that are not virtual.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkSpec {
    /// The table, with all its columns.
    pub table: CatalogTable,
    /// Of its input.
    pub schema: Schema,
    /// Of its input.
    pub changelog: ChangelogMode,
    /// Keys of metadata columns, in order.
    pub metadata: Vec<String>,
    /// INSERT OVERWRITE.
    pub overwrite: bool,
    /// INSERT .. PARTITION (k = 'v'): constants that are among the input's columns, too.
    pub static_partition: BTreeMap<String, String>,
}

/// What a connector can do as a source of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceAbilities {
    /// Kinds of rows that it gives.
    pub changelog: ChangelogMode,
    /// Whether it ends by itself.
    pub bounded: bool,
    /// Metadata keys and their types.
    pub metadata: Vec<(String, DataType)>,
    /// Whether it can leave out columns.
    pub projection: bool,
    /// Whether it can leave out fields of rows.
    pub nested_projection: bool,
    /// Whether it can use conditions.
    pub filters: bool,
    /// Whether it can stop early.
    pub limit: bool,
    /// Whether it makes watermarks by split.
    pub watermark: bool,
    /// Whether keys can be looked up in it.
    pub lookup: bool,
}

/// What a connector can do as a sink of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkAbilities {
    /// Kinds of rows that it takes.
    pub changelog: ChangelogMode,
    /// Metadata keys that can be written, and their types.
    pub metadata: Vec<(String, DataType)>,
    /// Whether it knows INSERT OVERWRITE.
    pub overwrite: bool,
    /// `sink.parallelism`.
    pub parallelism: Option<u32>,
}

/// Why a table has no source or sink.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConnectorProblem {
    /// Which option is wrong, if it is one.
    pub option: Option<String>,
    /// What is wrong, and what to do: as Flink says it where Flink does.
    pub message: String,
}

/// What the planner asks.
pub trait Connectors {
    /// What the table's connector can do as a source.
    fn source(&self, table: &CatalogTable) -> Result<SourceAbilities, ConnectorProblem>;
    /// What the table's connector can do as a sink.
    fn sink(&self, table: &CatalogTable) -> Result<SinkAbilities, ConnectorProblem>;
    /// The names of all connectors, for messages.
    fn names(&self) -> Vec<&'static str>;
}
