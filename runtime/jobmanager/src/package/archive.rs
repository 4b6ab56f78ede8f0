//! Packing a folder canonically, and unpacking an archive that nobody vouches for.
//!
//! Canonical: members sorted by path, modification time 0, owner 0, mode 0755 or 0644, plain tar. So the same files have the
//! same sha256 wherever they were packed.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use tar::{Archive, Builder, EntryType, Header};

use super::PackageError;
use super::manifest::is_inside;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// A package of more members is refused: a bound on inodes.
const MAX_MEMBERS: usize = 100_000;

/// Writes the files below `directory` as a canonical tar; symlinks are refused.
///
/// # Errors
/// A file that can't be read, a member that is neither file nor folder, more than `limit` bytes.
pub fn pack_directory(
    uri: &str,
    directory: &Path,
    target: &mut File,
    limit: u64,
) -> Result<(), PackageError> {
    let mut files = Vec::new();
    collect(uri, directory, directory, &mut files)?;
    files.sort();
    let failed = |reason: io::Error| PackageError::Fetch {
        uri: uri.to_owned(),
        reason: reason.to_string(),
    };
    let mut builder = Builder::new(BufWriter::new(target));
    let mut total = 0;
    for relative in &files {
        let file = File::open(directory.join(relative)).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        total += metadata.len();
        if total > limit {
            return Err(PackageError::TooLarge {
                uri: uri.to_owned(),
                limit,
            });
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(metadata.len());
        header.set_mode(canonical_mode(metadata.permissions().mode()));
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        builder
            .append_data(&mut header, relative, file.take(metadata.len()))
            .map_err(failed)?;
    }
    builder
        .into_inner()
        .and_then(|mut out| out.flush())
        .map_err(failed)
}

fn canonical_mode(mode: u32) -> u32 {
    if mode & 0o111 == 0 { 0o644 } else { 0o755 }
}

fn collect(uri: &str, root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), PackageError> {
    let failed = |reason: io::Error| PackageError::Fetch {
        uri: uri.to_owned(),
        reason: reason.to_string(),
    };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        let path = entry.path();
        let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
        if kind.is_dir() {
            collect(uri, root, &path, files)?;
        } else if kind.is_file() {
            files.push(relative);
        } else {
            return Err(member_refused(
                uri,
                &relative,
                "only files and folders are allowed, no links or devices",
            ));
        }
        if files.len() > MAX_MEMBERS {
            return Err(member_refused(
                uri,
                &path,
                "the package has more than 100000 files",
            ));
        }
    }
    Ok(())
}

fn member_refused(uri: &str, member: &Path, reason: &'static str) -> PackageError {
    PackageError::Member {
        uri: uri.to_owned(),
        member: member.display().to_string(),
        reason,
    }
}

/// Unpacks a tar or tar.gz into an empty folder. Files and folders only; nothing outside; at most `limit` bytes.
pub(super) fn unpack(uri: &str, archive: &Path, target: &Path, limit: u64) -> Result<(), PackageError> {
    let failed = |source| PackageError::Store {
        uri: uri.to_owned(),
        path: target.to_owned(),
        source,
    };
    let mut file = BufReader::new(File::open(archive).map_err(failed)?);
    let mut magic = Vec::new();
    file.by_ref().take(2).read_to_end(&mut magic).map_err(failed)?;
    file.rewind().map_err(failed)?;
    if magic == GZIP_MAGIC {
        unpack_tar(uri, GzDecoder::new(file), target, limit)
    } else {
        unpack_tar(uri, file, target, limit)
    }
}

fn unpack_tar(uri: &str, stream: impl Read, target: &Path, limit: u64) -> Result<(), PackageError> {
    let mut archive = Archive::new(stream);
    let malformed = |error: io::Error| PackageError::NotAPackage {
        uri: uri.to_owned(),
        reason: format!("it is neither a folder nor a readable .tar or .tar.gz ({error})"),
    };
    let mut members = 0;
    let mut total = 0;
    for entry in archive.entries().map_err(malformed)? {
        let mut entry = entry.map_err(malformed)?;
        let path = entry.path().map_err(malformed)?.into_owned();
        members += 1;
        if members > MAX_MEMBERS {
            return Err(member_refused(
                uri,
                &path,
                "the package has more than 100000 files",
            ));
        }
        total += entry.header().entry_size().map_err(malformed)?;
        if total > limit {
            return Err(PackageError::UnpacksTooLarge {
                uri: uri.to_owned(),
                limit,
            });
        }
        match entry.header().entry_type() {
            EntryType::XGlobalHeader => continue,
            EntryType::Directory if path.as_os_str().is_empty() || path == Path::new(".") => continue,
            EntryType::Directory | EntryType::Regular => {}
            _ => {
                return Err(member_refused(
                    uri,
                    &path,
                    "only files and folders are allowed, no links or devices",
                ));
            }
        }
        if !is_inside(&path) {
            return Err(member_refused(uri, &path, "its path leads out of the package"));
        }
        write_member(uri, &mut entry, &target.join(&path), malformed)?;
    }
    if members == 0 {
        return Err(PackageError::NotAPackage {
            uri: uri.to_owned(),
            reason: "it is empty".to_owned(),
        });
    }
    Ok(())
}

fn write_member(
    uri: &str,
    entry: &mut tar::Entry<'_, impl Read>,
    path: &Path,
    malformed: impl Fn(io::Error) -> PackageError,
) -> Result<(), PackageError> {
    let failed = |source| PackageError::Store {
        uri: uri.to_owned(),
        path: path.to_owned(),
        source,
    };
    if entry.header().entry_type() == EntryType::Directory {
        return fs::create_dir_all(path).map_err(failed);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let mode = canonical_mode(entry.header().mode().map_err(&malformed)?);
    // create_new: a second member of the same name would replace what was checked first.
    let opened = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    let mut file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => member_refused(uri, path, "it is there twice"),
        _ => failed(error),
    })?;
    let size = entry.header().entry_size().map_err(&malformed)?;
    let written = io::copy(entry, &mut file).map_err(&malformed)?;
    if written != size {
        return Err(malformed(io::Error::other("it ends in the middle of a file")));
    }
    file.set_permissions(fs::Permissions::from_mode(mode))
        .map_err(failed)
}
