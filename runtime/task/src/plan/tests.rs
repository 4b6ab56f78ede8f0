use super::*;
use crate::testkit::*;

fn job() -> (JobProgram, control::TaskDeployment) {
    let source = ScriptedSource::new(vec![], Then::End);
    let program = program(
        vec![
            (1, source.node()),
            (2, map(|n| n)),
            (3, CollectSink::default().node()),
        ],
        &[7],
    );
    (program, deployment(&vertex(&[1, 2, 3], 4), 2))
}

/// What a changed deployment is refused with.
fn refusal(change: impl FnOnce(&mut JobProgram, &mut control::TaskDeployment)) -> String {
    let (mut program, mut deployment) = job();
    change(&mut program, &mut deployment);
    TaskPlan::new(&deployment, &program)
        .err()
        .expect("it was accepted")
        .to_string()
}

fn chain(deployment: &mut control::TaskDeployment) -> &mut graph::JobVertex {
    deployment.vertex.as_mut().unwrap()
}

#[test]
fn a_deployment_that_fits_becomes_a_plan() {
    let (program, mut deployment) = job();
    deployment.outputs.push(control::OutputChannels {
        edge: Some(edge(7, 2, 9, 0, Partitioner::Hash)),
        consumers: vec![0, 1],
        consumer_max_parallelism: 128,
        consumer_parallelism: 2,
    });
    deployment
        .configuration
        .insert("execution.buffer-timeout.interval".to_owned(), "7 ms".to_owned());
    let plan = TaskPlan::new(&deployment, &program).unwrap();
    assert_eq!(&*plan.task_name, "node 1 -> node 2 -> node 3 (3/4)");
    assert_eq!(plan.buffer_timeout, Some(Duration::from_millis(7)));
    let child = Child {
        node: 1,
        input: 0,
        side: 0,
    };
    assert_eq!(plan.nodes[0].children, [child]);
    assert_eq!(plan.nodes[1].outputs, [0]);
    assert!(plan.outputs[0].key.is_some());
}

#[test]
fn a_node_that_the_program_has_not_is_named() {
    let message = refusal(|program, _| drop(program.nodes.remove(&2)));
    assert!(
        message.contains("the program has no operator 2 (\"node 2\")"),
        "{message}"
    );
}

#[test]
fn a_keyed_edge_without_a_key_is_named() {
    let message = refusal(|program, deployment| {
        program.keys.clear();
        let edge = Some(edge(7, 2, 9, 0, Partitioner::Hash));
        deployment.outputs.push(control::OutputChannels {
            edge,
            consumers: vec![0],
            ..Default::default()
        });
    });
    assert!(message.contains("no key for edge 7"), "{message}");
}

#[test]
fn a_chain_must_be_a_tree_in_topological_order() {
    let message = refusal(|_, deployment| chain(deployment).chain.swap(1, 2));
    assert!(message.contains("does not lead on within its chain"), "{message}");
    let message = refusal(|_, deployment| {
        chain(deployment)
            .chained_edges
            .push(edge(50, 1, 3, 0, Partitioner::Forward));
    });
    assert!(
        message.contains("node 3 has 2 edges within the chain"),
        "{message}"
    );
}

#[test]
fn a_subtask_beyond_the_parallelism_is_refused() {
    let message = refusal(|_, deployment| deployment.execution.as_mut().unwrap().subtask = 4);
    assert!(message.contains("parallelism 4"), "{message}");
}

#[test]
fn a_chain_without_a_source_needs_channels() {
    let message = refusal(|_, deployment| deployment.vertex = Some(vertex(&[2, 3], 4)));
    assert!(message.contains("nothing feeds its chain"), "{message}");
}

#[test]
fn an_id_that_is_no_id_is_refused_by_name() {
    let message = refusal(|_, deployment| deployment.execution.as_mut().unwrap().vertex_id = "v".to_owned());
    assert!(message.contains("\"v\" is not an id"), "{message}");
}

#[test]
fn a_malformed_configuration_is_fatal_and_named() {
    let (program, mut deployment) = job();
    deployment
        .configuration
        .insert("execution.buffer-timeout.interval".to_owned(), "soon".to_owned());
    let error = TaskPlan::new(&deployment, &program).err().unwrap();
    assert!(
        error.to_string().contains("execution.buffer-timeout.interval"),
        "{error}"
    );
    assert_eq!(
        thalweg_types::Classify::class(&error),
        thalweg_types::FailureClass::Fatal
    );
}
