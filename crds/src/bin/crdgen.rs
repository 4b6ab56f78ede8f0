//! Writes the generated CustomResourceDefinitions: `cargo run -p thalweg-crds` in the project's root.

use std::path::{Path, PathBuf};

use anyhow::Context;
use thalweg_crds::generate::generated_files;

fn main() -> anyhow::Result<()> {
    let root = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("."), PathBuf::from);
    for file in generated_files()? {
        let path = root.join(&file.path);
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        std::fs::write(&path, &file.text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
