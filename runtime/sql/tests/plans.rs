//! Every script of `tests/cases` plans, or is refused: those in `cases/refused`, and those that [`REFUSED_TOO`] names. What they give when
//! they run is another test's.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use thalweg_plan::connector::{CatalogTable, ConnectorProblem, Connectors, SinkAbilities, SourceAbilities};
use thalweg_plan::{ChangelogMode, Distribution, NodeSpec, Plan};
use thalweg_sql::SqlError;
use thalweg_sql::physical::{ExplainDetails, tree};
use thalweg_sql::script::Script;
use thalweg_sql::session::{Outcome, Session};
use thalweg_types::config::Configuration;

/// Scripts in `cases/refused` that fail when they run, not when they are planned.
const FAIL_LATER: &[&str] = &["cast_failure", "division_by_zero", "json_malformed"];

/// Scripts that may be refused, with a part of the message: one that means to be, and those with functions that are not there yet.
const REFUSED_TOO: &[(&str, &str)] = &[
    ("expr/array_basic", "Unknown function"),
    ("expr/array_more", "Unknown function"),
    ("expr/json_build", "Unknown function"),
    ("expr/json_query", "Unknown function"),
    ("expr/json_value", "Unknown function"),
    ("expr/map_basic", "Unknown function"),
    ("script/drop", "Unknown table 'bids'"),
];

/// Upserts, of which a deletion has the key alone.
const UPSERT_BY_KEY: ChangelogMode = ChangelogMode {
    key_only_deletes: true,
    ..ChangelogMode::UPSERT
};

/// What the scripts' connectors can do.
struct Scripts;

impl Connectors for Scripts {
    fn source(&self, table: &CatalogTable) -> Result<SourceAbilities, ConnectorProblem> {
        let option = |key: &str| table.options.get(key).map(String::as_str);
        known(table, &["datagen", "filesystem", "kafka", "upsert-kafka"])?;
        Ok(SourceAbilities {
            changelog: match (option("connector"), option("format")) {
                (_, Some("debezium-json")) => ChangelogMode::ALL,
                (Some("upsert-kafka"), _) => UPSERT_BY_KEY,
                _ => ChangelogMode::INSERT_ONLY,
            },
            bounded: option("connector") != Some("datagen") || option("number-of-rows").is_some(),
            metadata: Vec::new(),
            projection: true,
            nested_projection: true,
            filters: false,
            limit: false,
            watermark: false,
            lookup: false,
        })
    }

    fn sink(&self, table: &CatalogTable) -> Result<SinkAbilities, ConnectorProblem> {
        known(
            table,
            &["blackhole", "filesystem", "kafka", "print", "upsert-kafka"],
        )?;
        let connector = table.options["connector"].as_str();
        Ok(SinkAbilities {
            changelog: match connector {
                "filesystem" | "kafka" => ChangelogMode::INSERT_ONLY,
                "upsert-kafka" => UPSERT_BY_KEY,
                _ => ChangelogMode::ALL,
            },
            metadata: Vec::new(),
            overwrite: connector == "filesystem",
            parallelism: None,
        })
    }

    fn names(&self) -> Vec<&'static str> {
        vec![
            "blackhole",
            "datagen",
            "filesystem",
            "kafka",
            "print",
            "upsert-kafka",
        ]
    }
}

/// A connector's options are its own to check; here only what the scripts have wrong.
fn known(table: &CatalogTable, names: &[&str]) -> Result<(), ConnectorProblem> {
    let problem = |message: &str| {
        Err(ConnectorProblem {
            option: None,
            message: message.to_owned(),
        })
    };
    let connector = table
        .options
        .get("connector")
        .map(String::as_str)
        .unwrap_or_default();
    if !names.contains(&connector) {
        return problem("Cannot discover a connector");
    }
    if connector == "filesystem" && !table.options.contains_key("path") {
        return problem("One or more required options are missing.");
    }
    if table.options.contains_key("rows-per-secnd") {
        return problem("Unsupported options found for 'datagen'.");
    }
    let is = |key: &str, value: &str| table.options.get(key).is_some_and(|given| given == value);
    if is("scan.watermark.idle-timeout", "soon") || is("debezium-json.schema-include", "true") {
        return problem("Invalid value for an option.");
    }
    Ok(())
}

/// The plans of a script's jobs.
fn plans(path: &Path) -> Result<Vec<Plan>, SqlError> {
    plans_of(&fs::read_to_string(path).unwrap())
}

fn plans_of(text: &str) -> Result<Vec<Plan>, SqlError> {
    let variables = ["input", "output"].map(|name| (name.to_owned(), format!("/{name}")));
    let variables = BTreeMap::from(variables);
    let script = Script::parse(text, &variables)?;
    let mut session = Session::new(Configuration::default());
    let mut plans = Vec::new();
    for statement in &script.statements {
        match session
            .execute(statement, &Scripts)
            .map_err(|error| error.with_source(&script.text))?
        {
            Outcome::Job(job) => plans.push(job.plan),
            Outcome::Done | Outcome::Rows(_) | Outcome::Text(_) | Outcome::Quit => {}
        }
    }
    Ok(plans)
}

fn scripts() -> Vec<PathBuf> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let folders = fs::read_dir(cases).unwrap().map(|folder| folder.unwrap().path());
    let mut scripts: Vec<PathBuf> = folders
        .flat_map(|folder| fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    scripts.sort_unstable();
    scripts
}

fn name_of(path: &Path) -> (String, String) {
    let part = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    (part(path.parent().unwrap()), part(path))
}

/// Columns that operators and exchanges read are there.
fn check(plan: &Plan) {
    for node in &plan.nodes {
        for input in &node.inputs {
            assert!(input.node < node.id, "{}", node.name);
            if let Distribution::Hash(columns) = &input.distribution {
                let width = plan.nodes[input.node].schema.fields.len();
                assert!(columns.iter().all(|&column| column < width), "{}", node.name);
            }
        }
    }
    assert!(
        plan.nodes
            .iter()
            .any(|node| matches!(node.spec, NodeSpec::Sink(_)))
    );
}

#[test]
fn every_script_plans_or_is_refused() {
    let scripts = scripts();
    assert!(scripts.len() > 300, "{} scripts", scripts.len());
    let mut wrong = Vec::new();
    for path in &scripts {
        let (folder, name) = name_of(path);
        let shall_plan = folder != "refused" || FAIL_LATER.contains(&name.as_str());
        let refused_too = REFUSED_TOO
            .iter()
            .find(|(known, _)| *known == format!("{folder}/{name}"));
        match (plans(path), shall_plan, refused_too) {
            (Ok(plans), true, _) => {
                plans.iter().for_each(check);
            }
            (Ok(_), ..) => wrong.push(format!("{folder}/{name}: planned")),
            (Err(_), false, _) => {}
            (Err(error), true, Some((_, part))) if error.message.contains(part) => {}
            (Err(error), true, _) => wrong.push(format!("{folder}/{name}: {}", error.render())),
        }
    }
    assert!(wrong.is_empty(), "{} scripts:\n{}", wrong.len(), wrong.join("\n"));
}

/// An operator as both planners show it: its kind, the changes that it gives, and what else must be the same.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    kind: String,
    changes: String,
    details: Vec<String>,
}

/// Kinds that are the same whatever they are called, or are not there at all: Flink has sources make watermarks, completes changes in sinks, and
/// aggregates windows in two phases.
const SKIPPED: &[&str] = &[
    "Calc",
    "Exchange",
    "LocalWindowAggregate",
    "Sink",
    "SinkMaterializer",
    "Union",
    "Values",
    "WatermarkAssigner",
];

/// What a line of EXPLAIN says between `key=[` and `]`.
fn part<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (_, behind) = line.split_once(&format!("{key}=["))?;
    Some(behind.split(']').next().unwrap_or_default())
}

fn shown(line: &str) -> Option<Shown> {
    let line = line.trim_start_matches([' ', ':', '+', '-']);
    let (kind, _) = line.split_once('(')?;
    let order = part(line, "orderBy").unwrap_or_default();
    let kind = match kind {
        "GlobalWindowAggregate" => "WindowAggregate",
        // Flink has a Top-1 by time run as a deduplication; it shows that only further down.
        "Rank"
            if line.contains("rankStart=1, rankEnd=1]")
                && !order.contains(',')
                && (order.starts_with("ROWTIME ") || order.starts_with("pt ")) =>
        {
            "Deduplicate"
        }
        kind => kind,
    };
    if SKIPPED.contains(&kind) || !kind.chars().all(char::is_alphanumeric) {
        return None;
    }
    let keys: &[&str] = match kind {
        "Join" => &["joinType", "leftInputSpec", "rightInputSpec"],
        "Rank" | "SortLimit" => &["strategy"],
        "IntervalJoin" => &["joinType"],
        _ => &[],
    };
    let details = keys.iter().filter_map(|key| part(line, key));
    // Keys are shown by position here and by name there.
    let details = details.map(|detail| detail.split(['[', '(']).next().unwrap_or_default().to_owned());
    let bounds = ["leftLowerBound=", "leftUpperBound="]
        .iter()
        .filter_map(|bound| line.split_once(bound));
    let bounds = bounds.map(|(_, behind)| behind.split(',').next().unwrap_or_default().to_owned());
    let changes = part(line, "changelogMode").unwrap_or_default();
    let changes = match kind {
        // A source of upserts need not say that it adds rows.
        "TableSourceScan" => changes.trim_start_matches("I,").replace("PD", "D"),
        _ => changes.to_owned(),
    };
    Some(Shown {
        kind: kind.to_owned(),
        changes,
        details: details.chain(bounds).collect(),
    })
}

/// Scripts whose plans are others than Flink's on purpose.
const OTHERWISE: &[(&str, &str)] = &[
    (
        "join_pk_pk",
        "upserts of both sides are completed before they are joined",
    ),
    ("join_pk_pk_left", "as above"),
    (
        "limit_agg",
        "a LIMIT of updates is a Top-N, and says how rows are kept",
    ),
    (
        "norm_filter",
        "a filter of upserts stands behind the operator that completes them",
    ),
    ("over_cdc", "OVER of updates is refused"),
    (
        "over_nontime",
        "OVER by a column that is no time attribute is refused",
    ),
    (
        "rank_over_rank",
        "a rank that nobody reads is no column, and then no key",
    ),
    ("temporal", "versions are completed"),
    ("s_filter_before", "as window_filter"),
    ("tj_norm", "as above"),
    ("u_anti", "upserts are completed before they are joined"),
    ("u_join_left", "as above"),
    ("u_semi", "as above"),
    (
        "window_filter",
        "a filter by the window stands behind the aggregate, which then makes the windows itself",
    ),
];

#[test]
fn plans_are_flinks() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let files = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    let mut scripts: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    scripts.sort_unstable();
    assert!(scripts.len() > 100, "{} scripts", scripts.len());
    let mut wrong = Vec::new();
    for path in &scripts {
        let (_, name) = name_of(path);
        if OTHERWISE.iter().any(|(known, _)| *known == name) {
            continue;
        }
        if let Some(difference) = difference(path, &folder) {
            wrong.push(format!("{name}: {difference}"));
        }
    }
    assert!(wrong.is_empty(), "{} plans:\n{}", wrong.len(), wrong.join("\n"));
}

fn difference(path: &Path, folder: &Path) -> Option<String> {
    let statement = fs::read_to_string(path).unwrap();
    let tables = statement.lines().next().unwrap().replace("-- tables: ", "");
    let tables = fs::read_to_string(folder.join("tables").join(format!("{tables}.sql"))).unwrap();
    let flink = fs::read_to_string(path.with_extension("plan")).unwrap();
    match (plans_of(&(tables + &statement)), flink.starts_with("ERROR: ")) {
        (Err(_), true) => None,
        (Err(error), false) => Some(format!("refused: {error}")),
        (Ok(_), true) => Some(format!("planned, and Flink says {flink}")),
        (Ok(plans), false) => {
            plans.iter().for_each(check);
            let details = ExplainDetails { changelog_mode: true };
            let ours: Vec<String> = plans.iter().map(|plan| tree(plan, details)).collect();
            let ours: Vec<Shown> = ours.concat().lines().filter_map(shown).collect();
            let flinks: Vec<Shown> = flink.lines().filter_map(shown).collect();
            let longer = ours.len().max(flinks.len());
            let first = (0..longer).find(|&line| ours.get(line) != flinks.get(line))?;
            Some(format!(
                "{:?}, and Flink has {:?}",
                ours.get(first),
                flinks.get(first)
            ))
        }
    }
}
