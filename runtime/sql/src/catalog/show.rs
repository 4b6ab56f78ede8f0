//! SHOW and DESCRIBE.

use sqlparser::ast::{Ident, ObjectName};
use thalweg_functions::all_functions;
use thalweg_plan::connector::TableColumn;
use thalweg_plan::data_type::{MAX_LENGTH, TimeKind};
use thalweg_plan::{DataType, TypeRoot};

use super::definition::Definition;
use super::{CATALOG, Catalog, DATABASE, Object, Table, last_name};
use crate::ast::{ColumnDef, ColumnDefKind, Describe, LikeFilter, ObjectKind, Show, ShowKind, Text};
use crate::error::{Position, SqlError};
use crate::parser::token::{TokenKind, tokenize};
use crate::parser::words::is_reserved;

/// A statement's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// Names of the columns.
    pub names: Vec<String>,
    /// Their texts.
    pub rows: Vec<Vec<String>>,
}

impl Rows {
    /// One column.
    pub(crate) fn column(name: &str, values: impl IntoIterator<Item = String>) -> Self {
        Self {
            names: vec![name.to_owned()],
            rows: values.into_iter().map(|value| vec![value]).collect(),
        }
    }
}

impl Catalog {
    /// SHOW.
    pub(crate) fn show(&self, show: &Show) -> Result<Rows, SqlError> {
        let names = match &show.what {
            ShowKind::Catalogs => ("catalog name", vec![CATALOG.to_owned()]),
            ShowKind::Databases => ("database name", vec![DATABASE.to_owned()]),
            ShowKind::Tables => ("table name", self.names().map(str::to_owned).collect()),
            ShowKind::Views => ("view name", self.names_of(ObjectKind::View)),
            ShowKind::UserFunctions => (
                "function name",
                self.functions.names().map(|name| name.to_lowercase()).collect(),
            ),
            ShowKind::Functions => {
                let built_in = all_functions().map(|function| function.name.to_lowercase());
                let mut names: Vec<String> = built_in
                    .chain(self.functions.names().map(|name| name.to_lowercase()))
                    .collect();
                names.sort_unstable();
                names.dedup();
                ("function name", names)
            }
            ShowKind::CurrentCatalog => ("current catalog name", vec![CATALOG.to_owned()]),
            ShowKind::CurrentDatabase => ("current database name", vec![DATABASE.to_owned()]),
            ShowKind::CreateTable(name) => {
                let text = self.create_text(name, ObjectKind::Table)?;
                return Ok(Rows::column("result", [text]));
            }
            ShowKind::CreateView(name) => {
                let text = self.create_text(name, ObjectKind::View)?;
                return Ok(Rows::column("result", [text]));
            }
            ShowKind::Columns => return self.columns(show),
            ShowKind::Jobs | ShowKind::Jars | ShowKind::Modules => {
                return Err(SqlError::unsupported(
                    "SHOW of jobs, jars and modules is not supported here",
                    show.position,
                ));
            }
        };
        let (title, mut names) = names;
        names.sort_unstable();
        names.dedup();
        Ok(Rows::column(
            title,
            names.into_iter().filter(|name| passes(show.like.as_ref(), name)),
        ))
    }

    fn names_of(&self, kind: ObjectKind) -> Vec<String> {
        let objects = self.temporary.iter().chain(&self.permanent);
        objects
            .filter(|(_, object)| object.kind() == kind)
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn columns(&self, show: &Show) -> Result<Rows, SqlError> {
        let Some(name) = &show.from else {
            return Err(SqlError::syntax("SHOW COLUMNS needs FROM table", show.position));
        };
        let mut rows = self.described(name)?;
        rows.rows.retain(|row| passes(show.like.as_ref(), &row[0]));
        Ok(rows)
    }

    /// DESCRIBE.
    pub(crate) fn describe(&self, describe: &Describe) -> Result<Rows, SqlError> {
        self.described(&describe.name)
    }

    fn described(&self, name: &ObjectName) -> Result<Rows, SqlError> {
        let mut names = ["name", "type", "null", "key", "extras", "watermark"]
            .map(str::to_owned)
            .to_vec();
        let rows = match self.named(name)? {
            Object::Table(table) => {
                if table
                    .definition
                    .columns
                    .iter()
                    .any(|column| column.comment.is_some())
                {
                    names.push("comment".to_owned());
                }
                table_rows(table, names.len() > 6)
            }
            Object::View(view) => {
                let fields = view.schema.fields.iter().zip(&view.columns);
                fields
                    .map(|(field, name)| described_column(name, &field.data_type))
                    .collect()
            }
        };
        Ok(Rows { names, rows })
    }

    fn named(&self, name: &ObjectName) -> Result<&Object, SqlError> {
        let parts: Vec<Ident> = name
            .0
            .iter()
            .filter_map(|part| part.as_ident().cloned())
            .collect();
        self.find(&self.path_of(&parts)?, Position::of(name))
    }

    fn create_text(&self, name: &ObjectName, wanted: ObjectKind) -> Result<String, SqlError> {
        let temporary = match self.temporary.contains_key(&last_name(name)) {
            true => "TEMPORARY ",
            false => "",
        };
        let object = self.named(name)?;
        if object.kind() != wanted {
            let message = match wanted {
                ObjectKind::View => {
                    "SHOW CREATE VIEW is only supported for views, but this is a table. Please use SHOW CREATE TABLE instead."
                }
                _ => {
                    "SHOW CREATE TABLE is only supported for tables, but this is a view. Please use SHOW CREATE VIEW instead."
                }
            };
            return Err(SqlError::semantic(message, Position::of(name)));
        }
        let path = super::path(&last_name(name));
        let path = [&path.catalog, &path.database, &path.name]
            .map(|part| quoted(part))
            .join(".");
        Ok(match object {
            Object::Table(table) => table_text(&table.definition, &format!("{temporary}TABLE {path}")),
            Object::View(view) => {
                let columns: Vec<String> = view.columns.iter().map(|column| quoted(column)).collect();
                format!(
                    "CREATE {temporary}VIEW {path} (\n  {}\n)\n{}AS {}\n",
                    columns.join(",\n  "),
                    comment_line(view.comment.as_deref()),
                    view.text
                )
            }
        })
    }
}

/// A column without key, extras and watermark.
fn described_column(name: &str, data_type: &DataType) -> Vec<String> {
    let kind = match data_type.time_kind() {
        TimeKind::Regular => "",
        TimeKind::Rowtime => " *ROWTIME*",
        TimeKind::Proctime => " *PROCTIME*",
    };
    let nullable = if data_type.nullable { "TRUE" } else { "FALSE" };
    let mut row = vec![
        name.to_owned(),
        format!("{}{kind}", data_type.root),
        nullable.to_owned(),
    ];
    row.resize(6, String::new());
    row
}

fn table_rows(table: &Table, with_comments: bool) -> Vec<Vec<String>> {
    let definition = &table.definition;
    let key = definition.primary_key.iter().flat_map(|key| &key.columns);
    let key: Vec<&str> = key.map(|name| name.value.as_str()).collect();
    let columns = definition.columns.iter().zip(&table.resolved.schema.columns);
    let row = |(written, column): (&ColumnDef, &TableColumn)| {
        let mut row = described_column(&column.name, &column.data_type);
        if key.contains(&column.name.as_str()) {
            row[3] = format!("PRI({})", key.join(", "));
        }
        row[4] = match &written.kind {
            ColumnDefKind::Physical(_) => String::new(),
            ColumnDefKind::Computed(expr) => format!("AS {}", quoted_names(&expr.text)),
            ColumnDefKind::Metadata { key, is_virtual, .. } => metadata_text(key.as_ref(), *is_virtual),
        };
        if let Some(watermark) = &definition.watermark
            && matches!(watermark.column.as_slice(), [name] if name.value == column.name)
        {
            row[5] = quoted_names(&watermark.expression.text);
        }
        if with_comments {
            row.push(column.comment.clone().unwrap_or_default());
        }
        row
    };
    columns.map(row).collect()
}

fn metadata_text(key: Option<&Text>, is_virtual: bool) -> String {
    let from = key.map(|key| format!(" FROM {}", string(&key.value)));
    let virtual_ = if is_virtual { " VIRTUAL" } else { "" };
    format!("METADATA{}{virtual_}", from.unwrap_or_default())
}

/// A string literal.
fn string(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn comment_line(comment: Option<&str>) -> String {
    comment.map_or_else(String::new, |comment| format!("COMMENT {}\n", string(comment)))
}

/// An expression as it is written, its names in backticks: as Flink keeps it.
fn quoted_names(text: &str) -> String {
    let Ok(tokens) = tokenize(text, Position::START) else {
        return text.to_owned();
    };
    let mut written = String::with_capacity(text.len() + 8);
    let mut done = 0;
    for (token, next) in tokens.iter().zip(tokens.iter().skip(1)) {
        let is_name = token.kind == TokenKind::Word && !is_reserved(&token.value) && !next.is_symbol("(");
        if is_name {
            written.push_str(&text[done..token.start]);
            written.push_str(&quoted(&token.value));
            done = token.end;
        }
    }
    written.push_str(&text[done..]);
    written
}

/// Flink's `asSerializableString`: STRING and BYTES are written with their lengths.
fn type_text(data_type: &DataType) -> String {
    let root = match &data_type.root {
        TypeRoot::VarChar(MAX_LENGTH) => format!("VARCHAR({MAX_LENGTH})"),
        TypeRoot::VarBinary(MAX_LENGTH) => format!("VARBINARY({MAX_LENGTH})"),
        TypeRoot::Array(element) => format!("ARRAY<{}>", type_text(element)),
        TypeRoot::Multiset(element) => format!("MULTISET<{}>", type_text(element)),
        TypeRoot::Map(key, value) => format!("MAP<{}, {}>", type_text(key), type_text(value)),
        TypeRoot::Row(fields) => {
            let fields = fields
                .iter()
                .map(|field| format!("{} {}", quoted(&field.name), type_text(&field.data_type)));
            format!("ROW<{}>", fields.collect::<Vec<_>>().join(", "))
        }
        root => root.to_string(),
    };
    match data_type.nullable {
        true => root,
        false => format!("{root} NOT NULL"),
    }
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// `head`: "TABLE `catalog`.`database`.`name`".
fn table_text(definition: &Definition, head: &str) -> String {
    let mut lines: Vec<String> = definition.columns.iter().map(column_text).collect();
    if let Some(watermark) = &definition.watermark {
        let names: Vec<String> = watermark.column.iter().map(|name| quoted(&name.value)).collect();
        let expression = quoted_names(&watermark.expression.text);
        lines.push(format!("  WATERMARK FOR {} AS {expression}", names.join(".")));
    }
    if let Some(key) = &definition.primary_key {
        let columns: Vec<String> = key.columns.iter().map(|name| quoted(&name.value)).collect();
        let plain: Vec<&str> = key.columns.iter().map(|name| name.value.as_str()).collect();
        let name = key
            .name
            .as_ref()
            .map_or_else(|| format!("PK_{}", plain.join("_")), |name| name.value.clone());
        lines.push(format!(
            "  CONSTRAINT {} PRIMARY KEY ({}) NOT ENFORCED",
            quoted(&name),
            columns.join(", ")
        ));
    }
    let mut text = format!(
        "CREATE {head} (\n{}\n)\n{}",
        lines.join(",\n"),
        comment_line(definition.comment.as_deref())
    );
    if !definition.partition_keys.is_empty() {
        let keys = definition.partition_keys.iter().map(|key| quoted(&key.value));
        text.push_str(&format!(
            "PARTITIONED BY ({})\n",
            keys.collect::<Vec<_>>().join(", ")
        ));
    }
    if !definition.options.is_empty() {
        let options = definition.options.iter();
        let options: Vec<String> = options
            .map(|(key, value)| format!("  {} = {}", string(key), string(value)))
            .collect();
        text.push_str(&format!("WITH (\n{}\n)\n", options.join(",\n")));
    }
    text
}

fn column_text(column: &ColumnDef) -> String {
    let kind = match &column.kind {
        ColumnDefKind::Physical(written) => type_text(&written.data_type),
        ColumnDefKind::Computed(expr) => format!("AS {}", quoted_names(&expr.text)),
        ColumnDefKind::Metadata {
            data_type,
            key,
            is_virtual,
        } => format!(
            "{} {}",
            type_text(&data_type.data_type),
            metadata_text(key.as_ref(), *is_virtual)
        ),
    };
    let comment = column
        .comment
        .as_ref()
        .map(|comment| format!(" COMMENT {}", string(&comment.value)));
    format!(
        "  {} {kind}{}",
        quoted(&column.name.value),
        comment.unwrap_or_default()
    )
}

/// LIKE's `%` and `_`.
fn passes(filter: Option<&LikeFilter>, name: &str) -> bool {
    let Some(filter) = filter else { return true };
    let (pattern, name) = match filter.ignore_case {
        true => (filter.pattern.value.to_lowercase(), name.to_lowercase()),
        false => (filter.pattern.value.clone(), name.to_owned()),
    };
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    matches(&pattern, &name) != filter.negated
}

fn matches(pattern: &[char], name: &[char]) -> bool {
    // Row by row: which prefixes of the name the pattern so far can be.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for symbol in pattern {
        let mut next = vec![false; name.len() + 1];
        match symbol {
            '%' => {
                let first = reached
                    .iter()
                    .position(|reached| *reached)
                    .unwrap_or(name.len() + 1);
                next.iter_mut().skip(first).for_each(|reached| *reached = true);
            }
            symbol => {
                for (index, c) in name.iter().enumerate() {
                    next[index + 1] = reached[index] && (*symbol == '_' || symbol == c);
                }
            }
        }
        reached = next;
    }
    reached[name.len()]
}
