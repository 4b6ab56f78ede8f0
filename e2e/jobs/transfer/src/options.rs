//! The job's arguments.

use std::fmt;

const USAGE: &str = "transfer --bootstrap-servers HOST:PORT --input-topic TOPIC [--bounded] (--output-folder URI | \
                     --output-topic TOPIC (--transactional-id-prefix PREFIX | --at-least-once))";

/// An argument that can't be understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; usage: {USAGE}", self.0)
    }
}

impl std::error::Error for UsageError {}

/// Where entries go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Without a prefix of transactional ids at least once.
    Topic { name: String, prefix: Option<String> },
    /// Lines of part files.
    Folder { uri: String },
}

/// All of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) bootstrap_servers: String,
    pub(crate) input_topic: String,
    /// Ends with what is in the topic at the start.
    pub(crate) bounded: bool,
    pub(crate) output: Output,
}

impl Options {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, UsageError> {
        let (mut servers, mut input, mut topic, mut folder, mut prefix) = (None, None, None, None, None);
        let (mut bounded, mut at_least_once) = (false, false);
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let place = match argument.as_str() {
                "--bootstrap-servers" => &mut servers,
                "--input-topic" => &mut input,
                "--output-topic" => &mut topic,
                "--output-folder" => &mut folder,
                "--transactional-id-prefix" => &mut prefix,
                "--bounded" => {
                    bounded = true;
                    continue;
                }
                "--at-least-once" => {
                    at_least_once = true;
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
            output: output(topic, folder, prefix, at_least_once)?,
        })
    }
}

fn output(
    topic: Option<String>,
    folder: Option<String>,
    prefix: Option<String>,
    at_least_once: bool,
) -> Result<Output, UsageError> {
    match (topic, folder) {
        (None, Some(uri)) if prefix.is_none() && !at_least_once => Ok(Output::Folder { uri }),
        (None, Some(_)) => Err(UsageError(
            "--output-folder takes neither --transactional-id-prefix nor --at-least-once".to_owned(),
        )),
        (Some(name), None) if prefix.is_some() != at_least_once => Ok(Output::Topic { name, prefix }),
        (Some(_), None) => Err(UsageError(
            "one of --transactional-id-prefix and --at-least-once is needed".to_owned(),
        )),
        _ => Err(UsageError(
            "one of --output-topic and --output-folder is needed".to_owned(),
        )),
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

    fn topic(prefix: Option<&str>) -> Output {
        Output::Topic {
            name: "out".to_owned(),
            prefix: prefix.map(str::to_owned),
        }
    }

    #[test]
    fn a_prefix_makes_it_exactly_once() {
        let options = parse("--output-topic out --transactional-id-prefix t --bounded").unwrap();
        assert_eq!(options.output, topic(Some("t")));
        assert!(options.bounded);
        let options = parse("--output-topic out --at-least-once").unwrap();
        assert_eq!(options.output, topic(None));
        let uri = "s3://b/entries".to_owned();
        assert_eq!(
            parse("--output-folder s3://b/entries").unwrap().output,
            Output::Folder { uri }
        );
    }

    #[test]
    fn mistakes_are_named() {
        let one_of = "one of --transactional-id-prefix and --at-least-once is needed";
        assert_eq!(parse("--output-topic out").unwrap_err(), one_of);
        assert_eq!(
            parse("--output-topic out --at-least-once --transactional-id-prefix t").unwrap_err(),
            one_of
        );
        assert_eq!(
            parse("--output-folder f --at-least-once").unwrap_err(),
            "--output-folder takes neither --transactional-id-prefix nor --at-least-once"
        );
        assert_eq!(
            parse("").unwrap_err(),
            "one of --output-topic and --output-folder is needed"
        );
        assert_eq!(
            parse("--transactional-id-prefix").unwrap_err(),
            "--transactional-id-prefix needs a value"
        );
        assert_eq!(
            parse("--exactly-once").unwrap_err(),
            "unknown argument \"--exactly-once\""
        );
    }
}
