//! Scripts in batch mode as jobs of a cluster.

use super::*;

const BATCH: &str =
    "SET 'execution.runtime-mode' = 'batch';\nSET 'execution.checkpointing.interval' = '10 ms';\n";

#[test]
fn a_batch_ends_by_itself_with_one_row_a_key_and_takes_no_checkpoints() {
    let scripts = Scripts::new();
    let output = scripts.run(&format!("{BATCH}{SCRIPT}"), AT_ONCE, "out", &[]);
    let printed = printed(&output);
    assert!(!printed.contains("-U["), "{printed}");
    assert_eq!(printed.matches("+I[").count() as i64, KEYS);
    assert_eq!(scripts.results("out"), expected());
}

#[test]
fn a_source_without_end_is_refused_with_its_line() {
    let scripts = Scripts::new();
    let end = "'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '60000',";
    let endless = SCRIPT.replace(end, "");
    let output = scripts.run(&format!("{BATCH}{endless}"), AT_ONCE, "out", &[]);
    let said = said(&output);
    assert!(!output.status.success());
    let refusal = "Querying an unbounded table 'default_catalog.default_database.numbers' in batch mode";
    assert!(said.contains(refusal), "{said}");
}
