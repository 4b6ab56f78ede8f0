//! Projections and filters: one Calc where several stand one above the other, none where nothing is changed.

use thalweg_plan::{Distribution, Expr, ExprKind, Field, NodeSpec, Schema};

use super::draft::{Draft, DraftInput, Monotonicity};
use super::expr::{all_of, as_column, conjuncts, identity, inlined, is_deterministic, ordered_column};
use super::upsert_keys;

/// `input` with these columns, of rows for which `filter` is true.
pub(crate) fn calc(input: Draft, projection: Vec<Expr>, filter: Option<Expr>, names: Vec<String>) -> Draft {
    match merged(input, projection, filter) {
        (input, projection, None) if is_identity(&input, &projection) => input,
        (input, projection, filter) => of_program(input, projection, filter, names),
    }
}

/// Rows for which `filter` is true.
pub(crate) fn filtered(input: Draft, filter: Option<Expr>) -> Draft {
    let projection = identity(input.schema.fields.iter().map(|field| &field.data_type));
    let names = names(&input.schema);
    calc(input, projection, filter, names)
}

/// Some columns.
pub(crate) fn selected(input: Draft, columns: &[usize]) -> Draft {
    let field = |&column: &usize| &input.schema.fields[column];
    let projection = columns
        .iter()
        .map(|column| Expr::column(*column, field(column).data_type.clone()))
        .collect();
    let names = columns.iter().map(|column| field(column).name.clone()).collect();
    calc(input, projection, None, names)
}

/// All columns and these behind them; gives the places of those that were added, or of a column that is the same already.
pub(crate) fn extended(input: Draft, exprs: Vec<Expr>) -> (Draft, Vec<usize>) {
    let mut projection = identity(input.schema.fields.iter().map(|field| &field.data_type));
    let mut names = names(&input.schema);
    let mut places = Vec::new();
    for expr in exprs {
        let known = as_column(&expr).or_else(|| projection.iter().position(|known| *known == expr));
        places.push(known.unwrap_or(projection.len()));
        if known.is_none() {
            names.push(format!("$f{}", projection.len()));
            projection.push(expr);
        }
    }
    if projection.len() == input.width() {
        return (input, places);
    }
    (calc(input, projection, None, names), places)
}

/// The names of all columns.
pub(crate) fn names(schema: &Schema) -> Vec<String> {
    schema.fields.iter().map(|field| field.name.clone()).collect()
}

/// Names that don't repeat: a number behind those that would, as Flink does.
pub(crate) fn unique_names(fields: Vec<Field>) -> Vec<Field> {
    let mut unique: Vec<Field> = Vec::with_capacity(fields.len());
    for field in fields {
        let taken = |name: &str| unique.iter().any(|known| known.name == name);
        let mut name = field.name.clone();
        let mut number = 0;
        while taken(&name) {
            name = format!("{}{number}", field.name);
            number += 1;
        }
        unique.push(Field { name, ..field });
    }
    unique
}

fn merged(mut input: Draft, projection: Vec<Expr>, filter: Option<Expr>) -> (Draft, Vec<Expr>, Option<Expr>) {
    let below = match &input.spec {
        NodeSpec::Calc { projection, filter } if projection.iter().all(is_deterministic) => {
            Some((projection.clone(), filter.clone()))
        }
        _ => None,
    };
    let Some((below, below_filter)) = below else {
        return (input, projection, filter);
    };
    let Some(base) = input.inputs.pop() else {
        return (input, projection, filter);
    };
    let projection = projection.iter().map(|expr| inlined(expr, &below)).collect();
    let filter = filter.map(|filter| inlined(&filter, &below));
    let conditions = below_filter.into_iter().chain(filter).flat_map(conjuncts);
    (*base.node, projection, all_of(conditions))
}

/// Exactly this schema, its names and nullability with it.
pub(crate) fn conformed(input: Draft, schema: &Schema) -> Draft {
    if input.schema == *schema {
        return input;
    }
    let projection = identity(schema.fields.iter().map(|field| &field.data_type));
    let (input, projection, filter) = merged(input, projection, None);
    let mut made = of_program(input, projection, filter, names(schema));
    made.schema = schema.clone();
    made
}

fn is_identity(input: &Draft, projection: &[Expr]) -> bool {
    projection.len() == input.width()
        && projection
            .iter()
            .enumerate()
            .all(|(place, expr)| as_column(expr) == Some(place))
}

fn of_program(input: Draft, projection: Vec<Expr>, filter: Option<Expr>, names: Vec<String>) -> Draft {
    let typed = |expr: Expr| typed(expr, &input.schema);
    let projection: Vec<Expr> = projection.into_iter().map(typed).collect();
    let filter = filter.map(typed);
    let fields = names.into_iter().zip(&projection);
    let fields = fields
        .map(|(name, expr)| Field::new(name, expr.data_type.clone()))
        .collect();
    let place = |column: usize| projection.iter().position(|expr| as_column(expr) == Some(column));
    Draft {
        kinds: input.kinds,
        changelog: input.changelog,
        upsert_keys: upsert_keys::projected(&input.upsert_keys, &projection),
        window: input.window.as_ref().and_then(|window| window.moved(place)),
        monotonicity: input
            .monotonicity
            .as_ref()
            .map(|known| projection.iter().map(|expr| monotonicity(expr, known)).collect()),
        position: input.position,
        schema: Schema {
            fields: unique_names(fields),
        },
        ..Draft::new(
            NodeSpec::Calc {
                projection: projection.clone(),
                filter,
            },
            vec![DraftInput::new(input, Distribution::Forward)],
            Schema::default(),
        )
    }
}

/// The same with the columns' types as they are, time attributes and nullability with them.
fn typed(expr: Expr, schema: &Schema) -> Expr {
    expr.map_columns(&mut |column, data_type| {
        let known = schema.fields.get(column).map(|field| field.data_type.clone());
        Expr::column(column, known.unwrap_or(data_type))
    })
}

fn monotonicity(expr: &Expr, input: &[Monotonicity]) -> Monotonicity {
    if let ExprKind::Literal(_) = expr.kind {
        return Monotonicity::Constant;
    }
    match ordered_column(expr) {
        Some(column) => input.get(column).copied().unwrap_or(Monotonicity::None),
        None => Monotonicity::None,
    }
}
