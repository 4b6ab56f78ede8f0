//! Flink's tableau: rows of text in boxes.
//!
//! ```text
//! +----+-------------+--------------------------------+
//! | op |          id |                           name |
//! +----+-------------+--------------------------------+
//! | +I |           1 |                          Alice |
//! +----+-------------+--------------------------------+
//! ```
//!
//! Widths follow from types, as rows are shown before all are known. Source: Flink's `TableauStyle`.

use thalweg_plan::{DataType, Schema, TypeRoot};
use unicode_width::UnicodeWidthChar;

/// A null.
pub(crate) const NULL: &str = "<NULL>";
const CUT: &str = "...";

/// The boxes of a result.
pub(crate) struct Tableau {
    names: Vec<String>,
    widths: Vec<usize>,
}

impl Tableau {
    /// Of a query's columns, behind "op" if rows show their kinds. `max_width`: of columns whose type has no length of its own.
    pub(crate) fn of_types(schema: &Schema, with_kind: bool, max_width: usize) -> Self {
        let fields = schema.fields.iter();
        let kind = with_kind.then(|| ("op".to_owned(), 2));
        let columns = fields.map(|field| {
            let width = width_of(&field.data_type, max_width).max(NULL.len());
            (field.name.clone(), width.max(field.name.chars().count()))
        });
        let (names, widths) = kind.into_iter().chain(columns).unzip();
        Self { names, widths }
    }

    /// Of texts that are all known.
    fn of_texts(names: &[String], rows: &[Vec<String>], max_width: usize) -> Self {
        let widest = |column: usize| {
            let texts = rows.iter().filter_map(|row| row.get(column));
            texts.map(|text| display_width(text)).max().unwrap_or(0)
        };
        let widths = names.iter().enumerate();
        let widths = widths.map(|(column, name)| display_width(name).max(widest(column)).min(max_width));
        Self {
            names: names.to_vec(),
            widths: widths.collect(),
        }
    }

    /// Border, names, border.
    pub(crate) fn header(&self, out: &mut String) {
        self.border(out);
        self.row(self.names.iter().map(String::as_str), out);
        self.border(out);
    }

    /// A line between parts.
    pub(crate) fn border(&self, out: &mut String) {
        out.push('+');
        for width in &self.widths {
            out.extend(std::iter::repeat_n('-', width + 2));
            out.push('+');
        }
        out.push('\n');
    }

    /// A row, right-aligned; what is too long is cut.
    pub(crate) fn row<'a>(&self, texts: impl Iterator<Item = &'a str>, out: &mut String) {
        out.push('|');
        for (text, width) in texts.zip(&self.widths) {
            out.push(' ');
            let has = display_width(text);
            if has <= *width {
                pad(width - has, out);
                out.push_str(text);
            } else {
                let (start, has) = start_of(text, width.saturating_sub(CUT.len()));
                pad(width.saturating_sub(CUT.len() + has), out);
                out.push_str(start);
                out.push_str(CUT);
            }
            out.push_str(" |");
        }
        out.push('\n');
    }
}

/// A whole result, as SHOW and DESCRIBE give it.
pub fn render(names: &[String], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return "Empty set\n".to_owned();
    }
    let tableau = Tableau::of_texts(names, rows, usize::MAX);
    let mut out = String::new();
    tableau.header(&mut out);
    for row in rows {
        tableau.row(row.iter().map(String::as_str), &mut out);
    }
    tableau.border(&mut out);
    let unit = if rows.len() == 1 { "row" } else { "rows" };
    out.push_str(&format!("{} {unit} in set\n", rows.len()));
    out
}

fn pad(count: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', count));
}

fn width_of(data_type: &DataType, max_width: usize) -> usize {
    match data_type.root {
        TypeRoot::Boolean => 5,
        TypeRoot::TinyInt => 4,
        TypeRoot::SmallInt => 6,
        TypeRoot::Int => 11,
        TypeRoot::BigInt => 20,
        TypeRoot::Decimal { precision, .. } => usize::from(precision) + 2,
        TypeRoot::Date => 10,
        TypeRoot::Time(0) => 8,
        TypeRoot::Time(precision) => 9 + usize::from(precision),
        TypeRoot::Timestamp(precision, _) | TypeRoot::TimestampLtz(precision, _) => match precision {
            0 => 19,
            1..=3 => 23,
            4..=6 => 26,
            _ => 29,
        },
        _ => max_width,
    }
}

/// As Flink counts: units of UTF-16, and one more for wide characters.
fn char_width(c: char) -> usize {
    c.len_utf16() + usize::from(c.width() == Some(2))
}

fn display_width(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    text.chars().map(char_width).sum()
}

/// What fits in a width, and how wide that is.
fn start_of(text: &str, width: usize) -> (&str, usize) {
    let mut used = 0;
    for (byte, c) in text.char_indices() {
        let next = used + char_width(c);
        if next > width {
            return (&text[..byte], used);
        }
        used = next;
    }
    (text, used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_plan::Field;

    fn schema() -> Schema {
        Schema {
            fields: vec![
                Field::new("id", DataType::nullable(TypeRoot::Int)),
                Field::new("a_long_name", DataType::nullable(TypeRoot::Boolean)),
                Field::new("name", DataType::string()),
            ],
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_types_allow() {
        let tableau = Tableau::of_types(&schema(), true, 12);
        let mut out = String::new();
        tableau.header(&mut out);
        tableau.row(["+I", "1", NULL, "Alice"].into_iter(), &mut out);
        assert_eq!(
            out,
            "+----+-------------+-------------+--------------+\n\
             | op |          id | a_long_name |         name |\n\
             +----+-------------+-------------+--------------+\n\
             | +I |           1 |      <NULL> |        Alice |\n"
        );
    }

    #[test]
    fn what_is_too_long_is_cut_by_what_it_takes_on_the_screen() {
        let tableau = Tableau::of_types(&schema(), false, 10);
        let mut out = String::new();
        tableau.row(["1", "TRUE", "abcdefghijkl"].into_iter(), &mut out);
        tableau.row(["1", "TRUE", "日本語日本語"].into_iter(), &mut out);
        assert_eq!(
            out,
            "|           1 |        TRUE | abcdefg... |\n|           1 |        TRUE |  日本語... |\n"
        );
    }

    #[test]
    fn texts_that_are_known_make_their_columns_as_wide_as_they_are() {
        let names = ["table name".to_owned(), "n".to_owned()];
        let rows = [vec!["orders".to_owned(), "10".to_owned()]];
        assert_eq!(
            render(&names, &rows),
            "+------------+----+\n\
             | table name |  n |\n\
             +------------+----+\n\
             |     orders | 10 |\n\
             +------------+----+\n\
             1 row in set\n"
        );
        assert_eq!(render(&names, &[]), "Empty set\n");
    }
}
