//! Records into columns, as a plan says.

use thalweg_plan::TypeRoot;

use super::plan::{MOST_DEPTH, Plan, Resolver, RowPlan};
use super::schema::{Node, NodeId};
use crate::FormatError;
use crate::avro::{Reader, unscaled};
use crate::column::{Column, RowColumns, Values};

impl Resolver {
    /// Up to the record itself.
    fn begin(&self, reader: &mut Reader<'_>) -> Result<(), FormatError> {
        match self.branch {
            Some(branch) if reader.length()? != branch => Err(FormatError::value("it is no record")),
            _ => Ok(()),
        }
    }

    /// A whole record into columns.
    pub(super) fn read_record(
        &self,
        reader: &mut Reader<'_>,
        plan: &RowPlan,
        row: &mut RowColumns,
    ) -> Result<(), FormatError> {
        self.begin(reader)?;
        self.read_row(reader, plan, row, 0)
    }

    /// Past a whole record.
    pub(super) fn skip_record(&self, reader: &mut Reader<'_>) -> Result<(), FormatError> {
        self.begin(reader)?;
        self.skip(reader, self.record, 0)
    }

    /// A record into columns.
    fn read_row(
        &self,
        reader: &mut Reader<'_>,
        plan: &RowPlan,
        row: &mut RowColumns,
        depth: usize,
    ) -> Result<(), FormatError> {
        for (plan, column) in &plan.fields {
            match (plan, column.and_then(|column| row.columns.get_mut(column))) {
                (Plan::Skip(node), _) => self.skip(reader, *node, depth)?,
                (plan, Some(column)) => self.read(reader, plan, column, depth)?,
                (_, None) => {}
            }
        }
        for column in &plan.missing {
            if let Some(column) = row.columns.get_mut(*column) {
                column.append_null();
            }
        }
        Ok(())
    }

    fn read(
        &self,
        reader: &mut Reader<'_>,
        plan: &Plan,
        column: &mut Column,
        depth: usize,
    ) -> Result<(), FormatError> {
        match plan {
            Plan::Skip(node) => self.skip(reader, *node, depth),
            Plan::Null => {
                column.append_null();
                Ok(())
            }
            Plan::Union(branches) => {
                let branch = reader.length()?;
                let plan = branches.get(branch).ok_or_else(|| {
                    FormatError::syntax(format!("branch {branch} of a union that has fewer"))
                })?;
                self.read(reader, plan, column, depth)
            }
            Plan::Boolean => {
                if let Values::Boolean(values) = &mut column.values {
                    values.push(reader.array::<1>()? != [0]);
                }
                column.end_value();
                Ok(())
            }
            Plan::Whole(times, divisor) => {
                let value = reader.long()?;
                let scaled = value.checked_mul(*times).map(|value| value.div_euclid(*divisor));
                push_whole(column, scaled.ok_or_else(|| too_large(value, column))?)
            }
            Plan::Float => {
                let value = f32::from_le_bytes(reader.array()?);
                match &mut column.values {
                    Values::Float32(values) => values.push(value),
                    Values::Float64(values) => values.push(f64::from(value)),
                    _ => {}
                }
                column.end_value();
                Ok(())
            }
            Plan::Double => {
                if let Values::Float64(values) = &mut column.values {
                    values.push(f64::from_le_bytes(reader.array()?));
                }
                column.end_value();
                Ok(())
            }
            Plan::Text => push_text(column, reader.text()?),
            Plan::Fixed(length) => push_text(column, reader.bytes(*length)?),
            Plan::Symbol(symbols) => {
                let symbol = reader.length()?;
                let symbol = symbols.get(symbol).ok_or_else(|| {
                    FormatError::syntax(format!("symbol {symbol} of an enum that has fewer"))
                })?;
                push_text(column, symbol.as_bytes())
            }
            Plan::Decimal => push_decimal(column, reader.text()?),
            Plan::FixedDecimal(length) => push_decimal(column, reader.bytes(*length)?),
            Plan::List(item) => {
                self.blocks(reader, depth, |reader, depth| match &mut column.values {
                    Values::List(_, child) => self.read(reader, item, child, depth),
                    _ => Ok(()),
                })?;
                column.end_list()
            }
            Plan::Map(value) => {
                self.blocks(reader, depth, |reader, depth| match &mut column.values {
                    Values::Map(_, children) => {
                        push_text(&mut children.0, reader.text()?)?;
                        self.read(reader, value, &mut children.1, depth)
                    }
                    _ => Ok(()),
                })?;
                column.end_list()
            }
            Plan::Row(plan) => {
                if let Values::Row(row) = &mut column.values {
                    self.read_row(reader, plan, row, depth + 1)?;
                }
                column.end_value();
                Ok(())
            }
        }
    }

    fn blocks<'a>(
        &self,
        reader: &mut Reader<'a>,
        depth: usize,
        mut item: impl FnMut(&mut Reader<'a>, usize) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        loop {
            match reader.block()? {
                0 => return Ok(()),
                count => (0..count).try_for_each(|_| item(reader, depth + 1))?,
            }
        }
    }

    fn skip(&self, reader: &mut Reader<'_>, node: NodeId, depth: usize) -> Result<(), FormatError> {
        // Of a schema that holds itself, as a list of links, values may go as deep as they are long.
        if depth > MOST_DEPTH {
            return Err(FormatError::value("values within values go too deep"));
        }
        match self.schema.node(node) {
            Node::Null => Ok(()),
            Node::Boolean => reader.bytes(1).map(drop),
            Node::Int | Node::Long | Node::Enum(_) => reader.long().map(drop),
            Node::Float => reader.bytes(4).map(drop),
            Node::Double => reader.bytes(8).map(drop),
            Node::Bytes | Node::String => reader.text().map(drop),
            Node::Fixed(length) => reader.bytes(*length).map(drop),
            Node::Array(item) => self.blocks(reader, depth, |reader, depth| self.skip(reader, *item, depth)),
            Node::Map(value) => self.blocks(reader, depth, |reader, depth| {
                reader.text()?;
                self.skip(reader, *value, depth)
            }),
            Node::Union(branches) => {
                let branch = reader.length()?;
                let node = branches.get(branch).copied();
                let node = node.ok_or_else(|| {
                    FormatError::syntax(format!("branch {branch} of a union that has fewer"))
                })?;
                self.skip(reader, node, depth + 1)
            }
            Node::Record(fields) => {
                let mut fields = fields.iter();
                fields.try_for_each(|(_, node)| self.skip(reader, *node, depth + 1))
            }
        }
    }
}

fn too_large(value: impl std::fmt::Display, column: &Column) -> FormatError {
    FormatError::value(format!("the number {value} is too large for {}", column.root))
}

fn push_whole(column: &mut Column, value: i64) -> Result<(), FormatError> {
    let fits = match &mut column.values {
        Values::Int8(values) => value.try_into().map(|value| values.push(value)).is_ok(),
        Values::Int16(values) => value.try_into().map(|value| values.push(value)).is_ok(),
        Values::Int32(values) => value.try_into().map(|value| values.push(value)).is_ok(),
        Values::Int64(values) => {
            values.push(value);
            true
        }
        Values::Float32(values) => {
            values.push(value as f32);
            true
        }
        Values::Float64(values) => {
            values.push(value as f64);
            true
        }
        _ => false,
    };
    if !fits {
        return Err(too_large(value, column));
    }
    column.end_value();
    Ok(())
}

fn push_text(column: &mut Column, bytes: &[u8]) -> Result<(), FormatError> {
    if matches!(column.values, Values::Utf8(_)) {
        std::str::from_utf8(bytes).map_err(|_| FormatError::value("a text isn't UTF-8"))?;
    }
    column.push_bytes(bytes)
}

fn push_decimal(column: &mut Column, bytes: &[u8]) -> Result<(), FormatError> {
    let value = unscaled(bytes).ok_or_else(|| too_large("of a decimal", column))?;
    let TypeRoot::Decimal { precision, .. } = column.root else {
        return Ok(());
    };
    if value.unsigned_abs() >= 10_u128.pow(u32::from(precision)) {
        return Err(too_large(value, column));
    }
    if let Values::Decimal(values) = &mut column.values {
        values.push(value);
    }
    column.end_value();
    Ok(())
}
