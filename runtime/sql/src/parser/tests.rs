use proptest::prelude::*;

use super::*;
use crate::ast::{ColumnDefKind, select_hints, table_hints};
use sqlparser::ast::{SelectItem, SetExpr, TableFactor};

fn refusal(text: &str) -> String {
    match parse_statements(text) {
        Ok(parsed) => panic!("{text} is understood: {parsed:?}"),
        Err(error) => error.to_string(),
    }
}

fn rendered(text: &str) -> String {
    parse_expression(text, Position::START).map_or_else(|error| error.to_string(), |expr| expr.to_string())
}

#[test]
fn operators_bind_as_calcites_do() {
    let cases = [
        ("1 + 2 * 3 - 4", "1 + 2 * 3 - 4"),
        ("NOT a = b AND c OR d", "NOT a = b AND c OR d"),
        ("a = b IS NULL", "a = b IS NULL"),
        (
            "a NOT BETWEEN 1 AND 2 + 3 AND c",
            "a NOT BETWEEN 1 AND 2 + 3 AND c",
        ),
        ("x NOT LIKE 'a!%' ESCAPE '!'", "x NOT LIKE 'a!%' ESCAPE '!'"),
        ("- - 1", "--1"),
        (
            "x BETWEEN SYMMETRIC 2 AND 1",
            "(x >= 2 AND x <= 1 OR x >= 1 AND x <= 2)",
        ),
        ("a IS NOT DISTINCT FROM b", "a IS NOT DISTINCT FROM b"),
        ("(a, b) IN ((1, 2), (3, 4))", "(a, b) IN ((1, 2), (3, 4))"),
        ("a.b[1].c", "a.b[1].c"),
        ("NOT EXISTS (SELECT 1)", "NOT EXISTS (SELECT 1)"),
    ];
    for (text, expected) in cases {
        assert_eq!(rendered(text), expected, "{text}");
    }
    let chain = vec!["a"; 5000].join(" OR ");
    assert!(parse_expression(&chain, Position::START).is_ok());
}

#[test]
fn special_forms_are_understood() {
    let cases = [
        ("EXTRACT(YEAR FROM t)", "EXTRACT(YEAR FROM t)"),
        ("TRIM(LEADING 'x' FROM y)", "TRIM(LEADING 'x' FROM y)"),
        ("TRIM(y)", "TRIM(y)"),
        ("SUBSTRING(a FROM 1 FOR 2)", "SUBSTRING(a FROM 1 FOR 2)"),
        ("SUBSTRING(a, 1)", "SUBSTRING(a, 1)"),
        ("POSITION('a' IN b)", "POSITION('a' IN b)"),
        ("OVERLAY(a PLACING b FROM 1)", "OVERLAY(a PLACING b FROM 1)"),
        ("CEIL(t TO DAY)", "CEIL(t TO DAY)"),
        ("FLOOR(x)", "FLOOR(x)"),
        ("TIMESTAMPADD(day, 1, t)", "TIMESTAMPADD(DAY, 1, t)"),
        (
            "INTERVAL -'1:2' HOUR(3) TO MINUTE",
            "INTERVAL -'1:2' HOUR (3) TO MINUTE",
        ),
        ("CAST(x AS ROW<a INT>)", "CAST(x AS ROW<`a` INT>)"),
        ("TRY_CAST(x AS DECIMAL(5))", "TRY_CAST(x AS DECIMAL(5, 0))"),
        (
            "JSON_EXISTS(j, '$.a' TRUE ON ERROR)",
            "JSON_EXISTS(j, '$.a', 'TRUE')",
        ),
        (
            "JSON_VALUE(j, 'lax $.a' RETURNING INT DEFAULT -1 ON EMPTY ERROR ON ERROR)",
            "JSON_VALUE(j, 'lax $.a', 'DEFAULT', -1, 'ERROR', NULL RETURNING INT)",
        ),
        (
            "JSON_QUERY(j, '$' WITH WRAPPER EMPTY ARRAY ON EMPTY)",
            "JSON_QUERY(j, '$', 'UNCONDITIONAL', 'EMPTY ARRAY', 'NULL')",
        ),
        (
            "JSON_OBJECT(KEY 'a' VALUE 1, 'b' : 2 ABSENT ON NULL)",
            "JSON_OBJECT('ABSENT', 'a', 1, 'b', 2)",
        ),
        ("JSON_OBJECT()", "JSON_OBJECT('NULL')"),
        (
            "JSON_ARRAY(1, JSON_ARRAY())",
            "JSON_ARRAY('ABSENT', 1, JSON_ARRAY('ABSENT'))",
        ),
        (
            "JSON_ARRAYAGG(x NULL ON NULL) FILTER (WHERE y)",
            "JSON_ARRAYAGG('NULL', x) FILTER (WHERE y)",
        ),
        ("x IS NOT JSON ARRAY", "NOT IS JSON ARRAY(x)"),
        ("CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP"),
        (
            "COUNT(DISTINCT a) FILTER (WHERE b > 1)",
            "COUNT(DISTINCT a) FILTER (WHERE b > 1)",
        ),
        (
            "SUM(a) OVER (PARTITION BY b ORDER BY c ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)",
            "SUM(a) OVER (PARTITION BY b ORDER BY c ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)",
        ),
        ("ARRAY[1, 2][1]", "ARRAY[1, 2][1]"),
        ("ROW(1, 'a').f0", "ROW(1, 'a').f0"),
        (
            "CASE x WHEN 1 THEN 'a' ELSE 'b' END",
            "CASE x WHEN 1 THEN 'a' ELSE 'b' END",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(rendered(text), expected, "{text}");
    }
}

#[test]
fn a_table_has_all_kinds_of_columns() {
    let text = "CREATE TEMPORARY TABLE IF NOT EXISTS c.d.t (
        id BIGINT NOT NULL COMMENT 'the key', r ROW<a INT, `b` STRING 'x'>,
        total AS id * r.a + 1, `at` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL, `offset` BIGINT METADATA,
        WATERMARK FOR `at` AS `at` - INTERVAL '5' SECOND, CONSTRAINT pk PRIMARY KEY (id) NOT ENFORCED
      ) COMMENT 'table' DISTRIBUTED BY HASH (id) INTO 4 BUCKETS PARTITIONED BY (id)
      WITH ('connector' = 'x', 'a' = 'it''s') LIKE u (INCLUDING ALL OVERWRITING OPTIONS EXCLUDING WATERMARKS)";
    let Ok(Statement::CreateTable(table)) = parse_statement(text) else {
        panic!("{:?}", parse_statement(text));
    };
    let kinds: Vec<String> = table
        .columns
        .iter()
        .map(|column| match &column.kind {
            ColumnDefKind::Physical(type_def) => type_def.data_type.to_string(),
            ColumnDefKind::Computed(source) => format!("AS {}", source.text),
            ColumnDefKind::Metadata {
                data_type,
                key,
                is_virtual,
            } => {
                format!(
                    "{} {:?} {is_virtual}",
                    data_type.data_type,
                    key.as_ref().map(|key| &key.value)
                )
            }
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "BIGINT NOT NULL",
            "ROW<`a` INT, `b` STRING>",
            "AS id * r.a + 1",
            "TIMESTAMP_LTZ(3) Some(\"timestamp\") true",
            "BIGINT None false"
        ]
    );
    assert!(table.temporary && table.if_not_exists);
    assert_eq!(
        table.watermark.as_ref().map(|w| w.expression.text.as_str()),
        Some("`at` - INTERVAL '5' SECOND")
    );
    assert_eq!(table.primary_key.as_ref().map(|key| key.columns.len()), Some(1));
    assert_eq!(table.options[1].value.value, "it's");
    assert_eq!(table.options[1].value.position, Position { line: 6, column: 38 });
    assert_eq!(table.like.as_ref().map(|like| like.options.len()), Some(3));
}

#[test]
fn window_functions_are_understood_in_all_spellings() {
    let spellings = [
        "TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))",
        "TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)",
        "TABLE(TUMBLE(DATA => TABLE bid, TIMECOL => DESCRIPTOR(`dateTime`), SIZE => INTERVAL '10' SECOND)) AS w",
        "TABLE(SESSION(TABLE bid PARTITION BY (bidder, auction), DESCRIPTOR(ts), INTERVAL '10' MINUTES))",
    ];
    for spelling in spellings {
        let query = parse_query(&format!("SELECT * FROM {spelling}"), Position::START).unwrap();
        let SetExpr::Select(select) = *query.body else {
            panic!("{spelling}");
        };
        assert!(
            matches!(&select.from[0].relation, TableFactor::Function { args, .. } if args.len() == 3),
            "{spelling}"
        );
    }
}

#[test]
fn hints_come_back_with_their_places() {
    let text =
        "SELECT /*+ STATE_TTL('a' = '1d', b = '2d'),\n BROADCAST(c) */ * FROM t /*+ OPTIONS('k'='v') */ AS x";
    let query = parse_query(text, Position::START).unwrap();
    let SetExpr::Select(select) = *query.body else {
        panic!("{query}");
    };
    let hints = select_hints(&select);
    let names: Vec<(&str, usize, (u32, u32))> = hints
        .iter()
        .map(|hint| (hint.name.as_str(), hint.args.len(), hint.position.pair()))
        .collect();
    assert_eq!(names, [("STATE_TTL", 2, (1, 12)), ("BROADCAST", 1, (2, 2))]);
    let options = table_hints(&select.from[0].relation);
    assert_eq!((options[0].name.as_str(), options[0].args.len()), ("OPTIONS", 1));
    assert_eq!(
        refusal("SELECT /*+ STATE_TL('a'='1d') */ 1"),
        "Invalid statement at line 1, column 12: Unknown hint 'STATE_TL'; did you mean 'STATE_TTL'?"
    );
}

#[test]
fn every_other_statement_is_understood() {
    let statements = [
        "SELECT a.*, b.c AS d FROM a, LATERAL TABLE(f(a.x)) AS t(y, z) WHERE x IN (SELECT 1)",
        "SELECT * FROM a LEFT JOIN b FOR SYSTEM_TIME AS OF a.p AS v ON a.k = v.k CROSS JOIN UNNEST(a.l) WITH ORDINALITY AS u (e, n)",
        "SELECT * FROM (a JOIN b USING (k)) NATURAL JOIN c FULL OUTER JOIN ((SELECT 1) UNION (SELECT 2)) AS s ON TRUE",
        "WITH x (a) AS (SELECT 1), y AS (VALUES (1, 'a'), ROW(2, 'b')) (SELECT a FROM x) UNION ALL TABLE y ORDER BY 1 DESC NULLS LAST LIMIT 3 OFFSET 1",
        "SELECT a FROM t GROUP BY GROUPING SETS ((a, b), (a), ()), ROLLUP (c, (d, e)), CUBE (f) HAVING COUNT(*) > 1 WINDOW w AS (ORDER BY ts)",
        "SELECT TUMBLE_START(ts, INTERVAL '1' HOUR) FROM t GROUP BY TUMBLE(ts, INTERVAL '1' HOUR), a FETCH FIRST 3 ROWS ONLY",
        "INSERT INTO t PARTITION (dt = '1') (a, b) SELECT 1, 2 ON CONFLICT DO DEDUPLICATE",
        "INSERT OVERWRITE t (SELECT 1)",
        "INSERT INTO t /*+ OPTIONS('a'='b') */ VALUES (1, NULL), (2, DATE '2020-01-01')",
        "EXECUTE STATEMENT SET BEGIN INSERT INTO t SELECT 1; INSERT INTO u SELECT 2; END",
        "BEGIN STATEMENT SET; INSERT INTO t SELECT 1; END",
        "EXPLAIN ESTIMATED_COST, CHANGELOG_MODE SELECT 1",
        "EXPLAIN PLAN FOR INSERT INTO t SELECT 1",
        "EXPLAIN STATEMENT SET BEGIN INSERT INTO t SELECT 1; END",
        "CREATE VIEW v (a, b) COMMENT 'x' AS SELECT 1, 2",
        "CREATE OR REPLACE TEMPORARY VIEW v AS SELECT 1",
        "CREATE TABLE t WITH ('connector' = 'print') AS SELECT 1",
        "CREATE TABLE t (a INT PRIMARY KEY NOT ENFORCED) WITH ('connector' = 'print')",
        "CREATE TEMPORARY SYSTEM FUNCTION IF NOT EXISTS count_char AS 'x.y.Z' LANGUAGE JAVA",
        "DROP TEMPORARY VIEW IF EXISTS v",
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE t SET ('a' = 'b')",
        "ALTER TABLE t ADD (a INT FIRST, b STRING AFTER a, WATERMARK FOR ts AS ts)",
        "ALTER TABLE t DROP (a, b)",
        "ALTER VIEW v AS SELECT 1",
        "SET 'a' = 'b'",
        "SET",
        "RESET 'a'",
        "SHOW TABLES IN db NOT LIKE 'a%'",
        "SHOW CREATE TABLE a.b.c",
        "SHOW COLUMNS FROM t",
        "SHOW CURRENT DATABASE",
        "DESCRIBE t",
        "DESC EXTENDED t",
        "USE CATALOG default_catalog",
        "USE default_database",
        "QUIT",
    ];
    for statement in statements {
        if let Err(error) = parse_statement(statement) {
            panic!("{}", error.render());
        }
    }
}

#[test]
fn what_is_not_understood_is_refused_where_it_stands() {
    let cases = [
        (
            "SELECT 1 FORM t",
            "Syntax error at line 1, column 15: Encountered \"t\"",
        ),
        (
            "SELECT a FROM t WERE b",
            "Syntax error at line 1, column 22: Encountered \"b\"",
        ),
        (
            "SELECT\n  value FROM t",
            "Syntax error at line 2, column 3: Encountered \"value\" (a reserved word: as an identifier it needs backticks)",
        ),
        (
            "SELECT (1",
            "Syntax error at line 1, column 10: Encountered the end of the statement",
        ),
        (
            "SELECT * FROM t MATCH_RECOGNIZE (PATTERN (A))",
            "Not supported at line 1, column 17: MATCH_RECOGNIZE is not supported",
        ),
        (
            "COMPILE PLAN 'x' FOR SELECT 1",
            "Not supported at line 1, column 1: COMPILE PLAN is not supported",
        ),
        (
            "CREATE TABLE t (a INT PRIMARY KEY)",
            "Not supported at line 1, column 23: A PRIMARY KEY can't be enforced",
        ),
        (
            "CREATE TABLE t (a RAW('x', 'y'))",
            "Not supported at line 1, column 19: Type RAW is not supported",
        ),
        (
            "SELEC 1",
            "Syntax error at line 1, column 1: Encountered \"SELEC\"; did you mean SELECT?",
        ),
        (
            "SELECT 1;\nINSERT t SELECT 1",
            "Syntax error at line 2, column 8: Encountered \"t\"; expected one of INTO OVERWRITE",
        ),
        (
            "SELECT 'a",
            "Syntax error at line 1, column 8: The string literal is not closed: expected '",
        ),
        (
            "SET a = b",
            "Syntax error at line 1, column 5: SET needs a key and a value in quotes",
        ),
        (
            "SELECT a FROM t TABLESAMPLE BERNOULLI (1)",
            "Not supported at line 1, column 17: TABLESAMPLE is not supported",
        ),
        (
            "SELECT MAP['a']",
            "Syntax error at line 1, column 8: MAP needs a value for every key",
        ),
    ];
    for (text, expected) in cases {
        let refused = refusal(text);
        assert!(refused.starts_with(expected), "{text}: {refused}");
    }
}

#[test]
fn nesting_has_a_limit() {
    for (open, close) in [
        ("(", ")"),
        ("(SELECT ", ")"),
        ("NOT ", ""),
        ("- ", ""),
        ("CASE WHEN ", ""),
        ("f(", ")"),
        ("a[", "]"),
    ] {
        let text = format!("SELECT {}1{}", open.repeat(20_000), close.repeat(20_000));
        assert!(refusal(&text).contains("nested too deeply"), "{open}");
    }
    let chain = format!("SELECT {}1", "1 + ".repeat(100_000));
    assert!(refusal(&chain).contains("nested too deeply"));
}

#[test]
fn positions_of_expressions_are_those_of_the_text() {
    let query = parse_query("SELECT a,\n  f(b.c, 1) + 'x' FROM t", Position::START).unwrap();
    let SetExpr::Select(select) = *query.body else {
        panic!("{query}");
    };
    let at: Vec<Option<Position>> = select
        .projection
        .iter()
        .map(|item| match item {
            SelectItem::UnnamedExpr(expr) => Position::of(expr),
            _ => None,
        })
        .collect();
    assert_eq!(
        at,
        [
            Some(Position { line: 1, column: 8 }),
            Some(Position { line: 2, column: 3 })
        ]
    );
}

/// The cases that real Flink ran: all it accepted is understood.
#[test]
fn scripts_that_flink_accepts_are_understood() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut scripts = 0;
    for folder in std::fs::read_dir(root.join("tests/cases")).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "sql") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let expected = std::fs::read_to_string(path.with_extension("out")).unwrap_or_default();
            let refused = expected.contains("SQL parse failed");
            match parse_statements(&text) {
                Ok(_) => assert!(!refused, "{}: Flink refuses it: {expected}", path.display()),
                Err(error) => assert!(refused, "{}: {}", path.display(), error.render()),
            }
            scripts += 1;
        }
    }
    assert!(scripts > 300, "only {scripts} scripts are there");
}

/// Pieces of statements in any order.
fn soup() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "SELECT",
        "FROM",
        "WHERE",
        "GROUP BY",
        "(",
        ")",
        ",",
        "a",
        "b.c",
        "`x`",
        "'s'",
        "1",
        "1.5e3",
        "*",
        "+",
        "-",
        "=>",
        "=",
        "<",
        "CAST(",
        "AS",
        "INT",
        "ROW<",
        ">",
        "CASE",
        "WHEN",
        "THEN",
        "END",
        "JOIN",
        "LEFT",
        "ON",
        "TABLE",
        "TABLE(",
        "TUMBLE(",
        "DESCRIPTOR(",
        "INTERVAL",
        "SECOND",
        "UNNEST(",
        "LATERAL",
        "OVER",
        "ORDER BY",
        "ROWS",
        "BETWEEN",
        "SYMMETRIC",
        "AND",
        "NOT",
        "IN",
        "EXISTS",
        "VALUES",
        "WITH",
        "INSERT INTO",
        "CREATE TABLE",
        "CREATE VIEW",
        "WATERMARK FOR",
        "PRIMARY KEY",
        "NOT ENFORCED",
        "METADATA",
        "LIKE",
        ";",
        "/*+",
        "*/",
        "/*",
        "--",
        "\n",
        "'",
        "`",
        "JSON_VALUE(",
        "ON EMPTY",
        "NULL",
        "UNION ALL",
        "GROUPING SETS",
        "[",
        "]",
        ".",
        "EXPLAIN",
        "BEGIN STATEMENT SET;",
        "END",
        "SET",
        "SHOW",
        "U&'\\00e9'",
        "é",
        "\u{0}",
        "\"",
        "$",
        "?",
        "DATE",
        "X'0a'",
        "IS",
        "JSON",
        "EXTRACT(",
        "YEAR",
    ]);
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.join(" "))
}

pub(super) fn errors_have_places(text: &str) {
    if let Err(error) = parse_statements(text) {
        let position = error.position.unwrap();
        let lines = text.split('\n').count();
        assert!(position.line as usize <= lines, "{text:?}: {error}");
        error.render();
    }
}

const VALID: [&str; 3] = [
    "INSERT INTO t SELECT a.b[1], COUNT(*) FILTER (WHERE x > 1) OVER w, 'it''s' || U&'\\00e9' FROM TABLE(HOP(TABLE b, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND)) AS t(a, b) JOIN c /*+ OPTIONS('k'='v') */ ON TRUE WHERE a IN (SELECT 1) GROUP BY CUBE (a, b);",
    "CREATE TABLE t (a ROW<b INT NOT NULL, c ARRAY<MAP<STRING, DECIMAL(10, 2)>>>, d AS a.b + 1, WATERMARK FOR ts AS ts - INTERVAL '1' DAY, PRIMARY KEY (a) NOT ENFORCED) PARTITIONED BY (d) WITH ('k' = 'v') LIKE x (INCLUDING ALL);",
    "EXPLAIN CHANGELOG_MODE WITH q AS (VALUES (1, TIMESTAMP '2020-01-01 00:00:00'), (2, NULL)) SELECT CASE WHEN a THEN JSON_VALUE(j, '$.a' RETURNING INT NULL ON EMPTY) ELSE CAST(b AS BIGINT) END FROM q ORDER BY 1 LIMIT 5;",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        errors_have_places(&text);
    }

    #[test]
    fn no_soup_of_tokens_makes_the_parser_panic(text in soup()) {
        errors_have_places(&text);
    }

    #[test]
    fn no_broken_statement_makes_the_parser_panic(
        which in 0..VALID.len(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[ -~]{0,3}"), 1..4),
    ) {
        let mut chars: Vec<char> = VALID[which].chars().collect();
        for (from, length, with) in cuts {
            let from = from.index(chars.len() + 1);
            let to = (from + length.index(6)).min(chars.len());
            chars.splice(from..to, with.chars());
        }
        errors_have_places(&chars.into_iter().collect::<String>());
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        errors_have_places(&String::from_utf8_lossy(&bytes));
    }
}
