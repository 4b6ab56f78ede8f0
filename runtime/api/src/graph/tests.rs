use thalweg_connectors::kafka::DeliveryGuarantee;
use thalweg_connectors::{ConnectorContext, KafkaSink, Sink, SinkWriter};
use thalweg_graph::fingerprint;

use super::*;
use crate::prelude::*;

#[derive(Debug, Clone, PartialEq, crate::Record)]
struct Word {
    word: String,
    count: i64,
}

fn env() -> StreamExecutionEnvironment {
    StreamExecutionEnvironment::new()
}

fn words(env: &StreamExecutionEnvironment) -> DataStream<Word> {
    env.datagen(DatagenOptions::default(), |index| Word {
        word: index.to_string(),
        count: 1,
    })
}

/// "name" of each node, and "from -> to PARTITIONER" of each edge.
fn drawn(env: StreamExecutionEnvironment) -> (Vec<String>, Vec<String>) {
    let graph = env.into_program("job").unwrap().stream_graph;
    let name = |id: u32| graph.nodes[id as usize - 1].name.clone();
    let edge = |edge: &StreamEdge| {
        let partitioner = edge
            .partitioner()
            .as_str_name()
            .trim_start_matches("PARTITIONER_")
            .to_owned();
        format!("{} -> {} {partitioner}", name(edge.source), name(edge.target))
    };
    (
        graph.nodes.iter().map(|node| node.name.clone()).collect(),
        graph.edges.iter().map(edge).collect(),
    )
}

fn refusal(env: StreamExecutionEnvironment) -> String {
    env.into_program("job").unwrap_err().to_string()
}

#[test]
fn operators_have_flinks_names_and_kinds() {
    let env = env();
    let generated = words(&env);
    generated.map(|word| word.count).filter(|n| n > 0).print();
    generated
        .flat_map(|word, out: &mut Collector<String>| out.collect(word.word))
        .blackhole();
    generated
        .key_by::<String, _>(|word| word.word)
        .reduce(|sum, word| sum.count += word.count)
        .print()
        .name("out");
    generated.key_by_field::<String>("word").sum("count");
    generated.process_batches::<Word, String, _>(|rows| Ok(rows.clone()));
    let graph = env.into_program("job").unwrap().stream_graph;
    let nodes: Vec<(&str, &str)> = graph
        .nodes
        .iter()
        .map(|node| (node.operator.as_str(), node.name.as_str()))
        .collect();
    assert_eq!(
        nodes,
        [
            ("DataGeneratorSource", "Source: Data Generator"),
            ("Map", "Map"),
            ("Filter", "Filter"),
            ("PrintSink", "Sink: Print to Std. Out"),
            ("FlatMap", "Flat Map"),
            ("BlackholeSink", "Sink: Blackhole"),
            ("KeyedReduce", "Keyed Reduce"),
            ("PrintSink", "Sink: out"),
            ("KeyedSum", "Keyed Aggregation"),
            ("ProcessBatches", "Process Batches"),
        ]
    );
    assert_eq!(graph.nodes[6].key_columns, ["$key0"]);
    assert_eq!(graph.nodes[8].key_columns, ["word"]);
    assert_eq!(
        graph.nodes[8].output_columns,
        ["word: STRING NOT NULL", "count: BIGINT NOT NULL"]
    );
}

#[test]
fn edges_have_the_partitioners_of_the_stream() {
    let env = env();
    let source = words(&env).name("s");
    let to = |stream: DataStream<Word>, name: &str| {
        stream.map(|word| word.count).name(name);
    };
    to(source.clone(), "plain");
    to(source.rebalance(), "rebalance");
    to(source.rescale(), "rescale");
    to(source.broadcast(), "broadcast");
    to(source.forward(), "forward");
    to(source.shuffle(), "shuffle");
    to(source.global(), "global");
    source.key_by_field::<String>("word").max("count").name("max");
    assert_eq!(
        drawn(env).1,
        [
            "Source: s -> plain FORWARD",
            "Source: s -> rebalance REBALANCE",
            "Source: s -> rescale RESCALE",
            "Source: s -> broadcast BROADCAST",
            "Source: s -> forward FORWARD",
            "Source: s -> shuffle SHUFFLE",
            "Source: s -> global GLOBAL",
            "Source: s -> max HASH",
        ]
    );
}

#[test]
fn a_union_brings_each_input_with_its_own_partitioner() {
    let env = env();
    let (a, b) = (words(&env).name("a"), words(&env).name("b"));
    a.rebalance().union(&b).map(|word| word.count).name("m");
    a.union(&b)
        .key_by::<i64, _>(|word| word.count)
        .min("count")
        .name("k");
    assert_eq!(
        drawn(env).1,
        [
            "Source: a -> m REBALANCE",
            "Source: b -> m FORWARD",
            "Source: a -> k HASH",
            "Source: b -> k HASH"
        ]
    );
}

#[test]
fn an_edge_between_unequal_parallelisms_is_rebalanced() {
    let env = env();
    let source = words(&env).name("s").set_parallelism(2);
    source.map(|word| word.count).name("equal").set_parallelism(2);
    source.map(|word| word.count).name("unequal").set_parallelism(3);
    let edges = drawn(env).1;
    assert_eq!(
        edges,
        ["Source: s -> equal FORWARD", "Source: s -> unequal REBALANCE"]
    );
}

#[test]
fn every_hash_edge_has_its_key_and_every_node_its_code() {
    let env = env();
    let all = words(&env).union(&words(&env));
    all.key_by::<i64, _>(|word| word.count).sum("count").print();
    let program = env.into_program("job").unwrap();
    let hashed: Vec<u32> = program
        .stream_graph
        .edges
        .iter()
        .filter(|edge| edge.partitioner() == Partitioner::Hash)
        .map(|edge| edge.id)
        .collect();
    assert_eq!(hashed, [1, 2]);
    assert!(hashed.iter().all(|edge| program.keys.contains_key(edge)));
    assert_eq!(program.keys.len(), 2);
    assert!(
        program
            .stream_graph
            .nodes
            .iter()
            .all(|node| program.nodes.contains_key(&node.id))
    );
}

#[test]
fn setters_reach_the_last_operator() {
    let env = env();
    env.set_parallelism(3)
        .set_max_parallelism(256)
        .disable_operator_chaining();
    words(&env)
        .uid("source")
        .map(|word| word.count)
        .name("count")
        .uid("count")
        .set_parallelism(4)
        .set_max_parallelism(64)
        .slot_sharing_group("heavy")
        .start_new_chain()
        .print()
        .uid("out")
        .disable_chaining();
    let graph = env.into_program("job").unwrap().stream_graph;
    let [source, map, sink] = graph.nodes.as_slice() else {
        panic!("{graph:?}")
    };
    assert_eq!((source.uid.as_str(), source.parallelism), ("source", 0));
    assert_eq!(
        (
            map.name.as_str(),
            map.uid.as_str(),
            map.parallelism,
            map.max_parallelism
        ),
        ("count", "count", 4, 64)
    );
    assert_eq!(
        (map.slot_sharing_group.as_str(), map.chaining()),
        ("heavy", ChainingStrategy::Head)
    );
    assert_eq!(
        (sink.uid.as_str(), sink.chaining()),
        ("out", ChainingStrategy::Never)
    );
    let configuration = |key: &str| graph.configuration[key].clone();
    assert_eq!(configuration("parallelism.default"), "3");
    assert_eq!(configuration("pipeline.max-parallelism"), "256");
    assert_eq!(configuration("pipeline.operator-chaining.enabled"), "false");
}

#[test]
fn the_fingerprint_tells_shapes_apart_and_not_parallelism() {
    let graph = |parallelism: u32, map: bool| {
        let env = env();
        env.set_parallelism(parallelism);
        let mut stream = words(&env);
        if map {
            stream = stream.map(|word| Word {
                word: word.word.to_owned(),
                count: word.count,
            });
        }
        stream
            .key_by_field::<String>("word")
            .sum("count")
            .set_parallelism(parallelism)
            .print();
        fingerprint(&env.into_program("job").unwrap().stream_graph)
    };
    assert_eq!(graph(1, true), graph(4, true));
    assert_ne!(graph(1, true), graph(1, false));
}

#[test]
fn an_unknown_field_is_refused_with_the_known_ones() {
    let sum = env();
    words(&sum).key_by_field::<String>("word").sum("cuont").print();
    assert_eq!(
        refusal(sum),
        "sum(): there is no column \"cuont\"; the columns are \"word\", \"count\""
    );
    let key = env();
    words(&key).key_by_field::<String>("w");
    assert_eq!(
        refusal(key),
        "key_by_field(): there is no column \"w\"; the columns are \"word\", \"count\""
    );
}

#[test]
fn fields_of_the_wrong_type_are_refused() {
    let sum = env();
    words(&sum).key_by_field::<i64>("count").sum("word");
    assert_eq!(
        refusal(sum),
        "sum(): column \"word\" is Utf8; an integer or a float is needed"
    );
    let key = env();
    words(&key).key_by_field::<String>("count");
    assert!(refusal(key).starts_with("key_by_field(): column \"count\" is Int64; the key type"));
    let nulls = env();
    let stream = nulls.from_elements([(Some(1_i64), 2_i64)]);
    stream.key_by_field::<Option<i64>>("f0").sum("f1");
    stream.key_by_field::<i64>("f0").sum("f1");
    assert_eq!(
        refusal(nulls),
        "key_by_field(): column \"f0\" is Int64, an Option; the key type i64 does not fit it"
    );
    let same = env();
    words(&same).key_by_field::<i64>("count").sum("count");
    assert_eq!(
        refusal(same),
        "sum(): column \"count\" is the key; another column is needed"
    );
}

#[test]
fn a_uid_names_one_operator() {
    let env = env();
    words(&env).uid("x").print().uid("x");
    assert_eq!(
        refusal(env),
        "operators \"Source: Data Generator\" and \"Sink: Print to Std. Out\" have the same uid \"x\": give each its own"
    );
}

#[test]
fn parallelism_out_of_range_is_refused() {
    let zero = env();
    words(&zero).set_parallelism(0).print();
    assert_eq!(
        refusal(zero),
        "parallelism of Source: Data Generator must be 1 to 32768, not 0"
    );
    let job = env();
    job.set_max_parallelism(40_000);
    words(&job).print();
    assert_eq!(
        refusal(job),
        "max parallelism of the job must be 1 to 32768, not 40000"
    );
    let above = env();
    words(&above)
        .map(|word| word.count)
        .set_parallelism(8)
        .set_max_parallelism(4);
    assert_eq!(
        refusal(above),
        "operator \"Map\" has parallelism 8, its max parallelism is 4"
    );
}

#[test]
fn forward_between_unequal_parallelisms_is_refused() {
    let env = env();
    words(&env)
        .set_parallelism(2)
        .forward()
        .map(|word| word.count)
        .set_parallelism(3);
    assert!(
        refusal(env).starts_with(
            "forward from \"Source: Data Generator\" (parallelism 2) to \"Map\" (parallelism 3)"
        )
    );
}

#[test]
fn setters_behind_no_operator_are_refused() {
    let env = env();
    let _ = words(&env).rebalance().uid("x");
    assert!(refusal(env).starts_with("uid() follows rebalance(), which is no operator"));
}

#[test]
fn a_job_without_operators_and_streams_of_two_environments_are_refused() {
    assert!(refusal(env()).starts_with("the job has no operators"));
    let (a, b) = (env(), env());
    words(&a).union(&words(&b)).print();
    assert!(refusal(a).contains("one package is one job"));
}

#[test]
fn a_source_must_give_the_streams_records() {
    let env = env();
    env.from_source::<i64>(thalweg_connectors::FileSource::for_text_lines("lines.txt"))
        .print();
    let message = refusal(env);
    assert!(
        message.contains("FileSource does not give records of type i64"),
        "{message}"
    );
    assert!(
        message.contains("column \"value\" is Utf8, Int64 is expected"),
        "{message}"
    );
}

#[test]
fn what_a_sink_refuses_is_the_graphs_error() {
    struct Picky;
    impl Sink for Picky {
        fn kind(&self) -> &'static str {
            "Picky"
        }
        fn validate(&self, input: &arrow::datatypes::SchemaRef) -> Result<(), ConnectorError> {
            Err(ConnectorError::Refused(format!("no {}", input.field(0).name())))
        }
        fn create_writer(&self, _: ConnectorContext) -> Result<Box<dyn SinkWriter>, ConnectorError> {
            Err(ConnectorError::Refused("not made".to_owned()))
        }
    }
    let env = env();
    words(&env).sink_to(Picky);
    assert_eq!(refusal(env), "Sink: Picky: no word");
}

#[test]
fn two_sinks_with_one_transactional_prefix_are_refused_by_both_names() {
    let sink = |topic: &str, prefix: &str| {
        KafkaSink::builder()
            .bootstrap_servers("broker:9092")
            .topic(topic)
            .delivery_guarantee(DeliveryGuarantee::ExactlyOnce)
            .transactional_id_prefix(prefix)
            .value_column("word")
            .build()
            .unwrap()
    };
    let job = |prefixes: [&str; 2]| {
        let env = env();
        words(&env).sink_to(sink("a", prefixes[0])).name("Orders");
        words(&env).sink_to(sink("b", prefixes[1])).name("Refunds");
        env
    };
    assert_eq!(
        refusal(job(["job", "job"])),
        "the sinks \"Sink: Orders\" and \"Sink: Refunds\" both have transactional_id_prefix \"job\": give each its own, or each takes what is the other's"
    );
    job(["job-orders", "job-refunds"]).into_program("job").unwrap();
}

#[test]
fn an_unknown_configuration_key_is_refused() {
    let env = env();
    env.configure("paralelism.default", 3);
    words(&env).print();
    let message = refusal(env);
    assert!(
        message.starts_with("configure(): ") && message.contains("paralelism.default"),
        "{message}"
    );
}

#[test]
fn elements_are_a_source_of_one_subtask() {
    let env = env();
    env.from_elements([1_i64, 2]).map(|n| n + 1).print();
    let graph = env.into_program("job").unwrap().stream_graph;
    assert_eq!((graph.nodes[0].parallelism, graph.nodes[1].parallelism), (1, 0));
    assert_eq!(
        graph.edges[0].partitioner(),
        Partitioner::Unspecified,
        "the default parallelism decides"
    );
}

/// Sends words that are counted once to a side output.
#[derive(Clone)]
struct Once;

fn once() -> OutputTag<String> {
    OutputTag::new("once")
}

impl ProcessFunction for Once {
    type In = Word;
    type Out = i64;

    fn process(
        &mut self,
        word: WordRef<'_>,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<i64>,
    ) -> Result<(), UserError> {
        match word.count {
            1 => ctx.output(&once(), word.word),
            count => out.collect(count),
        }
        Ok(())
    }
}

#[test]
fn a_side_output_is_an_edge_of_its_own() {
    let env = env();
    let counts = words(&env).process(Once).name("counts").uid("counts");
    counts.print();
    counts.get_side_output(&once()).print();
    counts.get_side_output(&once()).rebalance().blackhole();
    let graph = env.into_program("job").unwrap().stream_graph;
    assert_eq!(graph.nodes[1].operator, "Process");
    assert_eq!(graph.nodes[1].output_columns, ["value: BIGINT NOT NULL"]);
    let sides: Vec<_> = graph.nodes[1]
        .side_outputs
        .iter()
        .map(|side| (side.name.as_str(), &side.columns[..]))
        .collect();
    assert_eq!(sides, [("once", &["value: STRING NOT NULL".to_owned()][..])]);
    let taken: Vec<u32> = graph.edges.iter().map(|edge| edge.side_output).collect();
    assert_eq!(taken, [0, 0, 1, 1]);
}

#[test]
fn side_outputs_that_can_not_be_are_refused() {
    let none = env();
    let _ = words(&none).get_side_output(&once());
    assert!(
        refusal(none).contains("get_side_output(\"once\") follows an operator, which has no side outputs")
    );
    let view = env();
    let _ = words(&view).process(Once).rebalance().get_side_output(&once());
    assert!(refusal(view).contains("follows rebalance()"));
    let two_types = env();
    let counts = words(&two_types).process(Once);
    let _ = counts.get_side_output(&once());
    let _ = counts.get_side_output(&OutputTag::<i64>::new("once"));
    assert!(refusal(two_types).contains("can't have records of i64 too"));
    let setter = env();
    let _ = words(&setter).process(Once).get_side_output(&once()).uid("x");
    assert!(refusal(setter).starts_with("uid() follows get_side_output(), which is no operator"));
}

/// Counts both streams.
#[derive(Clone)]
struct Both;

impl KeyedCoProcessFunction for Both {
    type Key = String;
    type In1 = Word;
    type In2 = (i64, String);
    type Out = i64;

    fn process1(
        &mut self,
        _: WordRef<'_>,
        _: &mut Context<'_, String>,
        out: &mut Collector<i64>,
    ) -> Result<(), UserError> {
        out.collect(1);
        Ok(())
    }

    fn process2(
        &mut self,
        _: (i64, &str),
        _: &mut Context<'_, String>,
        out: &mut Collector<i64>,
    ) -> Result<(), UserError> {
        out.collect(2);
        Ok(())
    }
}

/// Passes words on.
#[derive(Clone)]
struct Pass;

impl BroadcastProcessFunction for Pass {
    type In = Word;
    type Broadcast = i64;
    type Out = String;

    fn process(
        &mut self,
        word: WordRef<'_>,
        _: &mut ProcessContext<'_>,
        out: &mut Collector<String>,
    ) -> Result<(), UserError> {
        out.collect(word.word);
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        _: i64,
        _: &mut BroadcastContext<'_>,
        _: &mut Collector<String>,
    ) -> Result<(), UserError> {
        Ok(())
    }
}

#[test]
fn connected_streams_are_two_inputs_of_one_operator() {
    let env = env();
    let first = words(&env).name("first");
    let second = env.from_elements([(1_i64, "a".to_owned())]).name("second");
    let numbers = env.from_elements([1_i64]).name("numbers");
    first.connect(&numbers).map(|word| word.count, |n| n).print();
    first
        .key_by_field::<String>("word")
        .connect(&second.key_by::<String, _>(|(_, word)| word))
        .process(Both);
    first.connect_broadcast(&numbers.broadcast_state()).process(Pass);
    first
        .key_by_field::<String>("word")
        .connect(&second.key_by::<String, _>(|(_, word)| word))
        .flat_map(
            |word, out: &mut Collector<i64>| out.collect(word.count),
            |(n, _), out: &mut Collector<i64>| out.collect(n),
        );
    first
        .connect(&second)
        .key_by::<String, _, _>(|word| word.word, |(_, word)| word)
        .process(Both);
    let graph = env.into_program("job").unwrap().stream_graph;
    let nodes: Vec<_> = graph.nodes[3..].iter().map(|node| node.name.as_str()).collect();
    assert_eq!(
        nodes,
        [
            "Co-Map",
            "Sink: Print to Std. Out",
            "Co-Keyed-Process",
            "Co-Process-Broadcast",
            "Co-Flat Map",
            "Co-Keyed-Process"
        ]
    );
    assert_eq!(graph.nodes[5].key_columns, ["word"]);
    let edges: Vec<_> = graph
        .edges
        .iter()
        .filter(|edge| [4, 6, 7, 8].contains(&edge.target))
        .map(|edge| (edge.source, edge.target, edge.input, edge.partitioner()))
        .collect();
    use Partitioner::{Broadcast, Forward, Hash, Unspecified};
    assert_eq!(
        edges,
        [
            (1, 4, 0, Forward),
            (3, 4, 1, Unspecified),
            (1, 6, 0, Hash),
            (2, 6, 1, Hash),
            (1, 7, 0, Forward),
            (3, 7, 1, Broadcast),
            (1, 8, 0, Hash),
            (2, 8, 1, Hash),
        ]
    );
}
