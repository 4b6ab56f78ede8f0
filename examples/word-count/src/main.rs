//! Counts words: text lines in, a running count for each word out.
//!
//! ```text
//!   Kafka topic or file --lines--> split into words --key by word--> running sum --> Kafka topic, stdout or nowhere
//! ```
//!
//! A job is an ordinary program: `main` describes the stream and hands it to the engine by `execute`. The engine runs this
//! program once to learn the graph, and then on each TaskManager to do the work.

mod options;

use std::error::Error;
use std::fmt::Write;

use options::{Input, Options, Output};
use thalweg_api::connectors::kafka::OffsetsInitializer;
use thalweg_api::connectors::{FileSource, KafkaSink, KafkaSource};
use thalweg_api::prelude::*;

/// What flows through the job: a row with two columns. The derive also makes `WordCountRef<'_>`, the same with borrowed
/// values (`word: &str`), which is what functions see and give.
#[derive(Clone, Record)]
struct WordCount {
    word: String,
    count: i64,
}

/// A record for the output topic: its columns become the record's key and value.
#[derive(Clone, Record)]
struct Message {
    word: String,
    text: String,
}

#[thalweg_api::main]
fn main() -> Result<(), Box<dyn Error>> {
    let env = StreamExecutionEnvironment::new();
    let options = Options::parse(env.args())?;

    // A name is what people see; a uid is how an operator finds its state again after the job was changed.
    let lines = source(&env, &options.input)?.name("lines").uid("lines");
    let counts = lines
        .flat_map(split_into_words())
        .name("words")
        .uid("words")
        .key_by_field::<String>("word") // all of one word go to one subtask
        .sum("count")
        .name("counts")
        .uid("counts");

    match &options.output {
        Output::Print => counts.print().name("print").uid("sink"),
        Output::Blackhole => counts.blackhole().name("blackhole").uid("sink"),
        Output::Kafka {
            bootstrap_servers,
            topic,
        } => counts
            .flat_map(format_messages())
            .name("messages")
            .uid("messages")
            .sink_to(
                KafkaSink::builder()
                    .bootstrap_servers(bootstrap_servers)
                    .topic(topic)
                    .key_column("word") // one word's counts stay in one partition, in order
                    .value_column("text")
                    .build()?,
            )
            .name("kafka")
            .uid("sink"),
    };
    env.execute("word-count")
}

fn source(env: &StreamExecutionEnvironment, input: &Input) -> Result<DataStream<String>, Box<dyn Error>> {
    Ok(match input {
        Input::File(path) => env.from_source(FileSource::for_text_lines(path)),
        Input::Kafka {
            bootstrap_servers,
            topic,
            group_id,
            bounded,
        } => {
            let mut builder = KafkaSource::builder()
                .bootstrap_servers(bootstrap_servers)
                .topics([topic])
                .group_id(group_id)
                .starting_offsets(OffsetsInitializer::Earliest);
            if *bounded {
                builder = builder.bounded(OffsetsInitializer::Latest);
            }
            env.from_source(builder.build()?)
        }
    })
}

/// Words are what stands between characters that are neither letters nor digits, in lower case.
///
/// A closure may own what it needs: this one keeps a buffer for words that aren't in lower case already, so that no word
/// is an allocation. Each subtask works with its own clone.
fn split_into_words() -> impl FnMut(&str, &mut Collector<WordCount>) + Clone + Send {
    let mut buffer = String::new();
    move |line, out| {
        for word in line.split(|character: char| !character.is_alphanumeric()) {
            if !word.is_empty() {
                out.collect(WordCountRef {
                    word: lower_case(word, &mut buffer),
                    count: 1,
                });
            }
        }
    }
}

fn lower_case<'a>(word: &'a str, buffer: &'a mut String) -> &'a str {
    if word
        .bytes()
        .all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
    {
        return word;
    }
    buffer.clear();
    buffer.extend(word.chars().flat_map(char::to_lowercase));
    buffer
}

/// "word count", as text.
fn format_messages() -> impl FnMut(WordCountRef<'_>, &mut Collector<Message>) + Clone + Send {
    let mut text = String::new();
    move |WordCountRef { word, count }, out| {
        text.clear();
        // Writing to a String can't fail.
        let _ = write!(text, "{word} {count}");
        out.collect(MessageRef { word, text: &text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_in_lower_case_and_borrowed_where_they_can_be() {
        let mut buffer = String::new();
        assert_eq!(lower_case("word7", &mut buffer), "word7");
        assert!(buffer.is_empty(), "nothing was copied");
        assert_eq!(lower_case("Straße", &mut buffer), "straße");
        assert_eq!(lower_case("ÉTÉ", &mut buffer), "été");
    }
}
