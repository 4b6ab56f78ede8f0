//! A bare SQL script as a package: what a `.sql` file, or a script in a resource, becomes.
//!
//! ```text
//!   text --> { job.yaml (entry.kind: sql), <name> } --canonical archive--> payload
//! ```
//!
//! The archive depends on nothing but the script and its name, so that equal scripts are one package.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde::Serialize;
use thalweg_proto::script::SCRIPT_KIND;

use super::{MANIFEST_FILE, PackageError, archive};

/// How a script's file ends.
const SUFFIX: &str = ".sql";
/// A script that has no name of its own.
pub(super) const DEFAULT_NAME: &str = "job.sql";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    format_version: u64,
    name: &'a str,
    entry: Entry<'a>,
}

#[derive(Serialize)]
struct Entry<'a> {
    kind: &'a str,
    path: &'a str,
}

/// The file's name, if the address is a script's.
pub(super) fn name_of(uri: &str) -> Option<&str> {
    let name = uri.rsplit('/').next().unwrap_or(uri);
    (name.len() > SUFFIX.len() && name.ends_with(SUFFIX)).then_some(name)
}

/// Replaces the script at `payload` by the package that it is, made in the empty folder `work`; the package's size.
pub(super) fn wrap(
    uri: &str,
    name: &str,
    payload: &Path,
    work: &Path,
    limit: u64,
) -> Result<u64, PackageError> {
    let failed = |source: io::Error| PackageError::Store {
        uri: uri.to_owned(),
        path: payload.to_owned(),
        source,
    };
    let document = Document {
        format_version: 1,
        name: name.trim_end_matches(SUFFIX),
        entry: Entry {
            kind: SCRIPT_KIND,
            path: name,
        },
    };
    let manifest = serde_yaml::to_string(&document).map_err(|error| failed(io::Error::other(error)))?;
    fs::create_dir_all(work).map_err(failed)?;
    fs::write(work.join(MANIFEST_FILE), manifest).map_err(failed)?;
    fs::rename(payload, work.join(name)).map_err(failed)?;
    let mut file = File::create(payload).map_err(failed)?;
    archive::pack_directory(uri, work, &mut file, limit)?;
    let size = file.metadata().map_err(failed)?.len();
    fs::remove_dir_all(work).map_err(failed)?;
    Ok(size)
}
