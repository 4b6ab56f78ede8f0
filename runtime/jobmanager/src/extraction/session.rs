//! What a script is planned with, beside its text and arguments.

use thalweg_proto::script::ScriptSession;
use thalweg_types::config::Configuration;

use crate::rest::is_secret;

/// At that time, with that configuration but for its secrets: a plan needs none, and connectors get them when they are deployed.
pub fn script_session(configuration: &Configuration, now_ms: u64) -> ScriptSession {
    let open = configuration.iter().filter(|(key, _)| !is_secret(key));
    ScriptSession {
        configuration: open
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        statement_time_ms: i64::try_from(now_ms).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_into_the_environment_has_no_secrets_and_comes_out_again() {
        let entries = [("table.exec.state.ttl", "1 h"), ("s3.secret-key", "hidden")];
        let configuration =
            Configuration::from_map(entries.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let session = script_session(&configuration, 5);
        let (_, value) = session.to_variable();
        assert!(!value.contains("hidden"), "{value}");
        let read: ScriptSession = serde_json::from_str(&value).unwrap();
        assert_eq!(read, session);
        assert_eq!(read.configuration["table.exec.state.ttl"], "1 h");
    }
}
