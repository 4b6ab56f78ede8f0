//! A scalar function: how often a letter is in a text.

use std::sync::Arc;

use thalweg_script::arrow::array::{ArrayRef, AsArray, Int64Array};
use thalweg_script::functions::{FunctionTypes, ScalarFunction};
use thalweg_script::types::{DataType, TypeRoot};

/// How often the first argument holds the first letter of the second; of no text 0, as in the original.
pub(crate) struct CountChar;

impl ScalarFunction for CountChar {
    fn types(&self, args: &[DataType]) -> Result<FunctionTypes, String> {
        let text = |arg: &DataType| {
            matches!(
                arg.root,
                TypeRoot::Char(_) | TypeRoot::VarChar(_) | TypeRoot::Null
            )
        };
        if args.len() != 2 || !args.iter().all(text) {
            return Err("(STRING, STRING)".to_owned());
        }
        Ok(FunctionTypes {
            args: vec![DataType::string(), DataType::string()],
            result: DataType::not_null(TypeRoot::BigInt),
        })
    }

    fn evaluate(&self, args: &[ArrayRef], _rows: usize) -> Result<ArrayRef, String> {
        let texts = args[0].as_string::<i32>().iter();
        let counts = texts.zip(args[1].as_string::<i32>()).map(|(text, letter)| {
            let Some(text) = text else { return Ok(0) };
            let letter = letter.and_then(|letter| letter.chars().next());
            letter
                .map(|letter| count(text, letter))
                .ok_or_else(|| "the letter to count is NULL or empty".to_owned())
        });
        Ok(Arc::new(counts.collect::<Result<Int64Array, String>>()?))
    }
}

fn count(text: &str, letter: char) -> i64 {
    let found = match u8::try_from(letter).ok().filter(u8::is_ascii) {
        Some(letter) => text.bytes().filter(|&byte| byte == letter).count(),
        None => text.matches(letter).count(),
    };
    i64::try_from(found).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use thalweg_script::arrow::array::StringArray;

    use super::*;

    fn counted(rows: &[(Option<&str>, Option<&str>)]) -> Result<Vec<i64>, String> {
        let texts = rows.iter().map(|(text, _)| *text).collect::<StringArray>();
        let letters = rows.iter().map(|(_, letter)| *letter).collect::<StringArray>();
        let counts = CountChar.evaluate(&[Arc::new(texts), Arc::new(letters)], rows.len())?;
        let counts = counts.as_primitive::<thalweg_script::arrow::datatypes::Int64Type>();
        Ok(counts.values().to_vec())
    }

    #[test]
    fn letters_are_counted_and_no_text_has_none() {
        let rows = [
            (Some("accacc"), Some("c")),
            (Some("grün, für"), Some("ü")),
            (Some("abc"), Some("bc")),
            (None, Some("c")),
        ];
        assert_eq!(counted(&rows).unwrap(), [4, 2, 1, 0]);
    }

    #[test]
    fn a_text_without_a_letter_to_count_is_an_error() {
        for letter in [None, Some("")] {
            let error = counted(&[(Some("abc"), letter)]).unwrap_err();
            assert!(error.contains("NULL or empty"), "{error}");
        }
    }

    #[test]
    fn it_takes_two_texts() {
        assert!(
            CountChar
                .types(&[DataType::string(), DataType::not_null(TypeRoot::Char(1))])
                .is_ok()
        );
        let unfitting = CountChar.types(&[DataType::string()]).unwrap_err();
        assert_eq!(unfitting, "(STRING, STRING)");
    }
}
