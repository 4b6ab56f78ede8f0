//! Operators' names as EXPLAIN and the REST API show them: Flink's descriptions.

use thalweg_functions::user::displayed;
use thalweg_plan::connector::SourceColumn;
use thalweg_plan::spec::{
    AggregateCall, Frame, JoinKeys, JoinKind, JoinSideKey, RankEnd, RankSpec, RankStrategy, SortKey,
    WindowColumns, WindowKind, WindowProperty, WindowSpec, Windowing,
};
use thalweg_plan::{Expr, ExprKind, Literal, NodeSpec, Schema, TypeRoot};
use thalweg_types::config::format_duration;

use super::draft::Draft;
use super::expr::as_int;

/// `GroupAggregate(groupBy=[auction], select=[auction, COUNT(*) AS n])`.
pub(crate) fn name(draft: &Draft) -> String {
    let inputs: Vec<&Schema> = draft.inputs.iter().map(|input| &input.node.schema).collect();
    let empty = Schema::default();
    let input = inputs.first().copied().unwrap_or(&empty);
    let parts = parts(draft, input, &inputs);
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{key}=[{value}]"))
        .collect();
    format!("{}({})", kind(&draft.spec), parts.join(", "))
}

/// The operator's kind, which names begin with.
pub(crate) fn kind(spec: &NodeSpec) -> &'static str {
    match spec {
        NodeSpec::Source(_) => "TableSourceScan",
        NodeSpec::Values(_) => "Values",
        NodeSpec::Calc { .. } => "Calc",
        NodeSpec::WatermarkAssigner(_) => "WatermarkAssigner",
        NodeSpec::Union => "Union",
        NodeSpec::Expand(_) => "Expand",
        NodeSpec::Correlate(_) => "Correlate",
        NodeSpec::GroupAggregate(_) => "GroupAggregate",
        NodeSpec::LocalGroupAggregate(_) => "LocalGroupAggregate",
        NodeSpec::GlobalGroupAggregate(_) => "GlobalGroupAggregate",
        NodeSpec::WindowTableFunction(_) => "WindowTableFunction",
        NodeSpec::WindowAggregate(spec) if spec.legacy => "GroupWindowAggregate",
        NodeSpec::WindowAggregate(_) => "WindowAggregate",
        NodeSpec::OverAggregate(_) => "OverAggregate",
        NodeSpec::Join(_) => "Join",
        NodeSpec::IntervalJoin(_) => "IntervalJoin",
        NodeSpec::TemporalJoin(_) => "TemporalJoin",
        NodeSpec::LookupJoin(_) => "LookupJoin",
        NodeSpec::WindowJoin(_) => "WindowJoin",
        NodeSpec::Rank(_) => "Rank",
        NodeSpec::WindowRank { .. } => "WindowRank",
        NodeSpec::Deduplicate(_) => "Deduplicate",
        NodeSpec::WindowDeduplicate { .. } => "WindowDeduplicate",
        NodeSpec::ChangelogNormalize { .. } => "ChangelogNormalize",
        NodeSpec::DropUpdateBefore => "DropUpdateBefore",
        NodeSpec::Limit { .. } => "Limit",
        NodeSpec::Sort(_) => "Sort",
        NodeSpec::TemporalSort(_) => "TemporalSort",
        NodeSpec::SortLimit(rank) if rank.order.is_empty() => "Limit",
        NodeSpec::SortLimit(_) => "SortLimit",
        NodeSpec::SinkMaterializer { .. } => "SinkMaterializer",
        NodeSpec::Sink(_) => "Sink",
    }
}

type Parts = Vec<(&'static str, String)>;

fn parts(draft: &Draft, input: &Schema, inputs: &[&Schema]) -> Parts {
    let output = &draft.schema;
    let both = || Schema {
        fields: inputs.iter().flat_map(|input| &input.fields).cloned().collect(),
    };
    match &draft.spec {
        NodeSpec::Source(spec) => {
            let path = &spec.table.path;
            let filters = spec.filters.iter().map(|filter| expr(filter, output));
            vec![
                (
                    "table",
                    format!("[{}, {}, {}]", path.catalog, path.database, path.name),
                ),
                ("fields", all(output)),
                ("filter", filters.collect::<Vec<_>>().join(", ")),
                (
                    "limit",
                    spec.limit.map(|limit| limit.to_string()).unwrap_or_default(),
                ),
                (
                    "watermark",
                    spec.watermark
                        .as_ref()
                        .map(|watermark| expr(&watermark.expression, output))
                        .unwrap_or_default(),
                ),
            ]
        }
        NodeSpec::Values(rows) => {
            let row = |row: &Vec<Literal>| {
                let cells = row
                    .iter()
                    .zip(&output.fields)
                    .map(|(cell, field)| expr(&Expr::literal(cell.clone(), field.data_type.clone()), output));
                format!("{{ {} }}", cells.collect::<Vec<_>>().join(", "))
            };
            let shown: Vec<String> = rows.iter().take(10).map(row).collect();
            let more = if rows.len() > 10 { ", .." } else { "" };
            vec![("tuples", format!("[{}{more}]", shown.join(", ")))]
        }
        NodeSpec::Calc { projection, filter } => {
            let select = projection.iter().zip(&output.fields).map(|(value, field)| {
                let value = expr(value, input);
                if value == field.name {
                    value
                } else {
                    format!("{value} AS {}", field.name)
                }
            });
            vec![
                ("select", select.collect::<Vec<_>>().join(", ")),
                (
                    "where",
                    filter
                        .as_ref()
                        .map(|filter| expr(filter, input))
                        .unwrap_or_default(),
                ),
            ]
        }
        NodeSpec::WatermarkAssigner(spec) => vec![
            ("rowtime", column(output, spec.rowtime)),
            ("watermark", expr(&spec.expression, input)),
        ],
        NodeSpec::Union => vec![("all", "true".to_owned()), ("union", all(output))],
        NodeSpec::Expand(rows) => {
            let row = |row: &Vec<Expr>| {
                let cells: Vec<String> = row.iter().map(|cell| expr(cell, input)).collect();
                format!("{{{}}}", cells.join(", "))
            };
            vec![("projects", rows.iter().map(row).collect::<Vec<_>>().join(", "))]
        }
        NodeSpec::Correlate(spec) => {
            let args: Vec<String> = spec.args.iter().map(|arg| expr(arg, input)).collect();
            vec![
                (
                    "invocation",
                    format!("{}({})", displayed(&spec.function), args.join(", ")),
                ),
                ("select", all(output)),
                (
                    "joinType",
                    (if spec.left_outer { "LEFT" } else { "INNER" }).to_owned(),
                ),
            ]
        }
        NodeSpec::GroupAggregate(spec) => vec![
            ("groupBy", columns(input, &spec.keys)),
            ("select", aggregates(input, &spec.keys, &spec.aggregates)),
        ],
        NodeSpec::LocalGroupAggregate(spec) => vec![
            ("groupBy", columns(input, &spec.keys)),
            ("select", aggregates(input, &spec.keys, &spec.aggregates)),
        ],
        NodeSpec::GlobalGroupAggregate(spec) => {
            let keys: Vec<usize> = (0..spec.keys.len()).collect();
            vec![("groupBy", columns(input, &keys)), ("select", all(output))]
        }
        NodeSpec::WindowTableFunction(spec) => vec![("window", window_of(spec, input))],
        NodeSpec::WindowAggregate(spec) => {
            let window = match &spec.windowing {
                Windowing::Assign(window) => window_of(window, input),
                Windowing::Attached(window) => attached(window, input),
            };
            let mut select = aggregates(input, &spec.keys, &spec.aggregates);
            for ((property, _), field) in spec
                .properties
                .iter()
                .zip(&output.fields[spec.keys.len() + spec.aggregates.len()..])
            {
                let property = match property {
                    WindowProperty::Start => "start('w$)",
                    WindowProperty::End => "end('w$)",
                    WindowProperty::Time => "rowtime('w$)",
                };
                let comma = if select.is_empty() { "" } else { ", " };
                select.push_str(&format!("{comma}{property} AS {}", field.name));
            }
            vec![
                ("groupBy", columns(input, &spec.keys)),
                ("window", window),
                ("select", select),
            ]
        }
        NodeSpec::OverAggregate(spec) => {
            let frames: Vec<String> = spec.groups.iter().map(|(frame, _)| frame_of(*frame)).collect();
            let calls = spec
                .groups
                .iter()
                .flat_map(|(_, calls)| calls)
                .map(|aggregate| call(input, aggregate));
            let select = std::iter::once(all(input)).chain(calls).collect::<Vec<_>>();
            vec![
                ("partitionBy", columns(input, &spec.partition)),
                ("orderBy", order(input, &spec.order)),
                ("window", frames.join(", ")),
                ("select", select.join(", ")),
            ]
        }
        NodeSpec::Join(spec) => vec![
            ("joinType", join_type(spec.kind)),
            (
                "where",
                join_condition(&spec.keys, spec.condition.as_ref(), inputs, &both()),
            ),
            ("select", all(output)),
            ("leftInputSpec", side_key(&spec.left_key, inputs.first().copied())),
            (
                "rightInputSpec",
                side_key(&spec.right_key, inputs.get(1).copied()),
            ),
        ],
        NodeSpec::IntervalJoin(spec) => vec![
            ("joinType", join_type(spec.kind)),
            (
                "windowBounds",
                format!(
                    "leftLowerBound={}, leftUpperBound={}, leftTimeIndex={}, rightTimeIndex={}",
                    spec.lower_ms, spec.upper_ms, spec.left_time, spec.right_time
                ),
            ),
            (
                "where",
                join_condition(&spec.keys, spec.condition.as_ref(), inputs, &both()),
            ),
            ("select", all(output)),
        ],
        NodeSpec::TemporalJoin(spec) => vec![
            ("joinType", join_type(spec.kind)),
            (
                "where",
                join_condition(&spec.keys, spec.condition.as_ref(), inputs, &both()),
            ),
            ("select", all(output)),
        ],
        NodeSpec::LookupJoin(spec) => {
            let fields = output.fields[input.fields.len()..].to_vec();
            let table = Schema { fields };
            let shown = |value: Option<&Expr>, schema| value.map(|it| expr(it, schema)).unwrap_or_default();
            vec![
                ("table", spec.table.path.to_string()),
                ("joinType", join_type(spec.kind)),
                ("lookup", lookup_keys(&spec.keys, input, &spec.columns)),
                ("where", shown(spec.filter.as_ref(), &table)),
                ("joinCondition", shown(spec.condition.as_ref(), output)),
                ("select", all(output)),
            ]
        }
        NodeSpec::WindowJoin(spec) => {
            let window = |window: &WindowColumns, side: usize| {
                inputs
                    .get(side)
                    .map(|input| attached(window, input))
                    .unwrap_or_default()
            };
            vec![
                ("leftWindow", window(&spec.left_window, 0)),
                ("rightWindow", window(&spec.right_window, 1)),
                ("joinType", join_type(spec.kind)),
                (
                    "where",
                    join_condition(&spec.keys, spec.condition.as_ref(), inputs, &both()),
                ),
                ("select", all(output)),
            ]
        }
        NodeSpec::Rank(rank) => rank_parts(rank, input, output),
        NodeSpec::WindowRank { rank, window } => {
            let mut parts = vec![("window", attached(window, input))];
            parts.extend(
                rank_parts(rank, input, output)
                    .into_iter()
                    .filter(|(key, _)| *key != "strategy"),
            );
            parts
        }
        NodeSpec::Deduplicate(spec) => vec![
            (
                "keep",
                (if spec.keep_last { "LastRow" } else { "FirstRow" }).to_owned(),
            ),
            ("key", columns(input, &spec.keys)),
            (
                "order",
                (if spec.rowtime.is_some() {
                    "ROWTIME"
                } else {
                    "PROCTIME"
                })
                .to_owned(),
            ),
        ],
        NodeSpec::WindowDeduplicate { deduplicate, window } => vec![
            ("window", attached(window, input)),
            (
                "keep",
                (if deduplicate.keep_last {
                    "LastRow"
                } else {
                    "FirstRow"
                })
                .to_owned(),
            ),
            ("partitionKeys", columns(input, &deduplicate.keys)),
            (
                "orderKey",
                deduplicate
                    .rowtime
                    .map(|time| column(input, time))
                    .unwrap_or_default(),
            ),
        ],
        NodeSpec::ChangelogNormalize { keys, .. } => vec![("key", columns(input, keys))],
        NodeSpec::DropUpdateBefore => Vec::new(),
        NodeSpec::Limit { offset, fetch } => vec![
            ("offset", offset.to_string()),
            (
                "fetch",
                fetch
                    .map(|fetch| fetch.to_string())
                    .unwrap_or_else(|| "unlimited".to_owned()),
            ),
        ],
        NodeSpec::Sort(keys) | NodeSpec::TemporalSort(keys) => vec![("orderBy", order(input, keys))],
        NodeSpec::SortLimit(rank) => {
            let fetch = match rank.end {
                RankEnd::Constant(end) => end + 1 - rank.start,
                RankEnd::Column(_) => 0,
            };
            vec![
                ("orderBy", order(input, &rank.order)),
                ("offset", (rank.start - 1).to_string()),
                ("fetch", fetch.to_string()),
                ("strategy", strategy(&rank.strategy, input)),
            ]
        }
        NodeSpec::SinkMaterializer { primary_key, .. } => vec![("key", columns(input, primary_key))],
        NodeSpec::Sink(spec) => vec![
            ("table", spec.table.path.to_string()),
            ("fields", all(&spec.schema)),
        ],
    }
}

fn rank_parts(rank: &RankSpec, input: &Schema, output: &Schema) -> Parts {
    let range = match rank.end {
        RankEnd::Constant(end) => format!("rankStart={}, rankEnd={end}", rank.start),
        RankEnd::Column(end) => format!("rankEnd={}", column(input, end)),
    };
    vec![
        ("strategy", strategy(&rank.strategy, input)),
        ("rankType", "ROW_NUMBER".to_owned()),
        ("rankRange", range),
        ("partitionBy", columns(input, &rank.partition)),
        ("orderBy", order(input, &rank.order)),
        ("select", all(output)),
    ]
}

fn strategy(strategy: &RankStrategy, input: &Schema) -> String {
    match strategy {
        RankStrategy::AppendFast => "AppendFastStrategy".to_owned(),
        RankStrategy::UpdateFast(key) => format!("UpdateFastStrategy[{}]", columns(input, key)),
        RankStrategy::Retract => "RetractStrategy".to_owned(),
    }
}

fn column(schema: &Schema, column: usize) -> String {
    let field = schema.fields.get(column);
    field.map_or_else(|| format!("${column}"), |field| field.name.clone())
}

fn columns(schema: &Schema, list: &[usize]) -> String {
    let names: Vec<String> = list.iter().map(|&index| column(schema, index)).collect();
    names.join(", ")
}

fn all(schema: &Schema) -> String {
    let names: Vec<&str> = schema.fields.iter().map(|field| field.name.as_str()).collect();
    names.join(", ")
}

fn order(schema: &Schema, keys: &[SortKey]) -> String {
    let key = |key: &SortKey| {
        let direction = if key.descending { "DESC" } else { "ASC" };
        format!("{} {direction}", column(schema, key.column))
    };
    keys.iter().map(key).collect::<Vec<_>>().join(", ")
}

fn aggregates(input: &Schema, keys: &[usize], calls: &[AggregateCall]) -> String {
    let keys = keys.iter().map(|&key| column(input, key));
    let calls = calls.iter().map(|aggregate| call(input, aggregate));
    keys.chain(calls).collect::<Vec<_>>().join(", ")
}

fn call(input: &Schema, call: &AggregateCall) -> String {
    let args = match call.args.is_empty() {
        true if call.function == "COUNT" => "*".to_owned(),
        _ => columns(input, &call.args),
    };
    let distinct = if call.distinct { "DISTINCT " } else { "" };
    let retract = if call.retracts && matches!(call.function.as_str(), "MIN" | "MAX" | "SUM" | "AVG") {
        "_RETRACT"
    } else {
        ""
    };
    let filter = call
        .filter
        .map(|filter| format!(" FILTER {}", column(input, filter)));
    format!(
        "{}{retract}({distinct}{args}){} AS {}",
        displayed(&call.function),
        filter.unwrap_or_default(),
        call.name
    )
}

fn duration(ms: i64) -> String {
    let ms = u64::try_from(ms).unwrap_or_default();
    format_duration(std::time::Duration::from_millis(ms))
}

/// `TUMBLE(size=[10 s])`.
pub(crate) fn window(kind: WindowKind, offset_ms: i64) -> String {
    let of = |name: &str, parts: &[(&str, i64)]| {
        let parts = parts.iter().map(|(key, ms)| format!("{key}=[{}]", duration(*ms)));
        let offset = (offset_ms != 0).then(|| format!("offset=[{offset_ms} ms]"));
        format!("{name}({})", parts.chain(offset).collect::<Vec<_>>().join(", "))
    };
    match kind {
        WindowKind::Tumble { size_ms } => of("TUMBLE", &[("size", size_ms)]),
        WindowKind::Hop { slide_ms, size_ms } => of("HOP", &[("size", size_ms), ("slide", slide_ms)]),
        WindowKind::Cumulate { step_ms, size_ms } => {
            of("CUMULATE", &[("max_size", size_ms), ("step", step_ms)])
        }
        WindowKind::Session { gap_ms } => of("SESSION", &[("gap", gap_ms)]),
    }
}

fn window_of(spec: &WindowSpec, input: &Schema) -> String {
    let time = format!("time_col=[{}]", column(input, spec.time));
    let partition = match spec.partition.is_empty() {
        true => String::new(),
        false => format!(", partition keys=[{}]", columns(input, &spec.partition)),
    };
    window(spec.kind, spec.offset_ms).replacen('(', &format!("({time}{partition}, "), 1)
}

fn attached(window: &WindowColumns, input: &Schema) -> String {
    format!(
        "win_start=[{}], win_end=[{}]",
        column(input, window.start),
        column(input, window.end)
    )
}

fn frame_of(frame: Frame) -> String {
    match frame {
        Frame::Rows(None) => "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW".to_owned(),
        Frame::Rows(Some(rows)) => format!("ROWS BETWEEN {rows} PRECEDING AND CURRENT ROW"),
        Frame::Range(None) => "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW".to_owned(),
        Frame::Range(Some(ms)) => format!("RANGE BETWEEN {ms} PRECEDING AND CURRENT ROW"),
    }
}

fn join_type(kind: JoinKind) -> String {
    match kind {
        JoinKind::Inner => "InnerJoin",
        JoinKind::Left => "LeftOuterJoin",
        JoinKind::Right => "RightOuterJoin",
        JoinKind::Full => "FullOuterJoin",
        JoinKind::Semi => "LeftSemiJoin",
        JoinKind::Anti => "LeftAntiJoin",
    }
    .to_owned()
}

fn side_key(key: &JoinSideKey, input: Option<&Schema>) -> String {
    match (key, input) {
        (JoinSideKey::JoinKey, _) => "JoinKeyContainsUniqueKey".to_owned(),
        (JoinSideKey::Columns(key), Some(input)) => format!("HasUniqueKey({})", columns(input, key)),
        _ => "NoUniqueKey".to_owned(),
    }
}

fn equalities(keys: &JoinKeys, inputs: &[&Schema]) -> String {
    let [left, right, ..] = inputs else {
        return String::new();
    };
    let pairs = keys.left.iter().zip(&keys.right).zip(&keys.null_safe);
    let pair = |((l, r), null_safe): ((&usize, &usize), &bool)| {
        let operator = if *null_safe { "IS NOT DISTINCT FROM" } else { "=" };
        format!("({} {operator} {})", column(left, *l), column(right, *r))
    };
    pairs.map(pair).collect::<Vec<_>>().join(" AND ")
}

/// `id=customer`: the table's column first, as Flink has it.
fn lookup_keys(keys: &JoinKeys, left: &Schema, table: &[SourceColumn]) -> String {
    let name = |place: &usize| match table.get(*place) {
        Some(SourceColumn::Physical { path, .. }) => path.join("."),
        Some(SourceColumn::Metadata { key, .. }) => key.clone(),
        None => String::new(),
    };
    let pairs = keys.left.iter().zip(&keys.right);
    let pairs = pairs.map(|(l, r)| format!("{}={}", name(r), column(left, *l)));
    pairs.collect::<Vec<_>>().join(", ")
}

fn join_condition(keys: &JoinKeys, condition: Option<&Expr>, inputs: &[&Schema], both: &Schema) -> String {
    let keys = equalities(keys, inputs);
    let condition = condition
        .map(|condition| expr(condition, both))
        .unwrap_or_default();
    match (keys.is_empty(), condition.is_empty()) {
        (true, true) => "true".to_owned(),
        (false, false) => format!("({keys} AND {condition})"),
        _ => format!("{keys}{condition}"),
    }
}

/// An expression with its columns' names.
pub(crate) fn expr(value: &Expr, input: &Schema) -> String {
    let ExprKind::Call { function, args } = &value.kind else {
        return match &value.kind {
            ExprKind::Column(index) => column(input, *index),
            ExprKind::Literal(literal) => literal_of(literal, value),
            ExprKind::Call { .. } => String::new(),
        };
    };
    let shown: Vec<String> = args.iter().map(|arg| expr(arg, input)).collect();
    match (&**function, args.as_slice()) {
        ("FIELD", [row, field]) => {
            let name = match &row.data_type.root {
                TypeRoot::Row(fields) => as_int(field)
                    .and_then(|index| fields.get(usize::try_from(index).ok()?))
                    .map(|field| field.name.clone()),
                _ => None,
            };
            format!("{}.{}", shown[0], name.unwrap_or_else(|| shown[1].clone()))
        }
        ("CAST" | "TRY_CAST", [_]) => format!("{function}({} AS {})", shown[0], value.data_type.root),
        ("AND" | "OR" | "||", _) => format!("({})", shown.join(&format!(" {function} "))),
        ("+" | "-" | "*" | "/" | "%" | "=" | "<>" | "<" | "<=" | ">" | ">=" | "LIKE", [_, _]) => {
            format!("({} {function} {})", shown[0], shown[1])
        }
        ("IS NULL" | "IS NOT NULL" | "IS TRUE" | "IS NOT TRUE" | "IS FALSE" | "IS NOT FALSE", [_]) => {
            format!("{} {function}", shown[0])
        }
        _ => format!("{}({})", displayed(function), shown.join(", ")),
    }
}

fn literal_of(literal: &Literal, value: &Expr) -> String {
    match (literal, &value.data_type.root) {
        (Literal::Int(ms), TypeRoot::IntervalDaySecond) => format!("{ms}:INTERVAL DAY TO SECOND"),
        (Literal::Int(months), TypeRoot::IntervalYearMonth) => format!("{months}:INTERVAL YEAR TO MONTH"),
        (Literal::Decimal(unscaled), TypeRoot::Decimal { scale, .. }) => {
            decimal(*unscaled, usize::from(*scale))
        }
        _ => value.to_string(),
    }
}

fn decimal(unscaled: i128, scale: usize) -> String {
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    match scale {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction}"),
    }
}
