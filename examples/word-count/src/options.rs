//! The program's arguments.

use std::fmt;

/// How to call it, on one line: errors of a job's `main` travel as one.
const USAGE: &str = "word-count (--input FILE | --bootstrap-servers HOST:PORT --input-topic TOPIC [--group-id ID] [--bounded]) \
                     (--output-topic TOPIC | --sink print | --sink blackhole)";

/// An argument that can't be understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; usage: {USAGE}", self.0)
    }
}

impl std::error::Error for UsageError {}

/// Where lines come from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    File(String),
    Kafka {
        bootstrap_servers: String,
        topic: String,
        group_id: String,
        bounded: bool,
    },
}

/// Where counts go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Print,
    Blackhole,
    Kafka {
        bootstrap_servers: String,
        topic: String,
    },
}

/// All of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) input: Input,
    pub(crate) output: Output,
}

/// The arguments as they stand on the command line.
#[derive(Default)]
struct Given {
    bootstrap_servers: Option<String>,
    input_topic: Option<String>,
    output_topic: Option<String>,
    group_id: Option<String>,
    input: Option<String>,
    sink: Option<String>,
    bounded: bool,
}

impl Options {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, UsageError> {
        let given = Given::parse(arguments)?;
        Ok(Self {
            input: given.input()?,
            output: given.output()?,
        })
    }
}

impl Given {
    fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, UsageError> {
        let mut given = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let place = match argument.as_str() {
                "--bootstrap-servers" => &mut given.bootstrap_servers,
                "--input-topic" => &mut given.input_topic,
                "--output-topic" => &mut given.output_topic,
                "--group-id" => &mut given.group_id,
                "--input" => &mut given.input,
                "--sink" => &mut given.sink,
                "--bounded" => {
                    given.bounded = true;
                    continue;
                }
                _ => return Err(UsageError(format!("unknown argument {argument:?}"))),
            };
            *place = Some(
                arguments
                    .next()
                    .ok_or_else(|| UsageError(format!("{argument} needs a value")))?,
            );
        }
        Ok(given)
    }

    fn input(&self) -> Result<Input, UsageError> {
        if let Some(path) = &self.input {
            return Ok(Input::File(path.clone()));
        }
        Ok(Input::Kafka {
            bootstrap_servers: needed("--bootstrap-servers", self.bootstrap_servers.as_ref())?,
            topic: needed("--input-topic", self.input_topic.as_ref())?,
            group_id: self.group_id.clone().unwrap_or_else(|| "word-count".to_owned()),
            bounded: self.bounded,
        })
    }

    fn output(&self) -> Result<Output, UsageError> {
        match self.sink.as_deref() {
            Some("print") => Ok(Output::Print),
            Some("blackhole") => Ok(Output::Blackhole),
            Some("kafka") | None => Ok(Output::Kafka {
                bootstrap_servers: needed("--bootstrap-servers", self.bootstrap_servers.as_ref())?,
                topic: needed("--output-topic", self.output_topic.as_ref())?,
            }),
            Some(other) => Err(UsageError(format!(
                "--sink {other:?} is none of kafka, print and blackhole"
            ))),
        }
    }
}

fn needed(name: &str, value: Option<&String>) -> Result<String, UsageError> {
    value
        .cloned()
        .ok_or_else(|| UsageError(format!("{name} is missing")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned)).map_err(|error| error.0)
    }

    #[test]
    fn a_topic_to_a_topic() {
        let options =
            parse("--bootstrap-servers k:9092 --input-topic in --output-topic out --bounded").unwrap();
        let Input::Kafka {
            topic,
            group_id,
            bounded,
            ..
        } = options.input
        else {
            panic!("{options:?}")
        };
        assert_eq!(
            (topic.as_str(), group_id.as_str(), bounded),
            ("in", "word-count", true)
        );
        assert_eq!(
            options.output,
            Output::Kafka {
                bootstrap_servers: "k:9092".to_owned(),
                topic: "out".to_owned()
            }
        );
    }

    #[test]
    fn a_file_to_standard_output() {
        let options = parse("--input book.txt --sink print").unwrap();
        assert_eq!(
            options,
            Options {
                input: Input::File("book.txt".to_owned()),
                output: Output::Print
            }
        );
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(
            parse("--input-topic in").unwrap_err(),
            "--bootstrap-servers is missing"
        );
        assert_eq!(parse("--sink").unwrap_err(), "--sink needs a value");
        assert_eq!(parse("--inputs x").unwrap_err(), "unknown argument \"--inputs\"");
        assert_eq!(
            parse("--input x --sink y").unwrap_err(),
            "--sink \"y\" is none of kafka, print and blackhole"
        );
    }
}
