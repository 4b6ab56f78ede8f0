//! Values of `table.*` and `sql-client.*` keys that are one of several words.

use super::value::ConfigValue;

macro_rules! words {
    ($(
        #[doc = $doc:literal]
        $name:ident, $expected:literal {
            $(#[doc = $meaning:literal] $variant:ident = $word:literal),+ $(,)?
        }
    )+) => {
        $(
            #[doc = $doc]
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub enum $name {
                $(#[doc = $meaning] $variant),+
            }

            impl ConfigValue for $name {
                const EXPECTED: &'static str = $expected;

                fn parse(text: &str) -> Option<Self> {
                    match text.to_ascii_uppercase().replace('-', "_").as_str() {
                        $($word => Some(Self::$variant),)+
                        _ => None,
                    }
                }
            }
        )+
    };
}

words! {
    /// `table.exec.sink.upsert-materialize`.
    UpsertMaterialize, "NONE, AUTO or FORCE" {
        /// Never.
        None = "NONE",
        /// Where updates of a sink's key may have overtaken one another.
        Auto = "AUTO",
        /// Before each sink with a key.
        Force = "FORCE",
    }
    /// `table.exec.sink.not-null-enforcer`.
    NotNullEnforcer, "ERROR or DROP" {
        /// A null in a NOT NULL column fails the job.
        Error = "ERROR",
        /// Such a row is left out.
        Drop = "DROP",
    }
    /// `table.exec.sink.type-length-enforcer`.
    TypeLengthEnforcer, "IGNORE, TRIM_PAD or ERROR" {
        /// Values are written as they are.
        Ignore = "IGNORE",
        /// Values are cut or padded to the column's length.
        TrimPad = "TRIM_PAD",
        /// Such a value fails the job.
        Error = "ERROR",
    }
    /// `table.optimizer.agg-phase-strategy`.
    AggregatePhase, "AUTO, ONE_PHASE or TWO_PHASE" {
        /// Two where they help.
        Auto = "AUTO",
        /// All rows go to where their group is.
        OnePhase = "ONE_PHASE",
        /// Rows are aggregated before they are sent, where the functions allow it.
        TwoPhase = "TWO_PHASE",
    }
    /// `sql-client.execution.result-mode`.
    SqlResultMode, "TABLE, CHANGELOG or TABLEAU" {
        /// The rows that are left at the end.
        Table = "TABLE",
        /// Each change a line.
        Changelog = "CHANGELOG",
        /// Each change in a box.
        Tableau = "TABLEAU",
    }
}
