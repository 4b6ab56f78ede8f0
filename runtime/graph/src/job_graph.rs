//! From the graph that a program built to the graph that a cluster runs: defaults, chains, vertices, edges.

use std::collections::HashMap;

use thalweg_proto::graph::v1::{JobEdge, JobGraph, JobVertex, Partitioner, StreamGraph};
use thalweg_types::JobId;
use thalweg_types::config::{Configuration, RuntimeMode, options};
use thalweg_types::key_group::default_max_parallelism;

use crate::chaining::{ChainingRules, chain_break};
use crate::slot_sharing::resolve_groups;
use crate::{FORMAT_VERSION, GraphError, fingerprint, validate};

/// Makes the JobGraph of a job. `config` (the cluster's and the submission's) goes over what `main` configured. The JobGraph
/// holds the effective configuration, resolved parallelisms, slot-sharing groups and partitioners.
pub fn job_graph(graph: &StreamGraph, job_id: JobId, config: &Configuration) -> Result<JobGraph, GraphError> {
    validate(graph)?;
    let configuration = Configuration::from_map(graph.configuration.clone()).merged_with(config);
    let configuration = effective_configuration(configuration)?;
    let resolved = resolve(graph, &configuration)?;
    let rules = ChainingRules {
        enabled: configuration.get(&options::OPERATOR_CHAINING_ENABLED)?,
        different_max_parallelism: configuration.get(&options::CHAIN_DIFFERENT_MAX_PARALLELISM)?,
    };
    let chains = Chains::of(&resolved, rules);
    let vertices = chains
        .heads
        .iter()
        .map(|head| vertex(&resolved, &chains, *head, &configuration))
        .collect::<Result<_, _>>()?;
    let edges = resolved
        .edges
        .iter()
        .filter(|edge| !chains.is_chained(edge.id))
        .map(|edge| JobEdge {
            edge: Some(*edge),
            source_vertex: resolved.nodes[chains.head_of(edge.source) as usize - 1]
                .operator_id
                .clone(),
            target_vertex: resolved.nodes[chains.head_of(edge.target) as usize - 1]
                .operator_id
                .clone(),
        })
        .collect();
    Ok(JobGraph {
        format_version: FORMAT_VERSION,
        engine_version: graph.engine_version.clone(),
        job_id: job_id.to_string(),
        job_name: configuration
            .get(&options::PIPELINE_NAME)?
            .unwrap_or_else(|| graph.job_name.clone()),
        vertices,
        edges,
        configuration: configuration.to_map(),
        fingerprint: fingerprint(graph),
    })
}

/// A batch has no checkpoints, as in Flink: its operators remember nothing, and what has failed begins anew.
pub fn effective_configuration(configuration: Configuration) -> Result<Configuration, GraphError> {
    if configuration.get(&options::RUNTIME_MODE)? != RuntimeMode::Batch {
        return Ok(configuration);
    }
    let mut map = configuration.to_map();
    map.remove(options::CHECKPOINTING_INTERVAL.key);
    Ok(Configuration::from_map(map))
}

/// Parallelism, slot-sharing groups and partitioners of every node and edge; max parallelisms stay as they were set.
fn resolve(graph: &StreamGraph, configuration: &Configuration) -> Result<StreamGraph, GraphError> {
    let mut resolved = graph.clone();
    let default_parallelism = configuration.get(&options::PARALLELISM_DEFAULT)?;
    for node in &mut resolved.nodes {
        if node.parallelism == 0 {
            node.parallelism = default_parallelism;
        }
    }
    resolve_groups(&mut resolved);
    for edge in &mut resolved.edges {
        let (from, to) = (
            &resolved.nodes[edge.source as usize - 1],
            &resolved.nodes[edge.target as usize - 1],
        );
        let partitioner = match edge.partitioner() {
            Partitioner::Unspecified if from.parallelism == to.parallelism => Partitioner::Forward,
            Partitioner::Unspecified => Partitioner::Rebalance,
            Partitioner::Forward if from.parallelism != to.parallelism => {
                return Err(GraphError::ForwardParallelism {
                    from: from.name.clone(),
                    from_parallelism: from.parallelism,
                    to: to.name.clone(),
                    to_parallelism: to.parallelism,
                });
            }
            given => given,
        };
        edge.partitioner = partitioner.into();
    }
    Ok(resolved)
}

/// Which nodes run together.
struct Chains {
    /// By node: the head of its chain.
    head: Vec<u32>,
    /// In the order of the nodes, which is topological: only heads have edges from other chains.
    heads: Vec<u32>,
    /// By edge id.
    chained: HashMap<u32, bool>,
}

impl Chains {
    fn of(graph: &StreamGraph, rules: ChainingRules) -> Self {
        let chained: HashMap<u32, bool> = graph
            .edges
            .iter()
            .map(|edge| (edge.id, chain_break(graph, edge, rules).is_none()))
            .collect();
        let mut head: Vec<u32> = graph.nodes.iter().map(|node| node.id).collect();
        // sources of edges come first in the list of nodes, so a head is known before its followers ask
        let mut edges: Vec<_> = graph.edges.iter().filter(|edge| chained[&edge.id]).collect();
        edges.sort_by_key(|edge| edge.target);
        for edge in edges {
            head[edge.target as usize - 1] = head[edge.source as usize - 1];
        }
        let heads = graph
            .nodes
            .iter()
            .map(|node| node.id)
            .filter(|id| head[*id as usize - 1] == *id)
            .collect();
        Self { head, heads, chained }
    }

    fn head_of(&self, node: u32) -> u32 {
        self.head[node as usize - 1]
    }

    fn is_chained(&self, edge: u32) -> bool {
        self.chained.get(&edge).copied().unwrap_or(false)
    }
}

fn vertex(
    graph: &StreamGraph,
    chains: &Chains,
    head: u32,
    configuration: &Configuration,
) -> Result<JobVertex, GraphError> {
    let head_node = &graph.nodes[head as usize - 1];
    let mut chain: Vec<_> = graph
        .nodes
        .iter()
        .filter(|node| chains.head_of(node.id) == head)
        .cloned()
        .collect();
    for node in &mut chain {
        node.max_parallelism = max_parallelism(node.parallelism, node.max_parallelism, configuration)?;
        if node.parallelism > node.max_parallelism {
            return Err(GraphError::AboveMaxParallelism {
                operator: node.name.clone(),
                parallelism: node.parallelism,
                max_parallelism: node.max_parallelism,
            });
        }
    }
    let chained_edges = graph
        .edges
        .iter()
        .filter(|edge| chains.is_chained(edge.id) && chains.head_of(edge.source) == head)
        .copied()
        .collect();
    Ok(JobVertex {
        id: head_node.operator_id.clone(),
        name: chain_name(graph, chains, head),
        parallelism: head_node.parallelism,
        // key groups are assigned by the exchange into the head
        max_parallelism: chain.first().map_or(0, |node| node.max_parallelism),
        slot_sharing_group: head_node.slot_sharing_group.clone(),
        chain,
        chained_edges,
    })
}

fn max_parallelism(parallelism: u32, set: u32, configuration: &Configuration) -> Result<u32, GraphError> {
    if set != 0 {
        return Ok(set);
    }
    let configured = configuration.get(&options::MAX_PARALLELISM)?;
    Ok(u32::try_from(configured).unwrap_or_else(|_| default_max_parallelism(parallelism)))
}

/// "Source: a -> Map -> (Sink: b, Filter -> Sink: c)", as Flink's createChainedName. A loop, not a recursion: chains can be
/// as long as a program likes.
fn chain_name(graph: &StreamGraph, chains: &Chains, head: u32) -> String {
    let mut names: HashMap<u32, String> = HashMap::new();
    for node in graph
        .nodes
        .iter()
        .rev()
        .filter(|node| chains.head_of(node.id) == head)
    {
        let outputs: Vec<String> = graph
            .edges
            .iter()
            .filter(|edge| edge.source == node.id && chains.is_chained(edge.id))
            .filter_map(|edge| names.remove(&edge.target))
            .collect();
        let name = match outputs.as_slice() {
            [] => node.name.clone(),
            [one] => format!("{} -> {one}", node.name),
            several => format!("{} -> ({})", node.name, several.join(", ")),
        };
        names.insert(node.id, name);
    }
    names.remove(&head).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_graphs::{GraphBuilder, word_count};

    const JOB: JobId = JobId([7; 16]);

    fn configured(entries: &[(&str, &str)]) -> Configuration {
        Configuration::from_map(
            entries
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        )
    }

    fn names(job: &JobGraph) -> Vec<&str> {
        job.vertices.iter().map(|vertex| vertex.name.as_str()).collect()
    }

    #[test]
    fn a_keyed_edge_cuts_the_job_in_two_vertices_with_flinks_names() {
        let job = job_graph(&word_count(), JOB, &Configuration::default()).unwrap();
        assert_eq!(names(&job), ["Source: lines -> Flat Map", "Sum -> Sink: out"]);
        assert_eq!(job.edges.len(), 1);
        assert_eq!(job.edges[0].source_vertex, job.vertices[0].id);
        assert_eq!(job.edges[0].target_vertex, job.vertices[1].id);
        assert_eq!(job.vertices[0].id, job.vertices[0].chain[0].operator_id);
        assert_eq!(job.vertices[0].chained_edges.len(), 1);
        assert_eq!(job.job_id, JOB.to_string());
    }

    #[test]
    fn without_chaining_each_operator_is_a_vertex() {
        let off = configured(&[("pipeline.operator-chaining.enabled", "false")]);
        let job = job_graph(&word_count(), JOB, &off).unwrap();
        assert_eq!(names(&job), ["Source: lines", "Flat Map", "Sum", "Sink: out"]);
    }

    #[test]
    fn a_chain_with_two_ends_names_both() {
        let mut builder = GraphBuilder::new();
        let source = builder.source("Source: a");
        let map = builder.operator("Map", &[(source, 0, Partitioner::Forward)]);
        builder.sink("Sink: b", &[(map, 0, Partitioner::Forward)]);
        let filter = builder.operator("Filter", &[(map, 0, Partitioner::Forward)]);
        builder.sink("Sink: c", &[(filter, 0, Partitioner::Forward)]);
        let job = job_graph(&builder.build(), JOB, &Configuration::default()).unwrap();
        assert_eq!(names(&job), ["Source: a -> Map -> (Sink: b, Filter -> Sink: c)"]);
    }

    #[test]
    fn defaults_come_from_the_configuration_and_the_submission_goes_over_main() {
        let mut graph = word_count();
        graph
            .configuration
            .insert("parallelism.default".to_owned(), "2".to_owned());
        graph.nodes[0].parallelism = 1;
        graph.edges[0].partitioner = Partitioner::Unspecified.into();
        let job = job_graph(&graph, JOB, &Configuration::default()).unwrap();
        assert_eq!(
            job.vertices
                .iter()
                .map(|vertex| vertex.parallelism)
                .collect::<Vec<_>>(),
            [1, 2, 2]
        );
        let over = configured(&[
            ("parallelism.default", "3"),
            ("pipeline.max-parallelism", "12"),
            ("pipeline.name", "n"),
        ]);
        let job = job_graph(&graph, JOB, &over).unwrap();
        let last = job.vertices.last().unwrap();
        assert_eq!(
            (last.parallelism, last.max_parallelism, job.job_name.as_str()),
            (3, 12, "n")
        );
        assert_eq!(job.configuration["parallelism.default"], "3");
    }

    #[test]
    fn a_batch_takes_no_checkpoints_whoever_asks_for_them() {
        let key = "execution.checkpointing.interval";
        let of = |mode| {
            let over = configured(&[(key, "1 min"), ("execution.runtime-mode", mode)]);
            job_graph(&word_count(), JOB, &over)
                .unwrap()
                .configuration
                .contains_key(key)
        };
        assert!(of("STREAMING"));
        assert!(!of("BATCH"));
    }

    #[test]
    fn an_edge_without_partitioner_is_forward_between_equals_and_rebalance_otherwise() {
        let graph_of = |parallelism| {
            let mut builder = GraphBuilder::new();
            let source = builder.source("s");
            builder.node(source).parallelism = 1;
            let map = builder.operator("m", &[(source, 0, Partitioner::Unspecified)]);
            builder.node(map).parallelism = parallelism;
            builder.build()
        };
        let rebalanced = job_graph(&graph_of(2), JOB, &Configuration::default()).unwrap();
        assert_eq!(
            rebalanced.edges[0].edge.unwrap().partitioner(),
            Partitioner::Rebalance
        );
        let chained = job_graph(&graph_of(1), JOB, &Configuration::default()).unwrap();
        assert_eq!(
            chained.vertices[0].chained_edges[0].partitioner(),
            Partitioner::Forward
        );
    }

    #[test]
    fn a_max_parallelism_below_the_default_parallelism_and_a_bad_value_are_refused() {
        let low = configured(&[("parallelism.default", "9"), ("pipeline.max-parallelism", "8")]);
        assert!(matches!(
            job_graph(&word_count(), JOB, &low),
            Err(GraphError::AboveMaxParallelism { .. })
        ));
        let bad = configured(&[("parallelism.default", "many")]);
        assert!(matches!(
            job_graph(&word_count(), JOB, &bad),
            Err(GraphError::Configuration(_))
        ));
    }

    #[test]
    fn vertices_are_in_topological_order() {
        let mut builder = GraphBuilder::new();
        let (left, right) = (builder.source("l"), builder.source("r"));
        let map = builder.operator("m", &[(left, 0, Partitioner::Forward)]);
        let join = builder.operator("j", &[(map, 0, Partitioner::Hash), (right, 1, Partitioner::Hash)]);
        builder.sink("k", &[(join, 0, Partitioner::Forward)]);
        let job = job_graph(&builder.build(), JOB, &Configuration::default()).unwrap();
        assert_eq!(names(&job), ["l -> m", "r", "j -> k"]);
    }
}
