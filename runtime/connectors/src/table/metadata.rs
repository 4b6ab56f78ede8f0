//! Metadata columns as connectors offer them. Flink's checks of DynamicSourceUtils and DynamicSinkUtils.

use thalweg_plan::DataType;
use thalweg_plan::connector::{CatalogTable, ColumnKind, ConnectorProblem};

use super::options::refusal;

/// Which way rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Reading,
    Writing,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Writing => "writing",
        }
    }
}

/// Refuses a table's metadata column that `connector` has no key for. VIRTUAL columns are never written.
pub(super) fn check(
    table: &CatalogTable,
    connector: &str,
    direction: Direction,
    offered: &[(String, DataType)],
) -> Result<(), ConnectorProblem> {
    for column in &table.schema.columns {
        let ColumnKind::Metadata { key, is_virtual } = &column.kind else {
            continue;
        };
        let is_written = direction == Direction::Writing;
        if (is_written && *is_virtual) || offered.iter().any(|(there, _)| there == key) {
            continue;
        }
        let way_out = match is_written {
            true => " If the column should not be persisted, it can be declared with the VIRTUAL keyword.",
            false => "",
        };
        if offered.is_empty() {
            return Err(refusal(format!(
                "Table '{}' declares metadata column '{}', but connector '{connector}' has no metadata for {}.{way_out}",
                table.path,
                column.name,
                direction.name()
            )));
        }
        let mut keys: Vec<&str> = offered.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        return Err(refusal(format!(
            "Invalid metadata key '{key}' in column '{}' of table '{}'. The connector '{connector}' supports the following metadata keys for \
             {}:\n{}{way_out}",
            column.name,
            table.path,
            direction.name(),
            keys.join("\n"),
        )));
    }
    Ok(())
}

/// The type that a connector's metadata has.
pub(super) fn owned(offered: &[(&str, DataType)]) -> Vec<(String, DataType)> {
    let each = |(key, data_type): &(&str, DataType)| ((*key).to_owned(), data_type.clone());
    offered.iter().map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::testing::{table, with_metadata};
    use thalweg_plan::TypeRoot;

    fn offered() -> Vec<(String, DataType)> {
        let long = DataType::nullable(TypeRoot::BigInt);
        owned(&[("offset", long.clone()), ("epoch", long)])
    }

    #[test]
    fn an_unknown_key_is_refused_with_those_there_are() {
        let long = DataType::nullable(TypeRoot::BigInt);
        let table = with_metadata(table(&[], &[]), "o", "ofset", false, long);
        let reading = check(&table, "c", Direction::Reading, &offered())
            .unwrap_err()
            .message;
        assert_eq!(
            reading,
            "Invalid metadata key 'ofset' in column 'o' of table 'default_catalog.default_database.t'. The connector 'c' supports the \
             following metadata keys for reading:\nepoch\noffset"
        );
        let none = check(&table, "c", Direction::Writing, &[]).unwrap_err().message;
        assert!(none.ends_with("declared with the VIRTUAL keyword."), "{none}");
    }

    #[test]
    fn a_virtual_column_may_have_a_key_that_is_only_read() {
        let long = DataType::nullable(TypeRoot::BigInt);
        let table = with_metadata(table(&[], &[]), "o", "offset", true, long);
        assert_eq!(check(&table, "c", Direction::Reading, &offered()), Ok(()));
        assert_eq!(check(&table, "c", Direction::Writing, &[]), Ok(()));
    }
}
