//! A table's options, read and checked. Flink's KafkaConnectorOptions and KafkaConnectorOptionsUtil.

use thalweg_formats::Format;
use thalweg_plan::Field;
use thalweg_plan::connector::{CatalogTable, ConnectorProblem};

use super::Mode;
use super::watermarks::{EMIT_STRATEGY, GROUP as ALIGNMENT_GROUP, MAX_DRIFT, UPDATE_INTERVAL};
use crate::table::formats::discover;
use crate::table::options::{SOURCE_KEYS, TableOptions, problem, refusal};
use crate::table::physical_fields;

pub(super) const PROPERTIES: &str = "properties.";
pub(super) const SERVERS: &str = "properties.bootstrap.servers";
pub(super) const GROUP: &str = "properties.group.id";

const KEYS: [&str; 19] = [
    "topic",
    "topic-pattern",
    "key.fields",
    "key.fields-prefix",
    "value.fields-include",
    "scan.startup.mode",
    "scan.startup.specific-offsets",
    "scan.startup.timestamp-millis",
    "scan.bounded.mode",
    "scan.bounded.specific-offsets",
    "scan.bounded.timestamp-millis",
    "scan.topic-partition-discovery.interval",
    "sink.partitioner",
    "sink.parallelism",
    "sink.delivery-guarantee",
    "sink.transactional-id-prefix",
    "format",
    "key.format",
    "value.format",
];
const UPSERT_KEYS: [&str; 13] = [
    "topic",
    "key.fields-prefix",
    "value.fields-include",
    "scan.bounded.mode",
    "scan.bounded.specific-offsets",
    "scan.bounded.timestamp-millis",
    "sink.parallelism",
    "sink.delivery-guarantee",
    "sink.transactional-id-prefix",
    "sink.buffer-flush.max-rows",
    "sink.buffer-flush.interval",
    "key.format",
    "value.format",
];

/// What both directions need of a table's options.
pub(super) struct Table<'a> {
    pub(super) options: TableOptions<'a>,
    pub(super) mode: Mode,
    pub(super) topics: Vec<String>,
    pub(super) value: Format,
    pub(super) key: Option<Format>,
    /// Names of the key's fields, as the table has them.
    pub(super) key_fields: Vec<String>,
    /// What they have before them in the table and not in the message.
    pub(super) key_prefix: &'a str,
    pub(super) value_has_key: bool,
}

impl<'a> Table<'a> {
    pub(super) fn read(table: &'a CatalogTable, mode: Mode) -> Result<Self, ConnectorProblem> {
        let mut options = match mode {
            Mode::Append => TableOptions::new(mode.name(), table, SOURCE_KEYS.into_iter().chain(KEYS)),
            Mode::Upsert => TableOptions::new(mode.name(), table, SOURCE_KEYS.into_iter().chain(UPSERT_KEYS)),
        };
        options.support(
            [
                SERVERS,
                EMIT_STRATEGY,
                ALIGNMENT_GROUP,
                MAX_DRIFT,
                UPDATE_INTERVAL,
            ]
            .map(str::to_owned),
        );
        options.support_prefix(PROPERTIES);
        let key = discover(&mut options, "key.format")?;
        let format = match mode {
            Mode::Append => discover(&mut options, "format")?,
            Mode::Upsert => None,
        };
        let value = match format {
            Some(format) => Some(format),
            None => discover(&mut options, "value.format")?,
        };
        match mode {
            Mode::Append => options.validate(&[SERVERS])?,
            Mode::Upsert => options.validate(&["topic", SERVERS, "key.format", "value.format"])?,
        }
        let value = value.ok_or_else(|| {
            problem(
                "value.format",
                "Could not find required scan format 'value.format'.",
            )
        })?;
        let read = Self {
            topics: topics(&options)?,
            key_fields: key_fields(&options, mode, key.is_some())?,
            key_prefix: options.get("key.fields-prefix").unwrap_or_default(),
            value_has_key: options.choice(
                "value.fields-include",
                &[("ALL", true), ("EXCEPT_KEY", false)],
                true,
            )?,
            options,
            mode,
            value,
            key,
        };
        read.check()?;
        Ok(read)
    }

    fn check(&self) -> Result<(), ConnectorProblem> {
        let prefix = self.key_prefix;
        if !prefix.is_empty() && self.value_has_key {
            return Err(problem(
                "key.fields-prefix",
                "A key prefix is not allowed when option 'value.fields-include' is set to 'ALL'. Set it to 'EXCEPT_KEY' instead to avoid \
                 field overlaps.",
            ));
        }
        if let Some(field) = self.key_fields.iter().find(|field| !field.starts_with(prefix)) {
            return Err(problem(
                "key.fields",
                format!(
                    "All fields in 'key.fields' must be prefixed with '{prefix}' when option 'key.fields-prefix' is set but field '{field}' is \
                     not prefixed."
                ),
            ));
        }
        let has_key = self.options.table.schema.primary_key.is_some();
        let is_append = |format: &Format| format.kind().changelog().is_insert_only();
        match self.mode {
            Mode::Append if has_key && is_append(&self.value) => Err(refusal(format!(
                "The Kafka table '{}' with '{}' format doesn't support defining PRIMARY KEY constraint on the table, because it can't guarantee \
                 the semantic of primary key.",
                self.options.table.path,
                self.value.kind().name()
            ))),
            Mode::Upsert if !has_key => Err(refusal(
                "'upsert-kafka' tables require to define a PRIMARY KEY constraint. The PRIMARY KEY specifies which columns should be read from or \
                 write to the Kafka message key. The PRIMARY KEY also defines records in the 'upsert-kafka' table should update or delete records \
                 having the same key.",
            )),
            Mode::Upsert => match [self.key.as_ref(), Some(&self.value)]
                .into_iter()
                .flatten()
                .find(|format| !is_append(format))
            {
                Some(format) => Err(refusal(format!(
                    "'upsert-kafka' connector doesn't support '{0}' as format, because '{0}' is not in insert-only mode.",
                    format.kind().name()
                ))),
                None => self.check_formats(),
            },
            Mode::Append => self.check_formats(),
        }
    }

    fn check_formats(&self) -> Result<(), ConnectorProblem> {
        self.value.check(&self.fields_of_value()).map_err(refusal)?;
        match &self.key {
            Some(key) => key.check(&self.fields_of_key()).map_err(refusal),
            None => Ok(()),
        }
    }

    pub(super) fn fields_of_value(&self) -> Vec<Field> {
        let mut fields = physical_fields(self.options.table);
        fields.retain(|field| self.value_has_key || !self.key_fields.contains(&field.name));
        fields
    }

    /// As the key's messages name them.
    pub(super) fn fields_of_key(&self) -> Vec<Field> {
        let fields = physical_fields(self.options.table);
        let of_key = self
            .key_fields
            .iter()
            .filter_map(|name| fields.iter().find(|field| field.name == *name));
        of_key
            .map(|field| Field {
                name: field.name[self.key_prefix.len()..].to_owned(),
                data_type: field.data_type.clone(),
            })
            .collect()
    }

    /// The client's properties but for those that have options of their own.
    pub(super) fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.options.table.options.iter();
        all.filter(|(key, _)| ![SERVERS, GROUP, "properties.auto.offset.reset"].contains(&key.as_str()))
            .filter_map(|(key, value)| Some((key.strip_prefix(PROPERTIES)?, value.as_str())))
    }

    /// Whether a column's values are read from the key.
    pub(super) fn is_from_key(&self, column: &str) -> bool {
        let may = self.mode == Mode::Upsert || !self.value_has_key;
        may && self.key_fields.iter().any(|field| field == column)
    }
}

fn topics(options: &TableOptions<'_>) -> Result<Vec<String>, ConnectorProblem> {
    match (options.get("topic"), options.get("topic-pattern")) {
        (Some(_), Some(_)) => Err(problem(
            "topic",
            "Option 'topic' and 'topic-pattern' shouldn't be set together.",
        )),
        (None, None) => Err(problem("topic", "Either 'topic' or 'topic-pattern' must be set.")),
        (None, Some(_)) => Err(problem(
            "topic-pattern",
            "Option 'topic-pattern' is not supported: name the topics in 'topic', separated by semicolons.",
        )),
        (Some(topics), None) => Ok(topics
            .split(';')
            .map(|topic| topic.trim().to_owned())
            .filter(|topic| !topic.is_empty())
            .collect()),
    }
}

fn key_fields(
    options: &TableOptions<'_>,
    mode: Mode,
    has_format: bool,
) -> Result<Vec<String>, ConnectorProblem> {
    if mode == Mode::Upsert {
        return Ok(options.table.schema.primary_key.clone().unwrap_or_default());
    }
    let fields: Vec<String> = options
        .get("key.fields")
        .unwrap_or_default()
        .split(';')
        .filter(|field| !field.is_empty())
        .map(str::to_owned)
        .collect();
    if !has_format && !fields.is_empty() {
        return Err(problem(
            "key.fields",
            "The option 'key.fields' can only be declared if a key format is defined using 'key.format'.",
        ));
    }
    if has_format && fields.is_empty() {
        return Err(problem(
            "key.format",
            "A key format 'key.format' requires the declaration of one or more of key fields using 'key.fields'.",
        ));
    }
    let physical = physical_fields(options.table);
    if let Some(field) = fields
        .iter()
        .find(|field| physical.iter().all(|column| column.name != **field))
    {
        let columns: Vec<String> = physical.iter().map(|column| column.name.clone()).collect();
        return Err(problem(
            "key.fields",
            format!(
                "Could not find the field '{field}' in the table schema for usage in the key format. A key field must be a regular, physical \
                 column. The following columns can be selected in the 'key.fields' option:\n{}",
                columns.join("\n")
            ),
        ));
    }
    Ok(fields)
}
