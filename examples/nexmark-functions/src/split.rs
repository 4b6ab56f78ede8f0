//! A table function: the parts of a text.

use std::sync::Arc;

use thalweg_script::arrow::array::{ArrayRef, AsArray, Int32Array, StringBuilder, UInt32Array};
use thalweg_script::functions::{TableFunction, TableFunctionTypes, TableRows};
use thalweg_script::types::{DataType, Field, TypeRoot};

/// What stands between separators, with its place from 1. A text of NULL has no parts.
pub(crate) struct Split;

impl TableFunction for Split {
    fn types(&self, args: &[DataType]) -> Result<TableFunctionTypes, String> {
        let text = |arg: &DataType| {
            matches!(
                arg.root,
                TypeRoot::Char(_) | TypeRoot::VarChar(_) | TypeRoot::Null
            )
        };
        if args.len() != 2 || !args.iter().all(text) {
            return Err("(STRING, STRING)".to_owned());
        }
        Ok(TableFunctionTypes {
            args: vec![DataType::string(), DataType::string()],
            columns: vec![
                Field::new("part", DataType::string()),
                Field::new("place", DataType::nullable(TypeRoot::Int)),
            ],
        })
    }

    fn evaluate(&self, args: &[ArrayRef], _rows: usize) -> Result<TableRows, String> {
        let (texts, separators) = (args[0].as_string::<i32>(), args[1].as_string::<i32>());
        let (mut rows, mut parts, mut places) = (Vec::new(), StringBuilder::new(), Vec::new());
        for (row, (text, separator)) in (0..).zip(texts.iter().zip(separators)) {
            let (Some(text), Some(separator)) = (text, separator) else {
                continue;
            };
            if separator.is_empty() {
                return Err("the separator is empty".to_owned());
            }
            for (place, part) in (1..).zip(text.split(separator)) {
                rows.push(row);
                parts.append_value(part);
                places.push(place);
            }
        }
        Ok(TableRows {
            rows: UInt32Array::from(rows),
            columns: vec![Arc::new(parts.finish()), Arc::new(Int32Array::from(places))],
        })
    }
}

#[cfg(test)]
mod tests {
    use thalweg_script::arrow::array::StringArray;
    use thalweg_script::arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn a_text_has_its_parts_in_order_and_no_text_has_none() {
        let texts = StringArray::from(vec![Some("a/b"), None, Some("")]);
        let separators = StringArray::from(vec!["/"; 3]);
        let given = Split
            .evaluate(&[Arc::new(texts), Arc::new(separators)], 3)
            .unwrap();
        assert_eq!(given.rows.values(), &[0, 0, 2]);
        assert_eq!(
            given.columns[0].as_string::<i32>(),
            &StringArray::from(vec!["a", "b", ""])
        );
        assert_eq!(given.columns[1].as_primitive::<Int32Type>().values(), &[1, 2, 1]);
    }
}
