use proptest::prelude::*;
use thalweg_proto::graph::v1::{JobEdge, StreamEdge, StreamGraph};
use thalweg_types::config::Configuration;

use super::*;

const BASE: &str = "s3://bucket/checkpoints/job";

fn graph(parallelism: u32, max_parallelism: u32) -> JobGraph {
    JobGraph {
        fingerprint: "same".to_owned(),
        vertices: vec![JobVertex {
            id: "v".to_owned(),
            parallelism,
            max_parallelism,
            chain: vec![StreamNode {
                operator_id: "count".to_owned(),
                operator: "KeyedReduce".to_owned(),
                ..StreamNode::default()
            }],
            ..JobVertex::default()
        }],
        edges: vec![JobEdge {
            edge: Some(StreamEdge {
                id: 1,
                partitioner: Partitioner::Hash.into(),
                ..StreamEdge::default()
            }),
            source_vertex: "other".to_owned(),
            target_vertex: "v".to_owned(),
        }],
        ..JobGraph::default()
    }
}

fn file(path: String) -> Option<StateFile> {
    Some(StateFile {
        path,
        size: 1,
        ..StateFile::default()
    })
}

fn list(name: &str, distribution: Distribution, path: String, items: u64) -> OperatorList {
    OperatorList {
        name: name.to_owned(),
        distribution: distribution.into(),
        file: file(path),
        items,
    }
}

/// Each subtask has one run of its range and lists of the given sizes.
fn saved(parallelism: u32, max_parallelism: u32, items: &[u64]) -> SnapshotMetadata {
    let subtasks = (0..parallelism).map(|subtask| {
        let range = KeyGroupRange::of_subtask(subtask, parallelism, max_parallelism);
        let items = items.get(subtask as usize).copied().unwrap_or(0);
        OperatorSubtaskState {
            subtask,
            runs: vec![KeyedRun {
                file: file(format!("shared/run-{subtask}")),
                first_key_group: range.start,
                last_key_group: range.end,
                checkpoint_id: 7,
                rows: 1,
            }],
            lists: vec![
                list(
                    "split",
                    Distribution::Split,
                    format!("chk-7/split-{subtask}"),
                    items,
                ),
                list(
                    "union",
                    Distribution::Union,
                    format!("chk-7/union-{subtask}"),
                    items,
                ),
                list(
                    "same",
                    Distribution::Broadcast,
                    format!("chk-7/same-{subtask}"),
                    3,
                ),
            ],
            channels: Vec::new(),
        }
    });
    SnapshotMetadata {
        checkpoint_id: 7,
        fingerprint: "same".to_owned(),
        operators: vec![OperatorState {
            operator_id: "count".to_owned(),
            uid: "words".to_owned(),
            name: "Count words".to_owned(),
            operator: "KeyedReduce".to_owned(),
            parallelism,
            max_parallelism,
            subtasks: subtasks.collect(),
            ..OperatorState::default()
        }],
        ..SnapshotMetadata::default()
    }
}

fn source(metadata: &SnapshotMetadata) -> RestoreSource<'_> {
    RestoreSource {
        metadata,
        base: BASE,
        own: true,
    }
}

fn operators(assignment: &Assignment) -> Vec<&OperatorRestore> {
    assignment.tasks.values().map(|task| &task.operators[0]).collect()
}

fn shares<'a>(operator: &'a OperatorRestore, name: &str) -> Vec<(&'a str, u64, u64)> {
    let named = operator
        .lists
        .iter()
        .filter_map(|share| Some((share.list.as_ref()?, share)));
    named
        .filter(|(list, _)| list.name == name)
        .map(|(list, share)| {
            (
                list.file.as_ref().map_or("", |file| file.path.as_str()),
                share.first,
                share.count,
            )
        })
        .collect()
}

#[test]
fn the_same_parallelism_gets_its_own_back_and_goes_on_with_its_runs() {
    let metadata = saved(2, 128, &[3, 4]);
    let assignment = assign(source(&metadata), &graph(2, 128), false).unwrap();
    let operators = operators(&assignment);
    for (subtask, operator) in operators.iter().enumerate() {
        assert!(operator.own_runs);
        assert_eq!(operator.keyed.len(), 1);
        let run = &operator.keyed[0].runs[0];
        assert_eq!(
            run.file.as_ref().unwrap().path,
            format!("{BASE}/shared/run-{subtask}")
        );
        let path = format!("{BASE}/chk-7/split-{subtask}");
        assert_eq!(shares(operator, "split"), [(path.as_str(), 0, [3, 4][subtask])]);
        assert_eq!(shares(operator, "union").len(), 2);
    }
}

#[test]
fn neither_a_savepoint_nor_what_is_not_claimed_is_gone_on_with() {
    let mut metadata = saved(2, 128, &[]);
    let foreign = RestoreSource {
        own: false,
        ..source(&metadata)
    };
    let assignment = assign(foreign, &graph(2, 128), false).unwrap();
    assert!(operators(&assignment).iter().all(|operator| !operator.own_runs));
    metadata.savepoint = true;
    let assignment = assign(source(&metadata), &graph(2, 128), false).unwrap();
    assert!(operators(&assignment).iter().all(|operator| !operator.own_runs));
}

#[test]
fn an_absolute_path_and_an_inline_file_stay_as_they_are() {
    assert_eq!(
        absolute_path(BASE, "file:///elsewhere/run"),
        "file:///elsewhere/run"
    );
    assert_eq!(absolute_path(BASE, ""), "");
    assert_eq!(absolute_path("s3://b/", "run"), "s3://b/run");
}

#[test]
fn refusals_name_the_operator_and_say_what_to_do() {
    let metadata = saved(4, 128, &[]);
    let refused = |metadata: &SnapshotMetadata, graph: &JobGraph| {
        assign(source(metadata), graph, false).unwrap_err().to_string()
    };
    let named = "operator \"Count words\" (uid \"words\")";

    let mut gone = graph(2, 128);
    gone.vertices[0].chain[0].operator_id = "another".to_owned();
    let told = refused(&metadata, &gone);
    assert!(
        told.contains(named) && told.contains("--allowNonRestoredState"),
        "{told}"
    );
    let allowed = assign(source(&metadata), &gone, true).unwrap();
    assert_eq!(allowed.left_behind, [named]);
    assert!(allowed.tasks.values().all(|task| task.operators.is_empty()));

    let mut changed = graph(2, 128);
    changed.vertices[0].chain[0].operator = "Map".to_owned();
    let told = refused(&metadata, &changed);
    assert!(
        told.contains(named) && told.contains("was a KeyedReduce") && told.contains("is a Map"),
        "{told}"
    );

    let told = refused(&metadata, &graph(2, 64));
    assert!(told.contains(named) && told.contains("to 128"), "{told}");
    let told = refused(&metadata, &graph(200, 256));
    assert!(
        told.contains(named) && told.contains("parallelism to 128 or less"),
        "{told}"
    );

    let mut nameless = metadata;
    nameless.operators[0].uid = String::new();
    assert!(refused(&nameless, &gone).contains("operator \"Count words\" (no uid, id count)"));
}

#[test]
fn a_snapshot_of_another_job_is_refused_by_that_jobs_name() {
    let mut metadata = saved(4, 128, &[]);
    metadata.job_name = "orders".to_owned();
    metadata.job_id = "0a".repeat(16);
    let mut second = metadata.operators[0].clone();
    second.operator_id = "sums".to_owned();
    metadata.operators.push(second);
    let mut other = graph(2, 128);
    other.vertices[0].chain[0].operator_id = "another".to_owned();
    let told = assign(source(&metadata), &other, false).unwrap_err().to_string();
    assert!(
        told.contains("a snapshot of job \"orders\" (0a0a") && told.contains("of its 2 operator(s)"),
        "{told}"
    );
    assert_eq!(
        assign(source(&metadata), &other, true).unwrap().left_behind.len(),
        2
    );
}

#[test]
fn an_operator_without_state_may_change_or_go() {
    let mut metadata = saved(1, 128, &[]);
    metadata.operators[0].subtasks.clear();
    let mut changed = graph(200, 256);
    changed.vertices[0].chain[0].operator = "Map".to_owned();
    assert!(assign(source(&metadata), &changed, false).is_ok());
    changed.vertices[0].chain[0].operator_id = "another".to_owned();
    assert!(assign(source(&metadata), &changed, false).is_ok());
}

fn with_channels(parallelism: u32) -> SnapshotMetadata {
    let mut metadata = saved(parallelism, 128, &[]);
    for state in &mut metadata.operators[0].subtasks {
        state.channels.push(ChannelState {
            edge: 1,
            input: true,
            consumer_subtask: state.subtask,
            file: file(format!("chk-7/channel-{}", state.subtask)),
            ..ChannelState::default()
        });
    }
    metadata
}

#[test]
fn rows_under_way_reach_every_subtask_that_may_own_their_keys() {
    let metadata = with_channels(2);
    let consumers = |assignment: &Assignment| -> Vec<Vec<u32>> {
        let of = |operator: &&OperatorRestore| {
            operator
                .channels
                .iter()
                .map(|channel| channel.consumer_subtask)
                .collect()
        };
        operators(assignment).iter().map(of).collect()
    };
    let same = assign(source(&metadata), &graph(2, 128), false).unwrap();
    assert_eq!(consumers(&same), [vec![0], vec![1]]);
    let more = assign(source(&metadata), &graph(3, 128), false).unwrap();
    assert_eq!(consumers(&more), [vec![0], vec![0, 1], vec![1]]);
    let less = assign(source(&metadata), &graph(1, 128), false).unwrap();
    assert_eq!(consumers(&less), [vec![0, 1]]);
}

#[test]
fn rows_under_way_need_the_graph_that_they_were_under_way_in() {
    let metadata = with_channels(2);
    let mut other = graph(2, 128);
    other.fingerprint = "other".to_owned();
    let told = assign(source(&metadata), &other, false).unwrap_err().to_string();
    assert!(
        told.contains("\"Count words\"") && told.contains("take a savepoint"),
        "{told}"
    );
    assert!(
        assign(source(&saved(2, 128, &[])), &other, false).is_ok(),
        "else the graph may change"
    );
}

#[test]
fn max_parallelism_that_nobody_set_comes_from_the_snapshot() {
    let metadata = saved(2, 64, &[]);
    let node = |parallelism, max_parallelism| StreamGraph {
        nodes: vec![StreamNode {
            operator_id: "count".to_owned(),
            parallelism,
            max_parallelism,
            ..StreamNode::default()
        }],
        ..StreamGraph::default()
    };
    let adopted = |mut graph: StreamGraph, entries: &[(&str, &str)]| {
        let entries = entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        adopt_max_parallelism(&metadata, &mut graph, &Configuration::from_map(entries))
            .map(|()| graph.nodes[0].max_parallelism)
            .map_err(|error| error.to_string())
    };
    assert_eq!(adopted(node(2, 0), &[]), Ok(64));
    assert_eq!(
        adopted(node(2, 32), &[]),
        Ok(32),
        "as the program says; then assign refuses it"
    );
    assert_eq!(adopted(node(2, 0), &[("pipeline.max-parallelism", "128")]), Ok(0));
    let told = adopted(node(0, 0), &[("parallelism.default", "100")]).unwrap_err();
    assert!(told.contains("64 or less"), "{told}");
}

/// What tasks with these shares would save next, all of it rewritten: used to restore again.
fn saved_again(
    assignment: &Assignment,
    parallelism: u32,
    max_parallelism: u32,
) -> (SnapshotMetadata, Vec<Vec<Item>>) {
    let contents = operators(assignment)
        .iter()
        .map(|operator| items_of(operator))
        .collect::<Vec<_>>();
    let sizes: Vec<u64> = contents.iter().map(|items| items.len() as u64).collect();
    (saved(parallelism, max_parallelism, &sizes), contents)
}

/// File and place in it.
type Item = (String, u64);

fn items_of(operator: &OperatorRestore) -> Vec<Item> {
    let shares = shares(operator, "split").into_iter();
    shares
        .flat_map(|(path, first, count)| (first..first + count).map(move |item| (path.to_owned(), item)))
        .collect()
}

/// Every key group is read once by exactly its owner: of one saved subtask's run.
fn check_key_groups(assignment: &Assignment, parallelism: u32, max_parallelism: u32) {
    for (subtask, operator) in operators(assignment).iter().enumerate() {
        let range = KeyGroupRange::of_subtask(subtask as u32, parallelism, max_parallelism);
        for key_group in range.start..=range.end {
            let holds = |run: &&KeyedRun| (run.first_key_group..=run.last_key_group).contains(&key_group);
            let runs = operator
                .keyed
                .iter()
                .flat_map(|subtask| &subtask.runs)
                .filter(holds);
            assert_eq!(runs.count(), 1, "key group {key_group}");
        }
        let needless = |run: &&KeyedRun| run.last_key_group < range.start || run.first_key_group > range.end;
        assert_eq!(
            operator
                .keyed
                .iter()
                .flat_map(|subtask| &subtask.runs)
                .filter(needless)
                .count(),
            0
        );
    }
}

proptest! {
    #[test]
    fn every_key_group_and_every_item_survives_two_rescales_exactly_once(
        max_parallelism in 16u32..200,
        parallelisms in (1u32..16, 1u32..16, 1u32..16),
        items in proptest::collection::vec(0u64..20, 16),
    ) {
        let (p, q, r) = parallelisms;
        let first = saved(p, max_parallelism, &items[..p as usize]);
        let assignment = assign(source(&first), &graph(q, max_parallelism), false).unwrap();
        check_key_groups(&assignment, q, max_parallelism);
        let (second, contents) = saved_again(&assignment, q, max_parallelism);
        let assignment = assign(source(&second), &graph(r, max_parallelism), false).unwrap();
        check_key_groups(&assignment, r, max_parallelism);

        // SPLIT: all the first one's items, in their order, through both.
        let through = operators(&assignment).iter().flat_map(|operator| items_of(operator)).map(|(path, item)| {
            let subtask: usize = path.rsplit('-').next().unwrap().parse().unwrap();
            contents[subtask][item as usize].clone()
        }).collect::<Vec<_>>();
        let expected = (0..p as usize).flat_map(|subtask| {
            (0..items[subtask]).map(move |item| (format!("{BASE}/chk-7/split-{subtask}"), item))
        }).collect::<Vec<_>>();
        prop_assert_eq!(through, expected);

        for operator in operators(&assignment) {
            // UNION: everything to everybody; BROADCAST: one whole list.
            let union: u64 = shares(operator, "union").iter().map(|(_, _, count)| count).sum();
            prop_assert_eq!(union, contents.iter().map(|items| items.len() as u64).sum::<u64>());
            let same = shares(operator, "same");
            prop_assert_eq!(same.len(), 1);
            prop_assert_eq!((same[0].1, same[0].2), (0, 3));
        }
        // Shares of a SPLIT list differ by one item at most, unless everybody got its own back.
        if q != r {
            let sizes: Vec<usize> = operators(&assignment).iter().map(|operator| items_of(operator).len()).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }
    }
}
