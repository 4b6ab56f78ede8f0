//! The format that a table's options name.

use thalweg_formats::{Format, FormatKind, OptionReader};
use thalweg_plan::connector::ConnectorProblem;

use super::options::{TableOptions, problem, refusal};

/// The format of `format`, `key.format` or `value.format`, if that option is set; its options become known.
pub(crate) fn discover(
    options: &mut TableOptions<'_>,
    key: &str,
) -> Result<Option<Format>, ConnectorProblem> {
    options.support([key.to_owned()]);
    let Some(name) = options.get(key) else {
        return Ok(None);
    };
    let kind = FormatKind::of(name).ok_or_else(|| unknown(key, name, &[]))?;
    let prefix = format!("{}{name}.", key.strip_suffix("format").unwrap_or_default());
    options.support(
        kind.option_keys()
            .iter()
            .map(|option| format!("{prefix}{option}")),
    );
    let format = Format::new(kind, &OptionReader::new(&options.table.options, &prefix));
    format.map(Some).map_err(|message| {
        refusal(format!(
            "Error creating format '{name}' in option space '{prefix}'.\n\n{message}"
        ))
    })
}

/// No such format; `more` are the connector's own.
pub(crate) fn unknown(key: &str, name: &str, more: &[&str]) -> ConnectorProblem {
    let mut names: Vec<&str> = FormatKind::ALL.iter().map(|kind| kind.name()).collect();
    names.extend(more);
    names.sort_unstable();
    problem(
        key,
        format!(
            "Could not find any format factory for identifier '{name}'. Available factory identifiers are:\n\n{}",
            names.join("\n")
        ),
    )
}
