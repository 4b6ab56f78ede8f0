//! Job packages of the workspace's own programs.

use std::path::{Path, PathBuf};

/// A package folder with this program in it.
pub(crate) fn package(program: &str, folder: &Path) -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_thalweg")).with_file_name(program);
    assert!(
        built.exists(),
        "{} is missing: run `make build` first",
        built.display()
    );
    let package = folder.join(program);
    std::fs::create_dir_all(package.join("bin")).unwrap();
    std::fs::copy(&built, package.join("bin").join(program)).unwrap();
    let manifest = format!(
        "formatVersion: 1\nname: {program}\nentry: {{kind: native, path: bin/{program}}}\n\
         apiVersion: \"0.1\"\ntarget: x86_64-unknown-linux-gnu\n"
    );
    std::fs::write(package.join("job.yaml"), manifest).unwrap();
    package
}
