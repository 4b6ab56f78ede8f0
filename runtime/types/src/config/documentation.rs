//! `docs/configuration.md`, from the options themselves.

use std::fmt::Write as _;

use super::flink_keys::FAMILIES;
use super::options::SECTIONS;

/// The page: each option that has an effect, then Flink's keys that are accepted without one.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         Keys go into `config.yaml` (nested or flat), `-D key=value`, the resource's `flinkConfiguration` or a package's\n\
         `job.yaml`. Names and defaults are those of Flink 2.3; `thalweg.` is ours. An unknown key or a malformed value is\n\
         an error. This page is generated: `UPDATE_DOCS=1 cargo test -p thalweg-types configuration_page`.\n",
    );
    for (section, options) in SECTIONS {
        // writing to a String can't fail
        let _ = write!(
            page,
            "\n## {section}\n\n| Key | Default | Value | Meaning |\n|---|---|---|---|\n"
        );
        for option in *options {
            let default = option
                .default()
                .map_or("unset".to_owned(), |text| format!("`{text}`"));
            let older = match option.older_keys() {
                [] => String::new(),
                keys => format!(" Formerly `{}`.", keys.join("`, `")),
            };
            let _ = writeln!(
                page,
                "| `{}` | {default} | {} | {}{older} |",
                option.key(),
                option.expected(),
                option.description().trim()
            );
        }
    }
    page.push_str(
        "\n## Keys of Flink's that are accepted without effect\n\nEach gives one note in the log.\n",
    );
    for family in FAMILIES {
        let _ = write!(page, "\n**{}: {}**\n\n", family.name, family.reason);
        for key in family.keys() {
            let _ = writeln!(page, "- `{key}`");
        }
        for prefix in family.prefixes {
            let _ = writeln!(page, "- `{prefix}*`");
        }
    }
    page
}
