//! The job's arguments.

use std::fmt;

const USAGE: &str = "keyed-count --bootstrap-servers HOST:PORT --input-topic TOPIC [--bounded] [--key bigint|string] \
                     [--program rolling|process] [--value-bytes N, of process] \
                     (--output-topic TOPIC [--transactional-id-prefix PREFIX] | --sink blackhole)";

/// An argument that can't be understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; usage: {USAGE}", self.0)
    }
}

impl std::error::Error for UsageError {}

/// What keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyType {
    Bigint,
    String,
}

/// How is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// By `sum`.
    Rolling,
    /// By a process function with one value state: a count, and so many bytes beside it.
    Process { value_bytes: usize },
}

/// All of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) bootstrap_servers: String,
    pub(crate) input_topic: String,
    pub(crate) bounded: bool,
    pub(crate) key: KeyType,
    pub(crate) program: Program,
    /// None: a blackhole.
    pub(crate) output_topic: Option<String>,
    /// Exactly once if there is one.
    pub(crate) transactional_id_prefix: Option<String>,
}

impl Options {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, UsageError> {
        let (mut servers, mut input, mut output, mut sink) = (None, None, None, None);
        let (mut key, mut program, mut value_bytes, mut prefix) = (None, None, None, None);
        let mut bounded = false;
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let place = match argument.as_str() {
                "--bootstrap-servers" => &mut servers,
                "--input-topic" => &mut input,
                "--output-topic" => &mut output,
                "--sink" => &mut sink,
                "--key" => &mut key,
                "--program" => &mut program,
                "--value-bytes" => &mut value_bytes,
                "--transactional-id-prefix" => &mut prefix,
                "--bounded" => {
                    bounded = true;
                    continue;
                }
                _ => return Err(UsageError(format!("unknown argument {argument:?}"))),
            };
            let missing = || UsageError(format!("{argument} needs a value"));
            *place = Some(arguments.next().ok_or_else(missing)?);
        }
        Ok(Self {
            bootstrap_servers: needed("--bootstrap-servers", servers)?,
            input_topic: needed("--input-topic", input)?,
            bounded,
            key: key_type(key.as_deref())?,
            program: how(program.as_deref(), value_bytes.as_deref())?,
            output_topic: target(sink.as_deref(), output)?,
            transactional_id_prefix: prefix,
        })
    }
}

fn key_type(key: Option<&str>) -> Result<KeyType, UsageError> {
    match key {
        None | Some("bigint") => Ok(KeyType::Bigint),
        Some("string") => Ok(KeyType::String),
        Some(other) => Err(UsageError(format!(
            "--key {other:?} is none of bigint and string"
        ))),
    }
}

fn how(program: Option<&str>, value_bytes: Option<&str>) -> Result<Program, UsageError> {
    let number = value_bytes.unwrap_or("0");
    let value_bytes = number
        .parse()
        .map_err(|_| UsageError(format!("--value-bytes {number:?} is no number")))?;
    match (program, value_bytes) {
        (Some("process"), value_bytes) => Ok(Program::Process { value_bytes }),
        (None | Some("rolling"), 0) => Ok(Program::Rolling),
        (None | Some("rolling"), _) => Err(UsageError("--value-bytes needs --program process".to_owned())),
        (Some(other), _) => Err(UsageError(format!(
            "--program {other:?} is none of rolling and process"
        ))),
    }
}

fn target(sink: Option<&str>, topic: Option<String>) -> Result<Option<String>, UsageError> {
    match sink {
        None => needed("--output-topic", topic).map(Some),
        Some("blackhole") => Ok(None),
        Some(other) => Err(UsageError(format!("--sink {other:?} is not blackhole"))),
    }
}

fn needed(name: &str, value: Option<String>) -> Result<String, UsageError> {
    value.ok_or_else(|| UsageError(format!("{name} is missing")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let line = format!("--bootstrap-servers k:9092 --input-topic in {line}");
        Options::parse(line.split_whitespace().map(str::to_owned)).map_err(|error| error.0)
    }

    #[test]
    fn counting_alone_is_rolling_over_bigints() {
        let options = parse("--sink blackhole").unwrap();
        assert_eq!(
            (options.key, options.program, options.output_topic),
            (KeyType::Bigint, Program::Rolling, None)
        );
    }

    #[test]
    fn a_payload_is_asked_for_in_bytes() {
        let options =
            parse("--key string --program process --value-bytes 248 --output-topic out --bounded").unwrap();
        assert_eq!(options.transactional_id_prefix, None);
        assert_eq!(options.key, KeyType::String);
        assert_eq!(options.program, Program::Process { value_bytes: 248 });
        assert_eq!(options.output_topic.as_deref(), Some("out"));
        assert!(options.bounded);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parse("").unwrap_err(), "--output-topic is missing");
        assert_eq!(parse("--sink").unwrap_err(), "--sink needs a value");
        assert_eq!(parse("--sink x").unwrap_err(), "--sink \"x\" is not blackhole");
        assert_eq!(
            parse("--sink blackhole --key int").unwrap_err(),
            "--key \"int\" is none of bigint and string"
        );
        assert_eq!(
            parse("--sink blackhole --value-bytes 8").unwrap_err(),
            "--value-bytes needs --program process"
        );
    }
}
