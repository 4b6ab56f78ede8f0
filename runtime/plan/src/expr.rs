//! Typed expressions over the columns of one row.

use std::fmt;
use std::sync::Arc;

use crate::data_type::DataType;

/// An expression; casts that Flink makes by itself are written out as calls of CAST.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Of its values.
    pub data_type: DataType,
    /// Where it stands in the script: 1-based line and column, for errors at run time. `None` if it was made.
    pub position: Option<(u32, u32)>,
}

/// What an expression is.
#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// A column of the input.
    Column(usize),
    /// A constant.
    Literal(Literal),
    /// A function or operator, by its canonical name: see the module of functions. CASE is
    /// `CASE(when1, then1, .., otherwise)`, casts are `CAST(x)` and `TRY_CAST(x)` to the expression's own type, a field of a row is
    /// `FIELD(row, literal index)`.
    Call {
        /// Upper case: "+", "AND", "IS NULL", "CASE", "CAST", "ROW", "LOWER", ..
        function: Arc<str>,
        /// Its arguments.
        args: Vec<Expr>,
    },
}

/// A constant, of its expression's type.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// NULL of any type.
    Null,
    /// BOOLEAN.
    Boolean(bool),
    /// TINYINT to BIGINT; INTERVAL YEAR TO MONTH in months; INTERVAL DAY TO SECOND and TIME in milliseconds; DATE in days.
    Int(i64),
    /// FLOAT, DOUBLE.
    Double(f64),
    /// DECIMAL: the unscaled value, the scale is the type's.
    Decimal(i128),
    /// CHAR, VARCHAR.
    String(Arc<str>),
    /// BINARY, VARBINARY.
    Bytes(Arc<[u8]>),
    /// TIMESTAMP, TIMESTAMP_LTZ: seconds and nanoseconds since the epoch.
    Timestamp(i64, u32),
}

impl Expr {
    /// A column of the input.
    pub fn column(index: usize, data_type: DataType) -> Self {
        Self {
            kind: ExprKind::Column(index),
            data_type,
            position: None,
        }
    }

    /// A constant.
    pub fn literal(literal: Literal, data_type: DataType) -> Self {
        Self {
            kind: ExprKind::Literal(literal),
            data_type,
            position: None,
        }
    }

    /// A call.
    pub fn call(function: &str, args: Vec<Expr>, data_type: DataType) -> Self {
        Self {
            kind: ExprKind::Call {
                function: function.into(),
                args,
            },
            data_type,
            position: None,
        }
    }

    /// A cast that was not written.
    #[must_use]
    pub fn cast(self, data_type: DataType) -> Self {
        let position = self.position;
        Self {
            position,
            ..Self::call("CAST", vec![self], data_type)
        }
    }

    /// The same, standing there.
    #[must_use]
    pub fn at(self, position: Option<(u32, u32)>) -> Self {
        Self { position, ..self }
    }

    /// Visits it and all below it, itself first.
    pub fn visit(&self, visit: &mut impl FnMut(&Expr)) {
        visit(self);
        if let ExprKind::Call { args, .. } = &self.kind {
            for arg in args {
                arg.visit(visit);
            }
        }
    }

    /// Replaces columns, from below.
    #[must_use]
    pub fn map_columns(self, map: &mut impl FnMut(usize, DataType) -> Expr) -> Self {
        match self.kind {
            ExprKind::Column(index) => map(index, self.data_type),
            ExprKind::Literal(_) => self,
            ExprKind::Call { function, args } => Self {
                kind: ExprKind::Call {
                    function,
                    args: args.into_iter().map(|arg| arg.map_columns(map)).collect(),
                },
                ..self
            },
        }
    }
}

impl fmt::Display for Expr {
    /// For EXPLAIN: "$0", "CAST($1 AS BIGINT)", "LOWER($2)".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Column(index) => write!(f, "${index}"),
            ExprKind::Literal(Literal::Null) => write!(f, "null:{}", self.data_type.root),
            ExprKind::Literal(Literal::Boolean(value)) => write!(f, "{value}"),
            ExprKind::Literal(Literal::Int(value)) => write!(f, "{value}"),
            ExprKind::Literal(Literal::Double(value)) => write!(f, "{value:?}"),
            ExprKind::Literal(Literal::Decimal(value)) => write!(f, "{value}:{}", self.data_type.root),
            ExprKind::Literal(Literal::String(value)) => write!(f, "'{}'", value.replace('\'', "''")),
            ExprKind::Literal(Literal::Bytes(value)) => {
                f.write_str("X'")?;
                value.iter().try_for_each(|byte| write!(f, "{byte:02X}"))?;
                f.write_str("'")
            }
            ExprKind::Literal(Literal::Timestamp(seconds, nanos)) => {
                write!(f, "{seconds}.{nanos:09}:{}", self.data_type.root)
            }
            ExprKind::Call { function, args } => {
                write!(f, "{function}(")?;
                for (position, arg) in args.iter().enumerate() {
                    let comma = if position > 0 { ", " } else { "" };
                    write!(f, "{comma}{arg}")?;
                }
                if matches!(&**function, "CAST" | "TRY_CAST") {
                    write!(f, " AS {}", self.data_type.root)?;
                }
                f.write_str(")")
            }
        }
    }
}
