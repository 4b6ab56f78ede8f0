//! What a plan asks of users' aggregate functions, and whether they can do it.

use thalweg_functions::user::{UserFunctions, displayed, is_user};
use thalweg_plan::spec::{AggregateCall, WindowAggregateSpec, WindowKind, Windowing};
use thalweg_plan::{Node, NodeSpec, Plan};

use crate::error::SqlError;

/// Refuses a plan in which rows are taken back from a function without a retract, or accumulators are put together of one without a merge.
pub fn check_user_functions(plan: &Plan, functions: &UserFunctions) -> Result<(), SqlError> {
    plan.nodes.iter().try_for_each(|node| check(node, functions))
}

fn check(node: &Node, functions: &UserFunctions) -> Result<(), SqlError> {
    let refused = |call: &AggregateCall, why: &str| {
        let message = format!("Function '{}' {why}, in {}", displayed(&call.function), node.name);
        Err(SqlError::unsupported(message, None))
    };
    let (calls, merges) = match &node.spec {
        NodeSpec::GroupAggregate(spec)
        | NodeSpec::LocalGroupAggregate(spec)
        | NodeSpec::GlobalGroupAggregate(spec) => (spec.aggregates.as_slice(), false),
        NodeSpec::WindowAggregate(spec) => (spec.aggregates.as_slice(), puts_together(spec)),
        _ => return Ok(()),
    };
    for call in calls.iter().filter(|call| is_user(&call.function)) {
        let function = functions.aggregate_function(&call.function, &call.arg_types);
        let function = function.map_err(|message| SqlError::unsupported(message, None))?;
        if call.retracts && !function.retracts() {
            return refused(call, "has no retract, and rows of its input are taken back");
        }
        if merges && !function.merges() {
            return refused(call, "has no merge, which windows need that share rows or grow");
        }
    }
    Ok(())
}

fn puts_together(spec: &WindowAggregateSpec) -> bool {
    match &spec.windowing {
        Windowing::Assign(window) => !matches!(window.kind, WindowKind::Tumble { .. }),
        Windowing::Attached(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::ArrayRef;
    use thalweg_functions::user::{AggregateFunction, AggregateFunctionTypes, UserFunctions};
    use thalweg_plan::connector::{
        CatalogTable, ConnectorProblem, Connectors, SinkAbilities, SourceAbilities,
    };
    use thalweg_plan::{ChangelogMode, DataType, Field, TypeRoot};
    use thalweg_types::config::Configuration;

    use crate::script::Script;
    use crate::script_job::script_job;
    use crate::session::Session;

    /// A function that is planned and never called.
    struct Total {
        whole: bool,
    }

    impl AggregateFunction for Total {
        fn types(&self, args: &[DataType]) -> Result<AggregateFunctionTypes, String> {
            if args.len() != 1 {
                return Err("(BIGINT)".to_owned());
            }
            let number = DataType::nullable(TypeRoot::BigInt);
            Ok(AggregateFunctionTypes {
                args: vec![number.clone()],
                accumulator: vec![Field::new("total", number.clone())],
                result: number,
            })
        }

        fn accumulate(&self, _: &[ArrayRef], _: &[u32], _: &[ArrayRef]) -> Result<Vec<ArrayRef>, String> {
            Err("it is not called".to_owned())
        }

        fn evaluate(&self, _: &[ArrayRef], _: usize) -> Result<ArrayRef, String> {
            Err("it is not called".to_owned())
        }

        fn retracts(&self) -> bool {
            self.whole
        }

        fn merges(&self) -> bool {
            self.whole
        }
    }

    struct Anything;

    impl Connectors for Anything {
        fn source(&self, _table: &CatalogTable) -> Result<SourceAbilities, ConnectorProblem> {
            Ok(SourceAbilities {
                changelog: ChangelogMode::INSERT_ONLY,
                bounded: true,
                metadata: Vec::new(),
                projection: true,
                nested_projection: false,
                filters: false,
                limit: false,
                watermark: false,
                lookup: false,
            })
        }

        fn sink(&self, _table: &CatalogTable) -> Result<SinkAbilities, ConnectorProblem> {
            Ok(SinkAbilities {
                changelog: ChangelogMode::ALL,
                metadata: Vec::new(),
                overwrite: false,
                parallelism: None,
            })
        }

        fn names(&self) -> Vec<&'static str> {
            vec!["any"]
        }
    }

    /// What is said of a query with a function that can do all, or only what it must.
    fn said(query: &str, whole: bool) -> String {
        let text = format!(
            "CREATE TABLE t (k BIGINT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'any');
             CREATE TABLE s (v BIGINT) WITH ('connector' = 'any');
             CREATE FUNCTION total AS 'a.Total';
             INSERT INTO s {query};"
        );
        let script = Script::parse(&text, &BTreeMap::new()).unwrap();
        let functions = UserFunctions::default().aggregate("a.Total", Total { whole });
        let session = Session::new(Configuration::default()).with_functions(Arc::new(functions));
        let said = script_job(&script, session, &Anything).err();
        said.map(|error| error.message).unwrap_or_default()
    }

    fn window(kind: &str) -> String {
        format!("SELECT total(v) FROM TABLE({kind}) GROUP BY window_start, window_end")
    }

    #[test]
    fn rows_are_added_to_any_function() {
        assert_eq!(said("SELECT total(v) FROM t GROUP BY k", false), "");
        assert_eq!(
            said(
                "SELECT total(DISTINCT v) FILTER (WHERE v > 1) FROM t HAVING total(v) > 3",
                false
            ),
            ""
        );
        let tumble = window("TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR)");
        assert_eq!(said(&tumble, false), "");
    }

    #[test]
    fn rows_that_are_taken_back_need_a_retract() {
        let updates = "SELECT total(c) FROM (SELECT COUNT(*) AS c FROM t GROUP BY k)";
        assert_eq!(said(updates, true), "");
        let refused = said(updates, false);
        assert!(
            refused.starts_with(
                "Function 'total' has no retract, and rows of its input are taken back, in GroupAggregate("
            ),
            "{refused}"
        );
    }

    #[test]
    fn windows_that_share_rows_or_grow_need_a_merge() {
        for kind in [
            "HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE, INTERVAL '1' HOUR)",
            "CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE, INTERVAL '1' HOUR)",
            "SESSION(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE)",
        ] {
            assert_eq!(said(&window(kind), true), "", "{kind}");
            let refused = said(&window(kind), false);
            assert!(
                refused.starts_with("Function 'total' has no merge"),
                "{kind}: {refused}"
            );
        }
    }

    #[test]
    fn what_it_can_not_be_called_with_is_refused() {
        let over = "SELECT total(v) OVER (PARTITION BY k ORDER BY ts) FROM t";
        assert!(
            said(over, true).contains("can't be called with OVER"),
            "{}",
            said(over, true)
        );
        let unfitting = said("SELECT total(v, k) FROM t", true);
        assert!(
            unfitting.ends_with("Supported form(s): 'total(BIGINT)'"),
            "{unfitting}"
        );
        let lateral = said("SELECT x FROM t, LATERAL TABLE(total(v)) AS f (x)", true);
        assert_eq!(
            lateral,
            "'total' is an aggregate function, which can't stand here"
        );
        let filter = said("SELECT k FROM t WHERE total(v) > 1", true);
        assert_eq!(filter, "Aggregate function total can't stand in WHERE");
    }
}
