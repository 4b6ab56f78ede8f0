//! Where a scan begins and ends: `scan.startup.*` and `scan.bounded.*`.

use std::collections::HashMap;

use thalweg_plan::connector::ConnectorProblem;

use super::Mode;
use super::options::Table;
use crate::kafka::{OffsetReset, OffsetsInitializer};
use crate::table::options::problem;

/// `partition:0,offset:42;partition:1,offset:300`
fn specific_offsets(
    key: &str,
    text: &str,
    topic: &str,
) -> Result<HashMap<(String, i32), i64>, ConnectorProblem> {
    let invalid = || {
        problem(
            key,
            format!(
                "Invalid properties '{key}' should follow the format 'partition:0,offset:42;partition:1,offset:300', but is '{text}'."
            ),
        )
    };
    let pair = |pair: &str| {
        let (partition, offset) = pair.split_once(',')?;
        let partition = partition.trim().strip_prefix("partition:")?.parse().ok()?;
        let offset = offset.trim().strip_prefix("offset:")?.parse().ok()?;
        Some(((topic.to_owned(), partition), offset))
    };
    text.split(';')
        .filter(|part| !part.is_empty())
        .map(|part| pair(part).ok_or_else(invalid))
        .collect()
}

impl Table<'_> {
    fn offsets(&self, scope: &str, mode: &str) -> Result<OffsetsInitializer, ConnectorProblem> {
        let required = |suffix: &str| {
            let key = format!("scan.{scope}.{suffix}");
            let value = self.options.get(&key).map(str::to_owned);
            value.map(|value| (key.clone(), value)).ok_or_else(|| {
                problem(
                    &key,
                    format!("'{key}' is required in '{mode}' {scope} mode but missing."),
                )
            })
        };
        Ok(match mode {
            "earliest-offset" if scope == "startup" => OffsetsInitializer::Earliest,
            "latest-offset" => OffsetsInitializer::Latest,
            "group-offsets" => OffsetsInitializer::Committed(self.reset()?),
            "timestamp" => {
                let (key, _) = required("timestamp-millis")?;
                let timestamp = self.options.number(&key)?;
                OffsetsInitializer::Timestamp(timestamp.unwrap_or_default())
            }
            "specific-offsets" => {
                let (key, text) = required("specific-offsets")?;
                let [topic] = self.topics.as_slice() else {
                    return Err(problem(
                        &key,
                        "Currently Kafka source only supports specific offset for single topic.",
                    ));
                };
                OffsetsInitializer::Offsets(specific_offsets(&key, &text, topic)?)
            }
            other => {
                let key = format!("scan.{scope}.mode");
                return Err(problem(
                    &key,
                    format!(
                        "Invalid value for option '{key}'.\n\nCould not parse value '{other}' for key '{key}'."
                    ),
                ));
            }
        })
    }

    /// `properties.auto.offset.reset`, for a group without offsets.
    fn reset(&self) -> Result<OffsetReset, ConnectorProblem> {
        let key = "properties.auto.offset.reset";
        let choices = [
            ("none", OffsetReset::None),
            ("earliest", OffsetReset::Earliest),
            ("latest", OffsetReset::Latest),
        ];
        self.options.choice(key, &choices, OffsetReset::None)
    }

    pub(super) fn bounded(&self) -> Result<Option<OffsetsInitializer>, ConnectorProblem> {
        match self.options.get("scan.bounded.mode") {
            None | Some("unbounded") => Ok(None),
            Some(mode) => self.offsets("bounded", mode).map(Some),
        }
    }

    pub(super) fn starting(&self) -> Result<OffsetsInitializer, ConnectorProblem> {
        match self.mode {
            Mode::Upsert => Ok(OffsetsInitializer::Earliest),
            Mode::Append => {
                let mode = self.options.get("scan.startup.mode").unwrap_or("group-offsets");
                self.offsets("startup", mode)
            }
        }
    }
}
