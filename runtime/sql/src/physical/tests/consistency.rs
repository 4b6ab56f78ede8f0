//! Whether a plan is one that operators can run: columns are there and have the types that they are read with.

use thalweg_plan::spec::{AggregateCall, JoinKeys, RankEnd, RankSpec, Windowing};
use thalweg_plan::{Distribution, Expr, ExprKind, Node, NodeSpec, Plan, Schema};

/// Panics with the node's name if it isn't.
pub(crate) fn check(plan: &Plan) {
    for (id, node) in plan.nodes.iter().enumerate() {
        assert_eq!(node.id, id);
        let inputs: Vec<&Schema> = node
            .inputs
            .iter()
            .map(|input| {
                assert!(input.node < id, "{}: an input comes behind it", node.name);
                let schema = &plan.nodes[input.node].schema;
                if let Distribution::Hash(columns) = &input.distribution {
                    assert!(!columns.is_empty(), "{}", node.name);
                    in_range(node, columns, schema);
                }
                schema
            })
            .collect();
        check_node(node, &inputs);
        let width = node.schema.fields.len();
        assert!(
            node.upsert_keys.iter().flatten().all(|&column| column < width),
            "{}: {:?}",
            node.name,
            node.upsert_keys
        );
    }
    let mut uids: Vec<&str> = plan.nodes.iter().map(|node| node.uid.as_str()).collect();
    uids.sort_unstable();
    uids.dedup();
    assert_eq!(uids.len(), plan.nodes.len(), "each operator has a uid of its own");
}

fn check_node(node: &Node, inputs: &[&Schema]) {
    let both = Schema {
        fields: inputs.iter().flat_map(|input| &input.fields).cloned().collect(),
    };
    let input = inputs.first().copied();
    match (&node.spec, input) {
        (NodeSpec::Source(spec), None) => {
            assert_eq!(spec.columns.len(), node.schema.fields.len(), "{}", node.name);
        }
        (NodeSpec::Values(rows), None) => {
            assert!(
                rows.iter().all(|row| row.len() == node.schema.fields.len()),
                "{}",
                node.name
            );
        }
        (NodeSpec::Calc { projection, filter }, Some(input)) => {
            exprs(node, projection.iter().chain(filter), input);
            gives(node, projection);
        }
        (NodeSpec::WatermarkAssigner(spec), Some(input)) => {
            in_range(node, &[spec.rowtime], input);
            exprs(node, [&spec.expression], input);
        }
        (NodeSpec::Union, Some(_)) => {
            for input in inputs {
                assert_eq!(*input, &node.schema, "{}", node.name);
            }
        }
        (NodeSpec::Expand(rows), Some(input)) => rows.iter().for_each(|row| {
            exprs(node, row, input);
            gives(node, row);
        }),
        (NodeSpec::Correlate(spec), Some(input)) => {
            exprs(node, &spec.args, input);
            assert_eq!(
                node.schema.fields.len(),
                input.fields.len() + spec.columns.len(),
                "{}",
                node.name
            );
        }
        (NodeSpec::GroupAggregate(spec) | NodeSpec::LocalGroupAggregate(spec), Some(input)) => {
            in_range(node, &spec.keys, input);
            calls(node, &spec.aggregates, input);
        }
        (NodeSpec::WindowTableFunction(spec), Some(input)) => {
            in_range(node, &[spec.time], input);
            in_range(node, &spec.partition, input);
            assert_eq!(node.schema.fields.len(), input.fields.len() + 3, "{}", node.name);
        }
        (NodeSpec::WindowAggregate(spec), Some(input)) => {
            in_range(node, &spec.keys, input);
            calls(node, &spec.aggregates, input);
            match &spec.windowing {
                Windowing::Assign(window) => in_range(node, &[window.time], input),
                Windowing::Attached(window) => in_range(node, &[window.start, window.end], input),
            }
            let width = spec.keys.len() + spec.aggregates.len() + spec.properties.len();
            assert_eq!(node.schema.fields.len(), width, "{}", node.name);
        }
        (NodeSpec::OverAggregate(spec), Some(input)) => {
            in_range(node, &spec.partition, input);
            spec.groups
                .iter()
                .for_each(|(_, group)| calls(node, group, input));
            let added: usize = spec.groups.iter().map(|(_, group)| group.len()).sum();
            assert_eq!(
                node.schema.fields.len(),
                input.fields.len() + added,
                "{}",
                node.name
            );
        }
        (NodeSpec::Join(spec), Some(_)) => join(node, &spec.keys, spec.condition.as_ref(), inputs, &both),
        (NodeSpec::IntervalJoin(spec), Some(input)) => {
            in_range(node, &[spec.left_time], input);
            in_range(node, &[spec.right_time], inputs[1]);
            join(node, &spec.keys, spec.condition.as_ref(), inputs, &both);
        }
        (NodeSpec::TemporalJoin(spec), Some(input)) => {
            in_range(node, &[spec.left_time], input);
            in_range(node, spec.right_time.as_slice(), inputs[1]);
            join(node, &spec.keys, spec.condition.as_ref(), inputs, &both);
        }
        (NodeSpec::WindowJoin(spec), Some(input)) => {
            in_range(node, &[spec.left_window.start, spec.left_window.end], input);
            in_range(node, &[spec.right_window.start, spec.right_window.end], inputs[1]);
            join(node, &spec.keys, spec.condition.as_ref(), inputs, &both);
        }
        (
            NodeSpec::Rank(spec) | NodeSpec::SortLimit(spec) | NodeSpec::WindowRank { rank: spec, .. },
            Some(input),
        ) => {
            rank(node, spec, input);
        }
        (
            NodeSpec::Deduplicate(spec)
            | NodeSpec::WindowDeduplicate {
                deduplicate: spec, ..
            },
            Some(input),
        ) => {
            in_range(node, &spec.keys, input);
            in_range(node, spec.rowtime.as_slice(), input);
            assert_eq!(node.schema.fields.len(), input.fields.len(), "{}", node.name);
        }
        (NodeSpec::ChangelogNormalize { keys, .. }, Some(input)) => in_range(node, keys, input),
        (NodeSpec::SinkMaterializer { primary_key, .. }, Some(input)) => in_range(node, primary_key, input),
        (NodeSpec::Sink(spec), Some(input)) => {
            assert_eq!(spec.changelog, node.changelog, "{}", node.name);
            assert_eq!(spec.schema.fields.len(), input.fields.len(), "{}", node.name);
        }
        (
            NodeSpec::GlobalGroupAggregate(_)
            | NodeSpec::LookupJoin(_)
            | NodeSpec::DropUpdateBefore
            | NodeSpec::Limit { .. }
            | NodeSpec::Sort(_)
            | NodeSpec::TemporalSort(_),
            Some(_),
        ) => {}
        (_, _) => panic!("{}: {} inputs", node.name, inputs.len()),
    }
}

fn in_range(node: &Node, columns: &[usize], input: &Schema) {
    let width = input.fields.len();
    assert!(
        columns.iter().all(|&column| column < width),
        "{}: {columns:?} of {width}",
        node.name
    );
}

/// Columns are read with the types that they have; time attributes and nullability don't matter.
fn exprs<'a>(node: &Node, list: impl IntoIterator<Item = &'a Expr>, input: &Schema) {
    for expr in list {
        expr.visit(&mut |part| {
            if let ExprKind::Column(column) = part.kind {
                let field = input.fields.get(column);
                let known = field.map(|field| field.data_type.to_arrow());
                assert_eq!(
                    known,
                    Some(part.data_type.to_arrow()),
                    "{}: column {column}",
                    node.name
                );
            }
        });
    }
}

fn gives(node: &Node, exprs: &[Expr]) {
    let types = exprs.iter().map(|expr| expr.data_type.to_arrow());
    let fields = node.schema.fields.iter().map(|field| field.data_type.to_arrow());
    assert!(types.eq(fields), "{}", node.name);
}

fn calls(node: &Node, list: &[AggregateCall], input: &Schema) {
    for call in list {
        in_range(node, &call.args, input);
        in_range(node, call.filter.as_slice(), input);
        let types = call.args.iter().map(|&column| &input.fields[column].data_type);
        assert!(types.eq(&call.arg_types), "{}", node.name);
    }
}

fn join(node: &Node, keys: &JoinKeys, condition: Option<&Expr>, inputs: &[&Schema], both: &Schema) {
    let [left, right] = inputs else {
        panic!("{}: {} inputs", node.name, inputs.len());
    };
    in_range(node, &keys.left, left);
    in_range(node, &keys.right, right);
    assert_eq!(keys.left.len(), keys.null_safe.len(), "{}", node.name);
    let of = |schema: &Schema, columns: &[usize]| {
        let types = columns
            .iter()
            .map(|&column| schema.fields[column].data_type.to_arrow());
        types.collect::<Vec<_>>()
    };
    assert_eq!(of(left, &keys.left), of(right, &keys.right), "{}", node.name);
    exprs(node, condition, both);
}

fn rank(node: &Node, rank: &RankSpec, input: &Schema) {
    in_range(node, &rank.partition, input);
    let order: Vec<usize> = rank.order.iter().map(|key| key.column).collect();
    in_range(node, &order, input);
    if let RankEnd::Column(column) = rank.end {
        in_range(node, &[column], input);
    }
    let width = input.fields.len() + usize::from(rank.with_rank);
    assert_eq!(node.schema.fields.len(), width, "{}", node.name);
}
