//! EXPLAIN: the query as it is meant, the operators that compute it.

use std::fmt::Write;

use thalweg_functions::user::displayed;
use thalweg_plan::connector::Connectors;
use thalweg_plan::{Distribution, Node, NodeSpec, Plan};
use thalweg_types::config::Configuration;

use super::settings::Settings;
use super::warnings::state_warnings;
use super::{plan, query};
use crate::error::SqlError;
use crate::logical::{BoundStatement, Rel, RelKind};

/// What EXPLAIN shows beside the operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExplainDetails {
    /// CHANGELOG_MODE: which changes each operator gives.
    pub changelog_mode: bool,
}

/// The text of EXPLAIN.
pub fn explain(
    statements: &[BoundStatement],
    connectors: &dyn Connectors,
    configuration: &Configuration,
    details: ExplainDetails,
) -> Result<String, SqlError> {
    let settings = Settings::of(configuration)?;
    let plan = plan(statements, connectors, configuration)?;
    let mut text = String::from("== Abstract Syntax Tree ==\n");
    for statement in statements {
        if let BoundStatement::Insert { table, .. } = statement {
            let _ = writeln!(text, "LogicalSink(table=[{}])", table.path);
            tree_of_rel(query(statement), &mut Indent::below(), &mut text);
        } else {
            tree_of_rel(query(statement), &mut Indent::default(), &mut text);
        }
        text.push('\n');
    }
    text.push_str("== Optimized Execution Plan ==\n");
    text.push_str(&tree(&plan, details));
    text.push_str(match (settings.is_batch, settings.fold_batches) {
        (true, _) => "All between the sources and a sink is one task (execution.runtime-mode is BATCH).",
        (false, true) => {
            "Updates within a batch are folded before they are emitted (table.exec.mini-batch.enabled is not false)."
        }
        (false, false) => "Each row gives its own changes (table.exec.mini-batch.enabled is false).",
    });
    text.push('\n');
    let warnings = match settings.is_batch {
        true => Vec::new(),
        false => state_warnings(&plan),
    };
    for warning in warnings {
        let _ = writeln!(text, "Warning: {warning}.");
    }
    Ok(text)
}

/// The operators of each sink, the sink first.
pub fn tree(plan: &Plan, details: ExplainDetails) -> String {
    let mut text = String::new();
    for node in plan
        .nodes
        .iter()
        .filter(|node| matches!(node.spec, NodeSpec::Sink(_)))
    {
        tree_of_node(plan, node, details, &mut Indent::default(), &mut text);
        text.push('\n');
    }
    text
}

/// What stands before a line of a tree.
#[derive(Default)]
struct Indent(Vec<bool>);

impl Indent {
    fn below() -> Self {
        Self(vec![false])
    }

    /// Writes a line and then its inputs, each one step further in.
    fn line(&self, line: &str, text: &mut String) {
        if let Some((more_here, outer)) = self.0.split_last() {
            for more in outer {
                text.push_str(if *more { ":  " } else { "   " });
            }
            text.push_str(if *more_here { ":- " } else { "+- " });
        }
        text.push_str(line);
        text.push('\n');
    }

    fn inputs<T>(&mut self, inputs: &[T], mut each: impl FnMut(&T, &mut Self)) {
        for (position, input) in inputs.iter().enumerate() {
            self.0.push(position + 1 < inputs.len());
            each(input, self);
            self.0.pop();
        }
    }
}

fn tree_of_node(plan: &Plan, node: &Node, details: ExplainDetails, indent: &mut Indent, text: &mut String) {
    let mode = match details.changelog_mode {
        true => format!(", changelogMode=[{}]", node.changelog),
        false => String::new(),
    };
    let name = node.name.strip_suffix(')').unwrap_or(&node.name);
    let name = name.strip_suffix("(").map_or_else(
        || format!("{name}{mode})"),
        |kind| format!("{kind}({})", mode.trim_start_matches(", ")),
    );
    let name = match node.spec {
        NodeSpec::Sink(_) => name.replacen(&mode, "", 1),
        _ => name,
    };
    indent.line(&name, text);
    indent.inputs(&node.inputs, |input, indent| {
        let source = &plan.nodes[input.node];
        let name = |column: &usize| source.schema.fields.get(*column).map(|field| field.name.as_str());
        let exchange = match &input.distribution {
            Distribution::Forward => None,
            Distribution::Hash(columns) => {
                let columns: Vec<&str> = columns.iter().filter_map(name).collect();
                Some(format!("hash[{}]", columns.join(", ")))
            }
            Distribution::Singleton => Some("single".to_owned()),
            Distribution::Broadcast => Some("broadcast".to_owned()),
        };
        match exchange {
            None => tree_of_node(plan, source, details, indent, text),
            Some(distribution) => {
                indent.line(
                    &format!(
                        "Exchange(distribution=[{distribution}]{})",
                        mode_of(source, details)
                    ),
                    text,
                );
                indent.inputs(&[source], |source, indent| {
                    tree_of_node(plan, source, details, indent, text);
                });
            }
        }
    });
}

fn mode_of(node: &Node, details: ExplainDetails) -> String {
    match details.changelog_mode {
        true => format!(", changelogMode=[{}]", node.changelog),
        false => String::new(),
    }
}

fn tree_of_rel(rel: &Rel, indent: &mut Indent, text: &mut String) {
    let (line, inputs) = described(rel);
    indent.line(&line, text);
    indent.inputs(&inputs, |input, indent| tree_of_rel(input, indent, text));
}

fn described(rel: &Rel) -> (String, Vec<&Rel>) {
    match &rel.kind {
        RelKind::Scan(table) => {
            let path = &table.path;
            let line = format!(
                "LogicalTableScan(table=[[{}, {}, {}]])",
                path.catalog, path.database, path.name
            );
            (line, Vec::new())
        }
        RelKind::Values(rows) => (format!("LogicalValues(rows=[{}])", rows.len()), Vec::new()),
        RelKind::Project { input, exprs } => {
            let fields = rel.schema.fields.iter().zip(exprs);
            let columns: Vec<String> = fields
                .map(|(field, expr)| format!("{}=[{expr}]", field.name))
                .collect();
            (format!("LogicalProject({})", columns.join(", ")), vec![input])
        }
        RelKind::Filter { input, condition } => {
            (format!("LogicalFilter(condition=[{condition}])"), vec![input])
        }
        RelKind::WindowTableFunction { input, window } => {
            let window = super::names::window(window.kind, window.offset_ms);
            (
                format!("LogicalTableFunctionScan(invocation=[{window}])"),
                vec![input],
            )
        }
        RelKind::Aggregate {
            input,
            groups,
            sets,
            calls,
            ..
        } => {
            let calls: Vec<String> = calls
                .iter()
                .map(|call| format!("{}=[{}({:?})]", call.name, displayed(&call.function), call.args))
                .collect();
            let sets = if sets.is_empty() {
                String::new()
            } else {
                format!(", groups=[{sets:?}]")
            };
            let line = format!("LogicalAggregate(group=[{groups:?}]{sets}, {})", calls.join(", "));
            (line, vec![input])
        }
        RelKind::Over { input, calls, .. } => {
            let calls: Vec<&str> = calls.iter().map(|call| call.call.function.as_str()).collect();
            (
                format!("LogicalWindow(functions=[{}])", calls.join(", ")),
                vec![input],
            )
        }
        RelKind::Rank {
            input, start, end, ..
        } => (
            format!("LogicalRank(start=[{start}], end=[{end:?}])"),
            vec![input],
        ),
        RelKind::Join {
            left,
            right,
            kind,
            condition,
            ..
        } => {
            let condition = condition
                .as_ref()
                .map_or_else(|| "true".to_owned(), ToString::to_string);
            let kind = format!("{kind:?}").to_lowercase();
            (
                format!("LogicalJoin(condition=[{condition}], joinType=[{kind}])"),
                vec![left, right],
            )
        }
        RelKind::TemporalJoin {
            left, right, kind, ..
        } => {
            let kind = format!("{kind:?}").to_lowercase();
            (
                format!("LogicalTemporalJoin(joinType=[{kind}])"),
                vec![left, right],
            )
        }
        RelKind::Correlate { input, function, .. } => {
            let invocation = displayed(function);
            (
                format!("LogicalCorrelate(invocation=[{invocation}])"),
                vec![input],
            )
        }
        RelKind::Union(inputs) => ("LogicalUnion(all=[true])".to_owned(), inputs.iter().collect()),
        RelKind::SetOperation {
            except,
            all,
            left,
            right,
        } => {
            let kind = if *except {
                "LogicalMinus"
            } else {
                "LogicalIntersect"
            };
            (format!("{kind}(all=[{all}])"), vec![left, right])
        }
        RelKind::Sort {
            input, offset, fetch, ..
        } => {
            let fetch = fetch
                .map(|fetch| format!(", fetch=[{fetch}]"))
                .unwrap_or_default();
            (format!("LogicalSort(offset=[{offset}]{fetch})"), vec![input])
        }
    }
}
