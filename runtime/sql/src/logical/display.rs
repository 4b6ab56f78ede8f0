//! Relations as text, one a line, inputs below: what tests compare.

use std::fmt;

use thalweg_functions::user::displayed;
use thalweg_plan::Expr;
use thalweg_plan::spec::SortKey;

use super::{Aggregation, Rel, RelKind};

impl fmt::Display for Rel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_rel(self, 0, f)
    }
}

fn write_rel(rel: &Rel, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{:1$}", "", depth * 2)?;
    writeln!(f, "{}", line(&rel.kind))?;
    for input in inputs(&rel.kind) {
        write_rel(input, depth + 1, f)?;
    }
    Ok(())
}

fn inputs(kind: &RelKind) -> Vec<&Rel> {
    match kind {
        RelKind::Scan(_) | RelKind::Values(_) => Vec::new(),
        RelKind::Project { input, .. }
        | RelKind::Filter { input, .. }
        | RelKind::WindowTableFunction { input, .. }
        | RelKind::Aggregate { input, .. }
        | RelKind::Over { input, .. }
        | RelKind::Rank { input, .. }
        | RelKind::Correlate { input, .. }
        | RelKind::Sort { input, .. } => vec![input],
        RelKind::Join { left, right, .. }
        | RelKind::TemporalJoin { left, right, .. }
        | RelKind::SetOperation { left, right, .. } => vec![left, right],
        RelKind::Union(inputs) => inputs.iter().collect(),
    }
}

fn line(kind: &RelKind) -> String {
    match kind {
        RelKind::Scan(table) => format!("Scan {}", table.path.name),
        RelKind::Values(rows) => {
            let rows: Vec<String> = rows.iter().map(|row| list(row)).collect();
            format!("Values {}", rows.join(" "))
        }
        RelKind::Project { exprs, .. } => format!("Project {}", list(exprs)),
        RelKind::Filter { condition, .. } => format!("Filter {condition}"),
        RelKind::WindowTableFunction { window, .. } => {
            format!("Window {:?} of ${}", window.kind, window.time)
        }
        RelKind::Aggregate {
            groups,
            sets,
            grouping_ids,
            calls,
            window,
            ttl_ms,
            ..
        } => {
            let mut line = format!("Aggregate {groups:?} {}", calls_text(calls.iter()));
            if let Some(ttl) = ttl_ms {
                line.push_str(&format!(" ttl {ttl}"));
            }
            if !sets.is_empty() {
                line.push_str(&format!(" sets {sets:?} grouping {grouping_ids:?}"));
            }
            if let Some(window) = window {
                let properties: Vec<String> = window
                    .properties
                    .iter()
                    .map(|(property, _)| format!("{property:?}"))
                    .collect();
                line.push_str(&format!(
                    " {:?} of ${} [{}]",
                    window.window.kind,
                    window.window.time,
                    properties.join(", ")
                ));
            }
            line
        }
        RelKind::Over {
            partition,
            order,
            calls,
            ..
        } => {
            let frames: Vec<String> = calls.iter().map(|over| format!("{:?}", over.frame)).collect();
            format!(
                "Over {partition:?} by {} {} {}",
                keys_text(order),
                calls_text(calls.iter().map(|over| &over.call)),
                frames.join(", ")
            )
        }
        RelKind::Rank {
            partition,
            order,
            start,
            end,
            ..
        } => format!("Rank {partition:?} by {} {start}..{end:?}", keys_text(order)),
        RelKind::Join {
            kind,
            condition,
            ttl_ms,
            null_aware,
            ..
        } => {
            let ttl = match ttl_ms {
                [None, None] => String::new(),
                ttl => format!(" ttl {ttl:?}"),
            };
            let nulls = if *null_aware { " null aware" } else { "" };
            format!("Join {kind:?} {}{ttl}{nulls}", condition_text(condition.as_ref()))
        }
        RelKind::TemporalJoin {
            kind,
            condition,
            time,
            ..
        } => format!(
            "TemporalJoin {kind:?} at ${time} {}",
            condition_text(condition.as_ref())
        ),
        RelKind::Correlate {
            function,
            args,
            left_outer,
            ..
        } => format!(
            "Correlate {}{}{}",
            displayed(function),
            list(args),
            if *left_outer { " left" } else { "" }
        ),
        RelKind::Union(_) => "Union".to_owned(),
        RelKind::SetOperation { except, all, .. } => format!(
            "{}{}",
            if *except { "Except" } else { "Intersect" },
            if *all { " all" } else { "" }
        ),
        RelKind::Sort {
            keys, offset, fetch, ..
        } => format!("Sort {} offset {offset} fetch {fetch:?}", keys_text(keys)),
    }
}

fn list(exprs: &[Expr]) -> String {
    let texts: Vec<String> = exprs.iter().map(ToString::to_string).collect();
    format!("({})", texts.join(", "))
}

fn condition_text(condition: Option<&Expr>) -> String {
    condition.map_or_else(|| "on TRUE".to_owned(), |condition| format!("on {condition}"))
}

fn keys_text(keys: &[SortKey]) -> String {
    let key = |key: &SortKey| {
        let direction = if key.descending { " DESC" } else { "" };
        format!("${}{direction}", key.column)
    };
    let keys: Vec<String> = keys.iter().map(key).collect();
    format!("({})", keys.join(", "))
}

fn calls_text<'a>(calls: impl Iterator<Item = &'a Aggregation>) -> String {
    let call = |call: &Aggregation| {
        let args: Vec<String> = call.args.iter().map(|arg| format!("${arg}")).collect();
        let distinct = if call.distinct { "DISTINCT " } else { "" };
        let filter = call.filter.map(|filter| format!(" FILTER ${filter}"));
        format!(
            "{}({distinct}{}){}: {}",
            call.function,
            args.join(", "),
            filter.unwrap_or_default(),
            call.data_type
        )
    };
    let calls: Vec<String> = calls.map(call).collect();
    format!("[{}]", calls.join(", "))
}
