//! How the records of a writer's schema become a table's columns: Avro's schema resolution, fields by name.

use thalweg_plan::data_type::time_unit;
use thalweg_plan::{DataType, Field, TypeRoot};

use super::schema::{Logical, Node, NodeId, WriterSchema};
use crate::FormatError;

/// Types within types, and values within values.
pub(super) const MOST_DEPTH: usize = 64;

/// What is done with a value.
#[derive(Debug)]
pub(super) enum Plan {
    /// Nobody wants it.
    Skip(NodeId),
    Null,
    Boolean,
    /// A whole number, times and divided by these.
    Whole(i64, i64),
    Float,
    Double,
    Text,
    Fixed(usize),
    Symbol(Vec<String>),
    Decimal,
    FixedDecimal(usize),
    Union(Vec<Plan>),
    List(Box<Plan>),
    Map(Box<Plan>),
    Row(RowPlan),
}

/// Of a record.
#[derive(Debug)]
pub(super) struct RowPlan {
    /// What is done with each of its fields, and the column that gets it.
    pub(super) fields: Vec<(Plan, Option<usize>)>,
    /// Columns that the record doesn't have.
    pub(super) missing: Vec<usize>,
}

/// Makes plans for one file, and carries them out ([`super::values`]).
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) schema: WriterSchema,
    pub(super) record: NodeId,
    /// Flink writes a union of null and the record: which branch that is.
    pub(super) branch: Option<usize>,
}

impl Resolver {
    pub(super) fn new(schema: WriterSchema) -> Result<Self, FormatError> {
        let is_record = |node: &NodeId| matches!(schema.node(*node), Node::Record(_));
        let (record, branch) = match schema.node(schema.root) {
            Node::Record(_) => (Some(schema.root), None),
            Node::Union(branches) => {
                let branch = branches.iter().position(is_record);
                (branch.map(|branch| branches[branch]), branch)
            }
            _ => (None, None),
        };
        Ok(Self {
            record: record.ok_or_else(|| FormatError::syntax("its schema is no record"))?,
            branch,
            schema,
        })
    }

    /// For all columns; the error names the column and both types.
    pub(super) fn plan(&self, wanted: &[Field]) -> Result<RowPlan, FormatError> {
        match self.schema.node(self.record) {
            Node::Record(fields) => self.row(fields, wanted, "", 0),
            _ => Err(FormatError::syntax("its schema is no record")),
        }
    }

    fn row(
        &self,
        fields: &[(String, NodeId)],
        wanted: &[Field],
        path: &str,
        depth: usize,
    ) -> Result<RowPlan, FormatError> {
        let path_of = |name: &str| match path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        let planned =
            |(name, node): &(String, NodeId)| match wanted.iter().position(|field| field.name == *name) {
                Some(column) => {
                    let data_type = &wanted[column].data_type;
                    let plan = self.value(*node, data_type, &path_of(name), depth + 1)?;
                    Ok((plan, Some(column)))
                }
                None => Ok((Plan::Skip(*node), None)),
            };
        let missing = |(_, field): &(usize, &Field)| !fields.iter().any(|(name, _)| *name == field.name);
        let missing: Vec<(usize, &Field)> = wanted.iter().enumerate().filter(missing).collect();
        if let Some((_, field)) = missing.iter().find(|(_, field)| !field.data_type.nullable) {
            return Err(FormatError::value(format!(
                "column {:?} is {} in the table, and the file has no such column: one that may be missing must not be NOT NULL",
                path_of(&field.name),
                field.data_type
            )));
        }
        Ok(RowPlan {
            fields: fields.iter().map(planned).collect::<Result<_, _>>()?,
            missing: missing.into_iter().map(|(column, _)| column).collect(),
        })
    }

    fn value(&self, node: NodeId, wanted: &DataType, path: &str, depth: usize) -> Result<Plan, FormatError> {
        if depth > MOST_DEPTH {
            return Err(FormatError::value(format!(
                "column {path:?} has too many types within types"
            )));
        }
        let plan = match (self.schema.node(node), &wanted.root) {
            (Node::Union(branches), _) => {
                let branches = branches
                    .iter()
                    .map(|branch| self.value(*branch, wanted, path, depth + 1));
                Some(Plan::Union(branches.collect::<Result<_, _>>()?))
            }
            (Node::Null, _) => Some(Plan::Null),
            (Node::Array(items), TypeRoot::Array(element)) => Some(Plan::List(Box::new(self.value(
                *items,
                element,
                path,
                depth + 1,
            )?))),
            (Node::Map(values), TypeRoot::Map(_, value)) => Some(Plan::Map(Box::new(self.value(
                *values,
                value,
                path,
                depth + 1,
            )?))),
            (Node::Map(values), TypeRoot::Multiset(_)) => {
                let count = DataType::not_null(TypeRoot::Int);
                Some(Plan::Map(Box::new(self.value(
                    *values,
                    &count,
                    path,
                    depth + 1,
                )?)))
            }
            (Node::Record(fields), TypeRoot::Row(wanted)) => {
                Some(Plan::Row(self.row(fields, wanted, path, depth)?))
            }
            (leaf, root) => leaf_plan(leaf, self.schema.logical(node), root),
        };
        plan.ok_or_else(|| {
            FormatError::value(format!(
                "column {path:?} is {} in the file and {wanted} in the table: declare the column as the file has it",
                self.schema.describe(node)
            ))
        })
    }
}

/// `None`: it is none of the wanted type.
fn leaf_plan(node: &Node, logical: &Logical, wanted: &TypeRoot) -> Option<Plan> {
    let named = |name: &str| *logical == Logical::Named(name.to_owned());
    let is_plain = *logical == Logical::None;
    Some(match (node, wanted) {
        (Node::Boolean, TypeRoot::Boolean) => Plan::Boolean,
        (
            Node::Int,
            TypeRoot::TinyInt
            | TypeRoot::SmallInt
            | TypeRoot::Int
            | TypeRoot::BigInt
            | TypeRoot::Float
            | TypeRoot::Double,
        )
        | (Node::Long, TypeRoot::BigInt | TypeRoot::Float | TypeRoot::Double) => Plan::Whole(1, 1),
        (Node::Int, TypeRoot::Date) if is_plain || named("date") => Plan::Whole(1, 1),
        (Node::Int, TypeRoot::Time(_)) if is_plain || named("time-millis") => Plan::Whole(1, 1),
        (Node::Long, TypeRoot::Timestamp(precision, _) | TypeRoot::TimestampLtz(precision, _)) => {
            let (times, divisor) = timestamp_scale(logical, *precision)?;
            Plan::Whole(times, divisor)
        }
        (Node::Float, TypeRoot::Float | TypeRoot::Double) => Plan::Float,
        (Node::Double, TypeRoot::Double) => Plan::Double,
        (Node::Bytes | Node::Fixed(_), TypeRoot::Decimal { precision, scale }) => {
            let fits = matches!(logical, Logical::Decimal { precision: of_file, scale: found }
                if *of_file <= u64::from(*precision) && *found == u64::from(*scale));
            match node {
                Node::Fixed(length) if fits => Plan::FixedDecimal(*length),
                _ if fits => Plan::Decimal,
                _ => return None,
            }
        }
        (
            Node::Bytes | Node::String,
            TypeRoot::Char(_) | TypeRoot::VarChar(_) | TypeRoot::Binary(_) | TypeRoot::VarBinary(_),
        ) => Plan::Text,
        (Node::Fixed(length), TypeRoot::Binary(_) | TypeRoot::VarBinary(_)) => Plan::Fixed(*length),
        (Node::Enum(symbols), TypeRoot::Char(_) | TypeRoot::VarChar(_)) => Plan::Symbol(symbols.clone()),
        _ => return None,
    })
}

/// What a timestamp of the file is multiplied and divided by; without a unit it has the column's.
fn timestamp_scale(logical: &Logical, precision: u8) -> Option<(i64, i64)> {
    use arrow::datatypes::TimeUnit;
    let per_second = match time_unit(precision) {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let of_file = match logical {
        Logical::None => per_second,
        Logical::Named(name) => match name.strip_prefix("local-").unwrap_or(name) {
            "timestamp-millis" => 1_000,
            "timestamp-micros" => 1_000_000,
            "timestamp-nanos" => 1_000_000_000,
            _ => return None,
        },
        Logical::Decimal { .. } => return None,
    };
    Some(match per_second >= of_file {
        true => (per_second / of_file, 1),
        false => (1, of_file / per_second),
    })
}
