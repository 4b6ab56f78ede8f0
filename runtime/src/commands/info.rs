//! `thalweg info`: the job graph of a package, without running the job.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use thalweg_graph::{job_graph, required_slots};
use thalweg_jobmanager::package::{Package, PackageStore, PackageStoreConfig};
use thalweg_jobmanager::{ExtractedJob, ExtractionOptions, extract, script_session};
use thalweg_proto::graph::v1::{JobEdge, JobGraph, JobVertex, Partitioner};
use thalweg_types::JobId;
use thalweg_types::config::{Configuration, options};

use crate::cli::PackageArguments;
use crate::temp_folder::TempFolder;

/// Prints the vertices, their edges and the slots they need.
pub(crate) async fn run(
    configuration: Configuration,
    arguments: PackageArguments,
) -> anyhow::Result<ExitCode> {
    let folder = TempFolder::new(&configuration)?;
    let (package, extracted) = extracted(&configuration, folder.path(), &arguments).await?;
    let configuration = effective(&configuration, &package, &extracted, arguments.parallelism);
    let graph = job_graph(&extracted.stream_graph, JobId::from_u128(0), &configuration)?;
    let text = describe(&graph, &extracted.fingerprint);
    std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

async fn extracted(
    configuration: &Configuration,
    folder: &std::path::Path,
    arguments: &PackageArguments,
) -> anyhow::Result<(std::sync::Arc<Package>, ExtractedJob)> {
    let limit = configuration.get(&options::PACKAGE_MAX_SIZE)?.0;
    let store = PackageStore::open(PackageStoreConfig {
        directory: folder.join("packages"),
        max_package_bytes: limit,
        max_total_bytes: limit,
        configuration: configuration.clone(),
    })?;
    let package = store.import(&arguments.package, "").await?;
    let options = ExtractionOptions::new(
        configuration.get(&options::EXTRACTION_TIMEOUT)?,
        configuration.get(&options::EXTRACTION_MEMORY)?.0,
        folder.to_owned(),
    );
    let deployment = package.manifest.configuration.merged_with(configuration);
    let session = script_session(&deployment, now_ms());
    let extracted = extract(&package, &arguments.arguments, &session, &options).await?;
    Ok((package, extracted))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// The package's configuration, the program's over it, the caller's over both.
fn effective(
    configuration: &Configuration,
    package: &Package,
    extracted: &ExtractedJob,
    parallelism: Option<u32>,
) -> Configuration {
    let program = Configuration::from_map(extracted.stream_graph.configuration.clone());
    let mut effective = package
        .manifest
        .configuration
        .merged_with(&program)
        .merged_with(configuration);
    if let Some(parallelism) = parallelism {
        effective.set(options::PARALLELISM_DEFAULT.key, parallelism.to_string());
    }
    effective
}

fn describe(graph: &JobGraph, fingerprint: &str) -> String {
    let mut text = format!(
        "{}: {} tasks in {} vertices, {} slots, fingerprint {fingerprint}\n",
        graph.job_name,
        graph
            .vertices
            .iter()
            .map(|vertex| vertex.parallelism)
            .sum::<u32>(),
        graph.vertices.len(),
        required_slots(graph),
    );
    for (index, vertex) in graph.vertices.iter().enumerate() {
        text.push_str(&format!(
            "{:>3}  {}  parallelism {}, max {}, slot sharing group {}\n",
            index + 1,
            vertex.name,
            vertex.parallelism,
            vertex.max_parallelism,
            vertex.slot_sharing_group
        ));
        for edge in graph.edges.iter().filter(|edge| edge.target_vertex == vertex.id) {
            text.push_str(&format!(
                "     <- {}  {}\n",
                source_name(&graph.vertices, edge),
                partitioner(edge)
            ));
        }
    }
    text
}

fn source_name<'a>(vertices: &'a [JobVertex], edge: &JobEdge) -> &'a str {
    vertices
        .iter()
        .find(|vertex| vertex.id == edge.source_vertex)
        .map_or("?", |vertex| vertex.name.as_str())
}

fn partitioner(edge: &JobEdge) -> &'static str {
    let partitioner = edge
        .edge
        .map_or(Partitioner::Unspecified, |edge| edge.partitioner());
    partitioner.as_str_name().trim_start_matches("PARTITIONER_")
}
