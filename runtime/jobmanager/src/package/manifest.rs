//! `job.yaml`: what a package says of itself.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;
use thalweg_proto::script::SCRIPT_KIND;
use thalweg_types::config::Configuration;

/// The only format so far.
const FORMAT_VERSION: u64 = 1;

/// A parsed and checked `job.yaml`.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The package's name; the job's, unless the program or the submission names it.
    pub name: String,
    /// What is run.
    pub entry: Entry,
    /// `major.minor` of the thalweg-api that the program was built with; empty without one.
    pub api_version: String,
    /// The target triple that it was built for; empty without one.
    pub target: String,
    /// sha256 by path, for files whose content is fixed.
    pub files: BTreeMap<String, String>,
    /// Arguments of the program; a submission's own replace them.
    pub arguments: Vec<String>,
    /// The environment that the program sees at extraction and in its workers, beside PATH.
    pub environment: BTreeMap<String, String>,
    /// Default configuration, below the submission's.
    pub configuration: Configuration,
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// How.
    pub kind: EntryKind,
    /// The file inside the package.
    pub path: String,
    /// Of a script: the program inside the package that runs it, with functions that the engine's own does not have.
    pub program: Option<String>,
}

impl Entry {
    /// The package's program.
    pub fn executable(&self) -> Option<&String> {
        match self.kind {
            EntryKind::Native => Some(&self.path),
            EntryKind::Sql | EntryKind::Other(_) => self.program.as_ref(),
        }
    }
}

/// Ways to run a package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum EntryKind {
    /// A Rust program linked with thalweg-api.
    Native,
    /// A SQL script, run by the engine's own program or by the package's.
    Sql,
    /// One that this engine does not know.
    Other(String),
}

impl From<String> for EntryKind {
    fn from(text: String) -> Self {
        match text.as_str() {
            "native" => Self::Native,
            SCRIPT_KIND => Self::Sql,
            _ => Self::Other(text),
        }
    }
}

impl EntryKind {
    /// As `job.yaml` writes it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Native => "native",
            Self::Sql => SCRIPT_KIND,
            Self::Other(text) => text,
        }
    }
}

/// Why a `job.yaml` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not YAML, a field missing, unknown or of the wrong type.
    #[error("job.yaml, line {line}, column {column}: {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is expected there.
        message: String,
    },
    /// Another format.
    #[error("job.yaml has formatVersion {found}, this engine reads {FORMAT_VERSION}")]
    FormatVersion {
        /// As written.
        found: String,
    },
    /// Another kind of entry.
    #[error("job.yaml has entry.kind {kind:?}, this engine runs \"native\" and \"sql\" packages")]
    EntryKind {
        /// As written.
        kind: String,
    },
    /// Built against another api.
    #[error(
        "the package was built with thalweg-api {package}, this engine runs {engine}{previous}: build it again with a matching version"
    )]
    ApiVersion {
        /// The package's.
        package: String,
        /// The engine's.
        engine: String,
        /// ` and 0.0`: the version before, if there is one.
        previous: String,
    },
    /// Built for another machine.
    #[error("the package was built for {package}, this engine runs on {engine}")]
    Target {
        /// The package's.
        package: String,
        /// The engine's.
        engine: String,
    },
    /// What a program says of how it was built.
    #[error("job.yaml has no {field}, which a package with a program needs")]
    Missing {
        /// Which.
        field: &'static str,
    },
    /// A program beside one that runs by itself.
    #[error(
        "job.yaml has entry.program beside entry.kind \"native\": it is for kind \"sql\", entry.path names the program"
    )]
    Program,
    /// A path out of the package.
    #[error("job.yaml names the path {path:?}: paths are relative to the package and hold no \"..\"")]
    Path {
        /// As written.
        path: String,
    },
    /// A hash that is none.
    #[error("job.yaml gives {text:?} as sha256 of {path}: 64 hex digits are expected")]
    FileHash {
        /// Of which file.
        path: String,
        /// As written.
        text: String,
    },
    /// The default configuration can't be used.
    #[error("job.yaml, configuration: {message}")]
    Configuration {
        /// Why.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Format {
    format_version: serde_yaml::Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    #[serde(rename = "formatVersion")]
    _format_version: u64,
    name: String,
    entry: Entry,
    api_version: Option<String>,
    target: Option<String>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    arguments: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    configuration: serde_yaml::Mapping,
}

impl Manifest {
    /// Reads a `job.yaml` and checks that this engine can run what it describes.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let format: Format = serde_yaml::from_str(text).map_err(|error| syntax(&error))?;
        if format.format_version.as_u64() != Some(FORMAT_VERSION) {
            let found = serde_yaml::to_string(&format.format_version).unwrap_or_default();
            return Err(ManifestError::FormatVersion {
                found: found.trim().to_owned(),
            });
        }
        let document: Document = serde_yaml::from_str(text).map_err(|error| syntax(&error))?;
        check_entry(&document.entry)?;
        if document.entry.executable().is_some() {
            check_api_version(given("apiVersion", document.api_version.as_deref())?)?;
            check_target(given("target", document.target.as_deref())?)?;
        }
        check_files(&document.files)?;
        Ok(Self {
            configuration: configuration(&document.configuration)?,
            name: document.name,
            entry: document.entry,
            api_version: document.api_version.unwrap_or_default(),
            target: document.target.unwrap_or_default(),
            files: document.files,
            arguments: document.arguments,
            environment: document.environment,
        })
    }
}

fn syntax(error: &serde_yaml::Error) -> ManifestError {
    let (line, column) = error
        .location()
        .map_or((1, 1), |place| (place.line(), place.column()));
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text).to_owned();
    ManifestError::Syntax {
        line,
        column,
        message,
    }
}

fn configuration(mapping: &serde_yaml::Mapping) -> Result<Configuration, ManifestError> {
    if mapping.is_empty() {
        return Ok(Configuration::default());
    }
    let wrong = |message: String| ManifestError::Configuration { message };
    let text = serde_yaml::to_string(mapping).map_err(|error| wrong(error.to_string()))?;
    let configuration =
        Configuration::from_yaml("job.yaml", &text).map_err(|error| wrong(error.to_string()))?;
    configuration.check().map_err(|error| wrong(error.to_string()))?;
    Ok(configuration)
}

fn check_entry(entry: &Entry) -> Result<(), ManifestError> {
    if let EntryKind::Other(kind) = &entry.kind {
        return Err(ManifestError::EntryKind { kind: kind.clone() });
    }
    if entry.kind == EntryKind::Native && entry.program.is_some() {
        return Err(ManifestError::Program);
    }
    check_path(&entry.path)?;
    entry.program.as_deref().map_or(Ok(()), check_path)
}

fn given<'a>(field: &'static str, value: Option<&'a str>) -> Result<&'a str, ManifestError> {
    value.ok_or(ManifestError::Missing { field })
}

fn check_path(path: &str) -> Result<(), ManifestError> {
    if is_inside(Path::new(path)) {
        Ok(())
    } else {
        Err(ManifestError::Path {
            path: path.to_owned(),
        })
    }
}

/// Whether a relative path stays in the folder it starts from and names something in it.
pub(super) fn is_inside(path: &Path) -> bool {
    let mut components = path
        .components()
        .filter(|component| *component != Component::CurDir)
        .peekable();
    components.peek().is_some() && components.all(|component| matches!(component, Component::Normal(_)))
}

fn check_files(files: &BTreeMap<String, String>) -> Result<(), ManifestError> {
    for (path, hash) in files {
        check_path(path)?;
        if !is_sha256(hash) {
            return Err(ManifestError::FileHash {
                path: path.clone(),
                text: hash.clone(),
            });
        }
    }
    Ok(())
}

/// Whether a text is a sha256 in hex.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// This engine's api version: major, minor.
fn engine_api_version() -> (u32, u32) {
    let part = |text: &str| text.parse().unwrap_or(0);
    (
        part(env!("CARGO_PKG_VERSION_MAJOR")),
        part(env!("CARGO_PKG_VERSION_MINOR")),
    )
}

/// A session accepts packages of this and the previous minor version.
fn check_api_version(package: &str) -> Result<(), ManifestError> {
    let (major, minor) = engine_api_version();
    let mut parts = package.split('.').map(str::parse::<u32>);
    let accepted = match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(package_major)), Some(Ok(package_minor)), None) => {
            package_major == major && (package_minor == minor || package_minor + 1 == minor)
        }
        _ => false,
    };
    if accepted {
        return Ok(());
    }
    let previous = minor
        .checked_sub(1)
        .map(|before| format!(" and {major}.{before}"))
        .unwrap_or_default();
    Err(ManifestError::ApiVersion {
        package: package.to_owned(),
        engine: format!("{major}.{minor}"),
        previous,
    })
}

fn check_target(package: &str) -> Result<(), ManifestError> {
    let engine = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let musl = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    if package == engine || package == musl {
        return Ok(());
    }
    Err(ManifestError::Target {
        package: package.to_owned(),
        engine,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(replacements: &[(&str, &str)]) -> String {
        let mut text = format!(
            "formatVersion: 1\nname: counts\nentry:\n  kind: native\n  path: bin/counts\napiVersion: \"0.1\"\n\
             target: {}-unknown-linux-gnu\narguments: [--in, text]\n",
            std::env::consts::ARCH
        );
        for (from, to) in replacements {
            assert!(text.contains(from), "{from} is in the sample");
            text = text.replace(from, to);
        }
        text
    }

    #[test]
    fn a_complete_manifest_is_read() {
        let manifest = Manifest::parse(&yaml(&[])).unwrap();
        assert_eq!(
            (manifest.name.as_str(), manifest.entry.path.as_str()),
            ("counts", "bin/counts")
        );
        assert_eq!(manifest.arguments, ["--in", "text"]);
    }

    #[test]
    fn a_script_needs_neither_api_version_nor_target_and_a_program_does() {
        let text = "formatVersion: 1\nname: counts\nentry: {kind: sql, path: counts.sql}\n";
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.entry.kind, EntryKind::Sql);
        let error = Manifest::parse(&text.replace("kind: sql", "kind: native")).unwrap_err();
        assert!(error.to_string().contains("no apiVersion"), "{error}");
    }

    #[test]
    fn a_scripts_program_is_one_of_the_package_and_says_how_it_was_built() {
        let script = "kind: sql\n  program: bin/functions";
        let manifest = Manifest::parse(&yaml(&[("kind: native", script)])).unwrap();
        assert_eq!(manifest.entry.executable().unwrap(), "bin/functions");
        let refused =
            |replacements: &[(&str, &str)]| Manifest::parse(&yaml(replacements)).unwrap_err().to_string();
        let error = refused(&[("kind: native", script), ("apiVersion: \"0.1\"\n", "")]);
        assert_eq!(
            error,
            "job.yaml has no apiVersion, which a package with a program needs"
        );
        let error = refused(&[("kind: native", "kind: sql\n  program: ../functions")]);
        assert!(error.contains("\"../functions\": paths are relative"), "{error}");
        let error = refused(&[("kind: native", "kind: native\n  program: bin/functions")]);
        assert!(
            error.contains("entry.program beside entry.kind \"native\""),
            "{error}"
        );
    }

    #[test]
    fn broken_yaml_is_located() {
        let error = Manifest::parse(&yaml(&[("name: counts", "name: [counts")])).unwrap_err();
        let ManifestError::Syntax { line, column, .. } = error else {
            panic!("{error}")
        };
        assert!(line >= 2 && column >= 1, "line {line}, column {column}");
    }

    #[test]
    fn an_unknown_field_is_named_and_located() {
        let error = Manifest::parse(&yaml(&[("name: counts", "name: counts\nnmae: counts")])).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("job.yaml, line 3, column 1: unknown field `nmae`"),
            "{error}"
        );
    }

    #[test]
    fn a_later_format_is_named_before_its_fields_are_looked_at() {
        let error = Manifest::parse("formatVersion: 2\nwhat: ever\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "job.yaml has formatVersion 2, this engine reads 1"
        );
    }

    #[test]
    fn what_this_engine_cannot_run_is_said_with_both_sides() {
        let message = |from, to| Manifest::parse(&yaml(&[(from, to)])).unwrap_err().to_string();
        assert!(message("kind: native", "kind: wasm").contains("entry.kind \"wasm\""));
        let api = message("\"0.1\"", "\"7.3\"");
        assert!(
            api.contains("thalweg-api 7.3") && api.contains("runs 0.1"),
            "{api}"
        );
        let target = message("unknown-linux-gnu", "apple-darwin");
        assert!(
            target.contains("apple-darwin") && target.contains("linux-gnu"),
            "{target}"
        );
    }

    #[test]
    fn paths_out_of_the_package_are_refused() {
        for path in ["../counts", "/bin/sh", "bin/../../sh", "."] {
            let error = Manifest::parse(&yaml(&[("bin/counts", path)])).unwrap_err();
            assert!(matches!(error, ManifestError::Path { .. }), "{path}: {error}");
        }
    }
}
