//! `docs/sql/functions.md`, from the registry and the names of Flink's own functions.
//!
//! ```text
//!   all_functions() ----------------------------+
//!   flink_functions.txt: SHOW FUNCTIONS of 2.3,  +--> the page, or a name that nobody has accounted for
//!     operators of Calcite, special forms        |
//!   SPECIAL, TABLE_API, REFUSED ----------------+
//! ```
//!
//! Each name of Flink's is supported, a special form of the parser, a spelling of the Table API or refused with a reason: one that is none of
//! these fails the test.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::resolve::{FunctionInfo, FunctionKind, all_functions};

/// One a line, upper case.
const FLINK: &str = include_str!("documentation/flink_functions.txt");

/// What the parser and the binder know by its form: names, how it is written.
const SPECIAL: &[(&[&str], &str)] = &[
    (
        &["BETWEEN", "NOTBETWEEN"],
        "`value [NOT] BETWEEN [SYMMETRIC] least AND greatest`",
    ),
    (&["IN"], "`value [NOT] IN (values or a query)`"),
    (
        &["TUMBLE", "HOP", "CUMULATE", "SESSION"],
        "windows: table functions in FROM, and in GROUP BY all but CUMULATE",
    ),
    (
        &[
            "TUMBLE_START",
            "TUMBLE_END",
            "TUMBLE_ROWTIME",
            "TUMBLE_PROCTIME",
            "HOP_START",
            "HOP_END",
            "HOP_ROWTIME",
            "HOP_PROCTIME",
            "SESSION_START",
            "SESSION_END",
            "SESSION_ROWTIME",
            "SESSION_PROCTIME",
        ],
        "of the window in GROUP BY",
    ),
    (
        &["GROUPING", "GROUPING_ID", "GROUP_ID"],
        "of GROUPING SETS, ROLLUP and CUBE",
    ),
    (&["OVER", "DISTINCT", "AS", "ASC", "DESC"], "syntax of queries"),
    (
        &["IS_JSON"],
        "`value IS [NOT] JSON [VALUE, SCALAR, ARRAY or OBJECT]`",
    ),
    (
        &[
            "JSON_ARRAYAGG_ABSENT_ON_NULL",
            "JSON_ARRAYAGG_NULL_ON_NULL",
            "JSON_OBJECTAGG_ABSENT_ON_NULL",
            "JSON_OBJECTAGG_NULL_ON_NULL",
        ],
        "`JSON_ARRAYAGG` and `JSON_OBJECTAGG` with `[NULL | ABSENT] ON NULL`",
    ),
];

/// Names of the Table API that SQL writes otherwise, and Flink's own helpers, which SQL has no use for.
const TABLE_API: &[&str] = &[
    "AGG_DECIMAL_MINUS",
    "AGG_DECIMAL_PLUS",
    "ASSIGNMENT",
    "AT",
    "DEFAULT",
    "DIVIDE",
    "END",
    "EQUALS",
    "FLATTEN",
    "GET",
    "GREATERTHAN",
    "GREATERTHANOREQUAL",
    "HIVE_AGG_DECIMAL_PLUS",
    "IFTHENELSE",
    "ISFALSE",
    "ISNOTFALSE",
    "ISNOTNULL",
    "ISNOTTRUE",
    "ISNULL",
    "ISTRUE",
    "LESSTHAN",
    "LESSTHANOREQUAL",
    "LOWERCASE",
    "MINUS",
    "MINUSPREFIX",
    "NOTEQUALS",
    "PLUS",
    "RANGETO",
    "REINTERPRETCAST",
    "ROWTIME",
    "SIMILAR",
    "START",
    "STREAMRECORDTIMESTAMP",
    "TEMPORALOVERLAPS",
    "TIMES",
    "TRANSLATE3",
    "UPPERCASE",
    "WITHCOLUMNS",
    "WITHOUTCOLUMNS",
];

/// What Flink has and this engine refuses by name: why, names.
const REFUSED: &[(&str, &[&str])] = &[
    (
        "the type BITMAP is not there",
        &[
            "BITMAP_AND",
            "BITMAP_ANDNOT",
            "BITMAP_AND_AGG",
            "BITMAP_AND_CARDINALITY_AGG",
            "BITMAP_BUILD",
            "BITMAP_BUILD_AGG",
            "BITMAP_BUILD_CARDINALITY_AGG",
            "BITMAP_CARDINALITY",
            "BITMAP_FROM_BYTES",
            "BITMAP_OR",
            "BITMAP_OR_AGG",
            "BITMAP_OR_CARDINALITY_AGG",
            "BITMAP_TO_ARRAY",
            "BITMAP_TO_BYTES",
            "BITMAP_TO_STRING",
            "BITMAP_XOR",
            "BITMAP_XOR_AGG",
            "BITMAP_XOR_CARDINALITY_AGG",
        ],
    ),
    ("the type VARIANT is not there", &["PARSE_JSON", "TRY_PARSE_JSON"]),
    ("structured types are not there", &["OBJECT_OF", "OBJECT_UPDATE"]),
    (
        "process table functions are not there",
        &["FROM_CHANGELOG", "TO_CHANGELOG"],
    ),
    ("models are not there", &["ML_PREDICT", "VECTOR_SEARCH"]),
    (
        "MATCH_RECOGNIZE is not there",
        &["MATCH_ROWTIME", "MATCH_PROCTIME"],
    ),
    (
        "watermarks that a source makes by itself are not there",
        &["SOURCE_WATERMARK"],
    ),
    (
        "not there yet",
        &["CURRENT_DATABASE", "INET_ATON", "INET_NTOA", "PRINTF"],
    ),
    ("expressions don't see watermarks", &["CURRENT_WATERMARK"]),
    ("Flink's streams refuse it, too", &["APPROX_COUNT_DISTINCT"]),
];

/// The Table API drops underscores: `dateFormat` is DATE_FORMAT.
fn plain(name: &str) -> String {
    name.replace(['_', ' '], "")
}

fn refused() -> BTreeSet<&'static str> {
    REFUSED
        .iter()
        .flat_map(|(_, names)| names.iter().copied())
        .collect()
}

/// Flink's names that are neither in the registry nor in a list above.
fn unaccounted() -> Vec<&'static str> {
    let mut known: BTreeSet<String> = all_functions().map(|function| plain(function.name)).collect();
    known.extend(
        SPECIAL
            .iter()
            .flat_map(|(names, _)| names.iter().map(|name| plain(name))),
    );
    known.extend(TABLE_API.iter().map(|name| plain(name)));
    known.extend(refused().into_iter().map(plain));
    FLINK
        .lines()
        .filter(|name| !known.contains(&plain(name)))
        .collect()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn table(page: &mut String, title: &str, kind: FunctionKind) {
    let refused = refused();
    let mut functions: Vec<FunctionInfo> = all_functions()
        .filter(|function| function.kind == kind && !refused.contains(function.name))
        .filter(|function| !function.name.starts_with('$'))
        .collect();
    functions.sort_by_key(|function| function.name);
    let _ = write!(page, "\n## {title}\n\n| Name | Use |\n|---|---|\n");
    for function in functions {
        let _ = writeln!(
            page,
            "| `{}` | `{}` |",
            cell(function.name),
            cell(&function.usage.replace("', '", "`, `"))
        );
    }
}

fn markdown() -> String {
    let mut page = String::from(
        "# Functions\n\n\
         Names, types and values are those of Flink 2.3. This page is generated from the registry and from Flink's own list:\n\
         `UPDATE_DOCS=1 cargo test -p thalweg-functions functions_page`.\n",
    );
    table(&mut page, "Scalar functions and operators", FunctionKind::Scalar);
    table(
        &mut page,
        "Aggregate and window functions",
        FunctionKind::Aggregate,
    );
    table(&mut page, "Table functions", FunctionKind::Table);
    page.push_str("\n## Special forms\n\n| Names | Form |\n|---|---|\n");
    for (names, form) in SPECIAL {
        let _ = writeln!(page, "| `{}` | {} |", names.join("`, `"), cell(form));
    }
    page.push_str("\n## Refused\n\nFlink has these; a statement that calls one is refused.\n\n| Names | Why |\n|---|---|\n");
    for (reason, names) in REFUSED {
        let _ = writeln!(page, "| `{}` | {reason} |", names.join("`, `"));
    }
    page
}

#[test]
fn each_function_of_flink_is_supported_or_refused_with_a_reason() {
    assert_eq!(unaccounted(), Vec::<&str>::new());
}

/// Known by their types, so that the refusal can say why.
const KNOWN_AND_REFUSED: [&str; 2] = ["APPROX_COUNT_DISTINCT", "CURRENT_WATERMARK"];

#[test]
fn what_is_refused_is_not_in_the_registry() {
    let there: Vec<&str> = all_functions().map(|function| function.name).collect();
    let both: Vec<&str> = refused()
        .into_iter()
        .filter(|name| there.contains(name))
        .collect();
    assert_eq!(both, KNOWN_AND_REFUSED);
}

#[test]
fn the_functions_page_is_what_the_registry_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql/functions.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, markdown()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == markdown(),
        "docs/sql/functions.md is out of date: run UPDATE_DOCS=1 cargo test -p thalweg-functions functions_page"
    );
}
