use std::path::Path;
use std::time::Duration;

use super::*;

fn configuration(entries: &[(&str, &str)]) -> Configuration {
    Configuration::from_map(
        entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
    )
}

#[test]
fn nested_and_flat_yaml_keys_are_the_same_configuration() {
    let nested = "taskmanager:\n  numberOfTaskSlots: 4\nrest:\n  port: 8085\n";
    let flat = "taskmanager.numberOfTaskSlots: 4\nrest.port: '8085'\n";
    let read = Configuration::from_yaml("config.yaml", nested).unwrap();
    assert_eq!(read, Configuration::from_yaml("config.yaml", flat).unwrap());
    assert_eq!(read.get(&options::TASK_SLOTS), Ok(4));
}

#[test]
fn a_key_without_a_value_stays_unset_and_an_empty_file_is_an_empty_configuration() {
    assert_eq!(
        Configuration::from_yaml("config.yaml", "rest.address:\n").unwrap(),
        Configuration::default()
    );
    assert_eq!(
        Configuration::from_yaml("config.yaml", "").unwrap(),
        Configuration::default()
    );
}

#[test]
fn broken_yaml_is_refused_with_line_and_column() {
    let error = Configuration::from_yaml("config.yaml", "rest:\n  port: [1,\n").unwrap_err();
    assert!(
        matches!(&error, ConfigError::Yaml { line, .. } if *line >= 2),
        "{error}"
    );
    assert!(error.to_string().starts_with("config.yaml, line "), "{error}");
}

#[test]
fn yaml_that_is_no_map_or_gives_a_key_twice_is_refused() {
    assert!(matches!(
        Configuration::from_yaml("c", "- 1"),
        Err(ConfigError::Shape { .. })
    ));
    assert!(matches!(
        Configuration::from_yaml("c", "rest.port: 1\nrest:\n  port: 2"),
        Err(ConfigError::Shape { .. })
    ));
}

#[test]
fn an_unset_option_has_its_default_and_an_older_key_still_counts() {
    assert_eq!(
        Configuration::default().get(&options::HEARTBEAT_TIMEOUT),
        Ok(Duration::from_secs(50))
    );
    assert_eq!(Configuration::default().get(&options::RESTART_STRATEGY), Ok(None));
    let older = configuration(&[("restart-strategy", "fixed-delay")]);
    assert_eq!(
        older.get(&options::RESTART_STRATEGY),
        Ok(Some(RestartStrategyKind::FixedDelay))
    );
}

#[test]
fn what_is_merged_over_a_configuration_wins() {
    let below = configuration(&[("rest.port", "1"), ("parallelism.default", "2")]);
    let merged = below.merged_with(&configuration(&[("rest.port", "3")]));
    assert_eq!(
        merged,
        configuration(&[("rest.port", "3"), ("parallelism.default", "2")])
    );
}

#[test]
fn an_unknown_key_is_refused_and_the_nearest_known_one_named() {
    let error = configuration(&[("taskmanager.numberOfTaskSlot", "1")])
        .check()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown configuration key \"taskmanager.numberOfTaskSlot\": did you mean \"taskmanager.numberOfTaskSlots\"?"
    );
    let far = configuration(&[("zebra", "1")]).check().unwrap_err();
    assert_eq!(far.to_string(), "unknown configuration key \"zebra\"");
}

#[test]
fn a_malformed_value_is_refused_with_key_value_and_what_is_expected() {
    let error = configuration(&[("heartbeat.interval", "soon")])
        .check()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "configuration key \"heartbeat.interval\" has the value \"soon\": a duration above 0 is expected"
    );
    for (key, value) in [
        ("parallelism.default", "0"),
        ("pipeline.max-parallelism", "32769"),
        ("taskmanager.memory.network.min", "64 parsecs"),
        ("pipeline.operator-chaining.enabled", "yes"),
        ("restart-strategy.exponential-delay.backoff-multiplier", "NaN"),
        ("rest.port", "70000"),
    ] {
        let error = configuration(&[(key, value)]).check().unwrap_err();
        assert!(matches!(error, ConfigError::Malformed { .. }), "{key}: {error}");
    }
}

#[test]
fn a_key_of_flinks_without_meaning_here_is_accepted_with_one_note() {
    let notes = configuration(&[
        ("env.java.opts.all", "-Xmx1g"),
        ("taskmanager.memory.jvm-metaspace.size", "256m"),
        ("metrics.reporter.influx.host", "db"),
        ("rest.port", "8081"),
    ])
    .check()
    .unwrap();
    let keys: Vec<&str> = notes.iter().map(|note| note.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "env.java.opts.all",
            "metrics.reporter.influx.host",
            "taskmanager.memory.jvm-metaspace.size"
        ]
    );
    assert!(
        notes[0]
            .to_string()
            .contains("has no effect: there is no JVM here")
    );
}

#[test]
fn no_key_is_listed_twice_and_every_default_is_a_value_of_its_option() {
    let mut keys: Vec<&str> = flink_keys::all_keys().collect();
    for option in options::SECTIONS.iter().flat_map(|(_, options)| options.iter()) {
        keys.push(option.key());
        keys.extend(option.older_keys());
        if let Some(default) = option.default() {
            assert!(option.accepts(default), "{}: {default}", option.key());
        }
    }
    keys.sort_unstable();
    let twice: Vec<_> = keys.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn durations_are_read_as_flink_reads_them() {
    let milliseconds = |text| parse_duration(text).map(|duration| duration.as_millis());
    for (text, expected) in [
        ("10 s", 10_000),
        ("1min", 60_000),
        ("100ms", 100),
        ("250", 250),
        ("2 H", 7_200_000),
        ("1 d", 86_400_000),
        ("PT1H30S", 3_630_000),
        ("0", 0),
    ] {
        assert_eq!(milliseconds(text), Some(expected), "{text}");
    }
    for text in [
        "",
        "s",
        "-1 s",
        "1.5 s",
        "1 fortnight",
        "99999999999999999999 s",
        "9223372036854775807 d",
        "PT",
        "PT5",
    ] {
        assert_eq!(milliseconds(text), None, "{text}");
    }
}

#[test]
fn memory_sizes_are_read_as_flink_reads_them() {
    for (text, expected) in [
        ("64mb", 64 << 20),
        ("1g", 1 << 30),
        ("42", 42),
        ("20 kb", 20 << 10),
        ("1 tb", 1 << 40),
    ] {
        assert_eq!(parse_memory_size(text), Some(expected), "{text}");
    }
    for text in ["", "mb", "1.5g", "-1", "1 pb", "9999999999 tb"] {
        assert_eq!(parse_memory_size(text), None, "{text}");
    }
}

#[test]
fn durations_and_sizes_print_as_they_are_read() {
    for text in ["0 ms", "1 h", "90 s", "15 ms", "2 d", "7 ns", "5 min"] {
        assert_eq!(format_duration(parse_duration(text).unwrap()), text);
    }
    for text in ["64mb", "3gb", "1023 bytes", "0 bytes"] {
        assert_eq!(MemorySize(parse_memory_size(text).unwrap()).to_string(), text);
    }
}

#[test]
fn the_configuration_page_is_what_the_options_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, markdown()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == markdown(),
        "docs/configuration.md is out of date: run UPDATE_DOCS=1 cargo test -p thalweg-types configuration_page"
    );
}
