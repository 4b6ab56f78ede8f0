//! Statements and what SHOW and DESCRIBE say behind them.

use std::collections::BTreeMap;

use thalweg_plan::connector::{CatalogTable, ConnectorProblem, Connectors, SinkAbilities, SourceAbilities};
use thalweg_types::config::Configuration;

use crate::script::Script;
use crate::session::{Outcome, Session};

/// No statement here asks a connector.
struct NoConnectors;

impl Connectors for NoConnectors {
    fn source(&self, table: &CatalogTable) -> Result<SourceAbilities, ConnectorProblem> {
        Err(problem(table))
    }

    fn sink(&self, table: &CatalogTable) -> Result<SinkAbilities, ConnectorProblem> {
        Err(problem(table))
    }

    fn names(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

fn problem(table: &CatalogTable) -> ConnectorProblem {
    ConnectorProblem {
        option: None,
        message: format!("{} was asked for", table.path),
    }
}

/// What the last statement that shows anything shows, or the first error.
fn shown(text: &str) -> String {
    let mut session = Session::new(Configuration::default());
    let script = Script::parse(text, &BTreeMap::new()).unwrap();
    let mut shown = String::new();
    for statement in &script.statements {
        match session.execute(statement, &NoConnectors) {
            Ok(Outcome::Rows(rows)) => {
                let rows: Vec<String> = rows.rows.iter().map(|row| row.join(" | ")).collect();
                shown = rows.join("\n");
            }
            Ok(_) => {}
            Err(error) => return error.message,
        }
    }
    shown
}

const TABLE: &str = "CREATE TABLE t (
  id BIGINT, name STRING COMMENT 'who', total AS id * 2 + CHAR_LENGTH(name), at_ TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  WATERMARK FOR at_ AS at_ - INTERVAL '5' SECOND, PRIMARY KEY (id) NOT ENFORCED
) COMMENT 'it''s' PARTITIONED BY (name) WITH ('connector' = 'x', 'a' = 'b');
";

fn behind(statements: &str) -> String {
    shown(&format!("{TABLE}{statements}"))
}

#[test]
fn a_table_is_shown_as_flink_shows_it() {
    assert_eq!(
        behind("SHOW CREATE TABLE t"),
        "CREATE TABLE `default_catalog`.`default_database`.`t` (
  `id` BIGINT NOT NULL,
  `name` VARCHAR(2147483647) COMMENT 'who',
  `total` AS `id` * 2 + CHAR_LENGTH(`name`),
  `at_` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  WATERMARK FOR `at_` AS `at_` - INTERVAL '5' SECOND,
  CONSTRAINT `PK_id` PRIMARY KEY (`id`) NOT ENFORCED
)
COMMENT 'it''s'
PARTITIONED BY (`name`)
WITH (
  'a' = 'b',
  'connector' = 'x'
)
"
    );
    assert_eq!(
        behind("DESCRIBE t"),
        "id | BIGINT | FALSE | PRI(id) |  |  | 
name | STRING | TRUE |  |  |  | who
total | BIGINT | TRUE |  | AS `id` * 2 + CHAR_LENGTH(`name`) |  | 
at_ | TIMESTAMP_LTZ(3) *ROWTIME* | TRUE |  | METADATA FROM 'timestamp' VIRTUAL | `at_` - INTERVAL '5' SECOND | "
    );
}

#[test]
fn a_view_is_shown_with_its_columns() {
    assert_eq!(
        behind("CREATE VIEW v (a, b) AS SELECT id, name FROM t; SHOW CREATE VIEW v"),
        "CREATE VIEW `default_catalog`.`default_database`.`v` (
  `a`,
  `b`
)
AS SELECT id, name FROM t
"
    );
    assert_eq!(behind("CREATE VIEW v AS SELECT id FROM t; SHOW VIEWS"), "v");
    assert_eq!(behind("CREATE VIEW v AS SELECT id FROM t; SHOW TABLES"), "t\nv");
    assert_eq!(
        behind("CREATE VIEW v (a) AS SELECT id, name FROM t"),
        "VIEW definition and input fields not match:\n\tDef fields: [a].\n\tInput fields: [id, name]."
    );
    assert_eq!(
        behind("SHOW CREATE VIEW t"),
        "SHOW CREATE VIEW is only supported for views, but this is a table. Please use SHOW CREATE TABLE instead."
    );
}

#[test]
fn like_takes_what_it_is_told() {
    let names = |statements: &str| {
        let rows = behind(statements);
        let columns = rows
            .lines()
            .map(|row| row.split(" | ").next().unwrap().to_owned());
        columns.collect::<Vec<_>>().join(",")
    };
    assert_eq!(
        names("CREATE TABLE u (z INT) LIKE t; DESCRIBE u"),
        "id,name,total,at_,z"
    );
    assert_eq!(
        names(
            "CREATE TABLE u LIKE t (EXCLUDING GENERATED EXCLUDING METADATA EXCLUDING WATERMARKS); DESCRIBE u"
        ),
        "id,name"
    );
    assert_eq!(
        behind("CREATE TABLE u WITH ('a' = 'c') LIKE t (EXCLUDING ALL); SHOW CREATE TABLE u"),
        "CREATE TABLE `default_catalog`.`default_database`.`u` (
  `id` BIGINT NOT NULL,
  `name` VARCHAR(2147483647) COMMENT 'who'
)
COMMENT 'it''s'
WITH (
  'a' = 'c'
)
"
    );
    assert_eq!(
        behind("CREATE TABLE u WITH ('a' = 'c') LIKE t (INCLUDING OPTIONS)"),
        "There already exists an option ['a' -> 'b']  in the base table. You might want to specify EXCLUDING OPTIONS or OVERWRITING OPTIONS."
    );
    assert_eq!(
        behind("CREATE TABLE u (id INT) LIKE t"),
        "A column named 'id' already exists in the table."
    );
}

#[test]
fn alter_changes_a_table() {
    let behind_alter = |change: &str| behind(&format!("ALTER TABLE t {change}; DESCRIBE t"));
    let columns = |change: &str| {
        let rows = behind_alter(change);
        let columns = rows
            .lines()
            .map(|row| row.splitn(3, " | ").take(2).collect::<Vec<_>>().join(" "));
        columns.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(
        columns("ADD (a INT FIRST, b STRING AFTER id)"),
        "a INT, id BIGINT, b STRING, name STRING, total BIGINT, at_ TIMESTAMP_LTZ(3) *ROWTIME*"
    );
    assert_eq!(
        columns("MODIFY name CHAR(3)"),
        "id BIGINT, name CHAR(3), total BIGINT, at_ TIMESTAMP_LTZ(3) *ROWTIME*"
    );
    assert_eq!(
        columns("DROP total"),
        "id BIGINT, name STRING, at_ TIMESTAMP_LTZ(3) *ROWTIME*"
    );
    assert_eq!(
        columns("DROP WATERMARK"),
        "id BIGINT, name STRING, total BIGINT, at_ TIMESTAMP_LTZ(3)"
    );
    assert_eq!(
        columns("RENAME total TO sum_"),
        "id BIGINT, name STRING, sum_ BIGINT, at_ TIMESTAMP_LTZ(3) *ROWTIME*"
    );
    assert_eq!(
        behind(
            "ALTER TABLE t SET ('a' = 'c', 'd' = 'e'); ALTER TABLE t RESET ('a'); ALTER TABLE t RENAME TO u; SHOW TABLES"
        ),
        "u"
    );
    assert_eq!(
        behind_alter("DROP id"),
        "The column `id` is used as the primary key."
    );
    let message = behind_alter("DROP at_");
    assert!(
        message.starts_with("Failed to execute ALTER TABLE statement.\nUnknown column 'at_'"),
        "{message}"
    );
    assert_eq!(behind("ALTER TABLE IF EXISTS nothing DROP a; SHOW TABLES"), "t");
    assert_eq!(
        behind(
            "CREATE VIEW v AS SELECT id FROM t; ALTER VIEW v AS SELECT name FROM t; ALTER VIEW v RENAME TO w; SHOW CREATE VIEW w"
        ),
        "CREATE VIEW `default_catalog`.`default_database`.`w` (\n  `name`\n)\nAS SELECT name FROM t\n"
    );
}

#[test]
fn temporary_tables_hide_permanent_ones() {
    let hidden = "CREATE TEMPORARY TABLE t (z INT) WITH ('connector' = 'y');";
    assert!(behind(&format!("{hidden} DESCRIBE t")).starts_with("z | INT"));
    assert!(behind(&format!("{hidden} DROP TEMPORARY TABLE t; DESCRIBE t")).starts_with("id | BIGINT"));
    assert_eq!(behind("CREATE TABLE IF NOT EXISTS t (a INT); SHOW TABLES"), "t");
}

#[test]
fn names_and_databases_that_are_not_there_are_refused() {
    assert_eq!(behind("DROP TABLE tt"), "Unknown table 'tt'; did you mean 't'?");
    assert_eq!(behind("DROP TABLE IF EXISTS nothing; SHOW TABLES"), "t");
    assert_eq!(
        behind("USE CATALOG other"),
        "There is no catalog 'other': 'default_catalog' is the only one"
    );
    assert_eq!(
        behind("USE default_catalog.default_database; USE default_database; SHOW CURRENT DATABASE"),
        "default_database"
    );
    let exists = behind("CREATE TABLE t (a INT)");
    assert!(
        exists.ends_with("already exists in Catalog default_catalog."),
        "{exists}"
    );
}

#[test]
fn columns_that_fit_nothing_are_refused() {
    let created = |columns: &str| shown(&format!("CREATE TABLE u ({columns}) WITH ('connector' = 'x')"));
    assert!(
        created("a INT, WATERMARK FOR a AS a").starts_with("Invalid data type of time field for watermark")
    );
    assert_eq!(
        created("a INT, b AS a + 1, c AS b + 1"),
        "Unknown column 'b'; did you mean 'a'?"
    );
    assert_eq!(
        created("a INT, a INT"),
        "A column named 'a' already exists in the table."
    );
    assert_eq!(
        created("a INT, PRIMARY KEY (b) NOT ENFORCED"),
        "Unknown column 'b'; did you mean 'a'?"
    );
}

#[test]
fn set_and_reset_change_the_configuration() {
    let value_of = |statements: &str, key: &str| {
        let rows = shown(&format!("{statements}; SET"));
        rows.lines()
            .find_map(|row| row.strip_prefix(&format!("{key} | ")).map(str::to_owned))
    };
    let key = "table.local-time-zone";
    assert_eq!(
        value_of("SET 'table.local-time-zone' = 'Europe/Paris'", key).as_deref(),
        Some("Europe/Paris")
    );
    assert_eq!(
        value_of(
            "SET 'table.local-time-zone' = 'Europe/Paris'; RESET 'table.local-time-zone'",
            key
        ),
        None
    );
}

const F: &str = "CREATE FUNCTION f AS 'a.B';\n";

#[test]
fn functions_are_created_and_dropped_by_scope() {
    let user = |statements: &str| shown(&format!("{statements} SHOW USER FUNCTIONS;"));
    assert_eq!(user(F), "f");
    assert_eq!(
        user("CREATE TEMPORARY SYSTEM FUNCTION IF NOT EXISTS g AS 'a.B' LANGUAGE JAVA;"),
        "g"
    );
    assert_eq!(
        user(
            "CREATE TEMPORARY FUNCTION p AS 'm.p' LANGUAGE PYTHON; CREATE FUNCTION p AS 'm.p' LANGUAGE SCALA;"
        ),
        "p"
    );
    assert_eq!(
        user(&format!("{F}CREATE FUNCTION IF NOT EXISTS F AS 'a.C';")),
        "f"
    );
    assert_eq!(user(&format!("{F}{F}")), "Function 'F' exists");
    assert_eq!(user(&format!("{F}DROP FUNCTION f;")), "");
    assert_eq!(user("DROP FUNCTION IF EXISTS f;"), "");
    assert_eq!(
        user(&format!("{F}DROP FUNCTION ff;")),
        "Unknown function 'ff'; did you mean 'F'?"
    );
    assert_eq!(
        user(&format!("{F}DROP TEMPORARY FUNCTION f;")),
        "Unknown temporary function 'f'"
    );
    let system = user(&format!("{F}DROP TEMPORARY SYSTEM FUNCTION f;"));
    assert_eq!(system, "Unknown temporary system function 'f'");
    let language = user("CREATE FUNCTION f AS 'SELECT 1' LANGUAGE SQL;");
    assert!(
        language.starts_with("LANGUAGE SQL of a function is not supported"),
        "{language}"
    );
}

#[test]
fn a_function_is_found_behind_its_class_as_flink_looks_it_up() {
    let called = |statements: &str, call: &str| shown(&format!("{statements} EXPLAIN SELECT {call};"));
    let missing = "can't be called: no package has the class 'a.B'; this program has none";
    assert_eq!(called(F, "f(1)"), format!("Function 'f' {missing}"));
    // A built-in function is found before those of the catalog and behind those of the system.
    let in_catalog = called("CREATE TEMPORARY FUNCTION abs AS 'a.B';", "abs(1)");
    assert_eq!(in_catalog, "");
    let in_system = called("CREATE TEMPORARY SYSTEM FUNCTION abs AS 'a.B';", "abs(1)");
    assert_eq!(in_system, format!("Function 'abs' {missing}"));
    let lateral = shown(&format!("{F}EXPLAIN SELECT * FROM LATERAL TABLE(f(1)) AS t (x);"));
    assert_eq!(lateral, format!("Function 'f' {missing}"));
    let nearest = shown(&format!(
        "{F}EXPLAIN SELECT * FROM LATERAL TABLE(fg(1)) AS t (x);"
    ));
    assert!(nearest.starts_with("Unknown table function 'FG'"), "{nearest}");
}
