//! Which updates come with -U: from the sinks down, as Flink's FlinkChangelogModeInferenceProgram.
//!
//! ```text
//!   sink takes +I +U -D by its key   -> its input need not give -U, if the key is the input's, too
//!   aggregates, joins                -> -U of their input, to take it back; not if the join key is part of the input's key
//!   Calc with a filter on no key     -> -U, as a row may pass before and not after
//!   upsert source                    -> ChangelogNormalize gives -U if it is wanted
//!   source with -U, none wanted      -> DropUpdateBefore
//! ```
//!
//! A way that doesn't work out is `None`, and the consumer asks for the next best. Invariant: a settled draft's `changelog` is what it gives.

use thalweg_plan::spec::RankStrategy;
use thalweg_plan::{ChangelogMode, Distribution, Expr, NodeSpec};

use super::draft::{Draft, DraftInput, Kinds};
use super::expr::columns;
use super::top_n::strategies;
use super::upsert_keys::contains;
use crate::error::SqlError;

/// How a consumer wants updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Updates {
    /// There are none.
    None,
    /// +U alone.
    OnlyAfter,
    /// -U and +U.
    BeforeAndAfter,
}

impl Updates {
    /// `self`, if there are updates at all.
    pub(crate) fn of(self, kinds: Kinds) -> Self {
        if kinds.update { self } else { Self::None }
    }
}

/// An operator takes rows that are only added, and its input gives others. In Flink's words.
pub(crate) fn unsupported_input(consumer: &str, input: &Draft) -> SqlError {
    unsupported_changes(consumer, input.kinds, input)
}

/// The same of some of the input's changes.
pub(crate) fn unsupported_changes(consumer: &str, changes: Kinds, input: &Draft) -> SqlError {
    let changes = match (changes.update, changes.delete) {
        (true, true) => "update and delete",
        (false, true) => "delete",
        _ => "update",
    };
    let producer = producer(input);
    let message = format!(
        "{consumer} doesn't support consuming {changes} changes which is produced by node {}",
        super::names::name(producer)
    );
    SqlError::unsupported(message, producer.position.or(input.position))
}

/// The operator that makes updates of rows that are only added; those behind it pass them on.
fn producer(draft: &Draft) -> &Draft {
    let passes_on = matches!(
        draft.spec,
        NodeSpec::Calc { .. }
            | NodeSpec::WatermarkAssigner(_)
            | NodeSpec::Union
            | NodeSpec::Expand(_)
            | NodeSpec::Correlate(_)
            | NodeSpec::LookupJoin(_)
            | NodeSpec::WindowTableFunction(_)
    );
    let changing = draft.inputs.iter().find(|input| !input.node.is_insert_only());
    match changing {
        Some(input) if passes_on => producer(&input.node),
        _ => draft,
    }
}

/// An upsert stream as its source gives it, if nothing but projections, and filters on its key, is computed of it: a sink that takes it so needs
/// no operator that completes it.
pub(crate) fn without_normalize(draft: &Draft) -> Option<Draft> {
    let input = draft.input()?;
    match &draft.spec {
        NodeSpec::ChangelogNormalize { keys, .. } => {
            let mode = input.changelog;
            (mode.update_after && !mode.update_before).then(|| Draft {
                upsert_keys: vec![super::upsert_keys::key(keys.iter().copied())],
                ..input.clone()
            })
        }
        NodeSpec::Calc { filter, .. }
            if !filter.as_ref().is_some_and(|filter| is_not_by_key(filter, input)) =>
        {
            let below = without_normalize(input)?;
            let distribution = draft.inputs.first()?.distribution.clone();
            let kinds = below.kinds;
            Some(Draft {
                kinds,
                ..given(draft, vec![DraftInput::new(below, distribution)], draft.changelog)
            })
        }
        _ => None,
    }
}

/// Whether a filter reads anything that isn't part of one key.
fn is_not_by_key(filter: &Expr, input: &Draft) -> bool {
    let read: Vec<usize> = columns(filter).into_iter().collect();
    !input.upsert_keys.iter().any(|key| contains(key, &read))
}

/// A draft whose updates come as `wanted`; `None`: that is not possible.
pub(crate) fn settle(draft: &Draft, wanted: Updates) -> Option<Draft> {
    match &draft.spec {
        NodeSpec::Source(_) => source(draft, wanted),
        NodeSpec::Values(_) => Some(given(draft, Vec::new(), ChangelogMode::INSERT_ONLY)),
        NodeSpec::Calc { filter, .. } => {
            let input = draft.input()?;
            let not_by_key = filter.as_ref().is_some_and(|filter| is_not_by_key(filter, input));
            match wanted {
                Updates::OnlyAfter if not_by_key => None,
                _ => passed_on(draft, wanted),
            }
        }
        NodeSpec::WatermarkAssigner(_)
        | NodeSpec::Union
        | NodeSpec::Expand(_)
        | NodeSpec::Correlate(_)
        | NodeSpec::LookupJoin(_)
        | NodeSpec::DropUpdateBefore
        | NodeSpec::WindowTableFunction(_) => passed_on(draft, wanted),
        NodeSpec::ChangelogNormalize { .. } => stateful(draft, wanted, Updates::OnlyAfter),
        NodeSpec::Join(_) => join(draft, wanted),
        NodeSpec::TemporalJoin(_) => temporal_join(draft, wanted),
        NodeSpec::Rank(rank) | NodeSpec::SortLimit(rank) => {
            let input = draft.input()?;
            let ways = strategies(input, &rank.partition, &rank.order);
            ways.into_iter()
                .find_map(|strategy| ranked(draft, wanted, strategy))
        }
        // They take rows back, or there is nothing to take back.
        NodeSpec::GroupAggregate(_)
        | NodeSpec::LocalGroupAggregate(_)
        | NodeSpec::GlobalGroupAggregate(_)
        | NodeSpec::WindowAggregate(_)
        | NodeSpec::OverAggregate(_)
        | NodeSpec::IntervalJoin(_)
        | NodeSpec::WindowJoin(_)
        | NodeSpec::WindowRank { .. }
        | NodeSpec::Deduplicate(_)
        | NodeSpec::WindowDeduplicate { .. }
        | NodeSpec::Limit { .. }
        | NodeSpec::Sort(_)
        | NodeSpec::TemporalSort(_)
        | NodeSpec::SinkMaterializer { .. }
        | NodeSpec::Sink(_) => stateful(draft, wanted, Updates::BeforeAndAfter),
    }
}

fn source(draft: &Draft, wanted: Updates) -> Option<Draft> {
    let gives = draft.changelog;
    match wanted {
        Updates::OnlyAfter if gives.update_before && gives.update_after => {
            let mode = ChangelogMode {
                update_before: false,
                ..gives
            };
            let dropped = Draft::over(draft.clone(), Distribution::Forward, NodeSpec::DropUpdateBefore);
            Some(Draft {
                changelog: mode,
                ..dropped
            })
        }
        Updates::BeforeAndAfter if gives.update_after && !gives.update_before => None,
        _ => Some(draft.clone()),
    }
}

/// The same with settled inputs.
fn given(draft: &Draft, inputs: Vec<DraftInput>, changelog: ChangelogMode) -> Draft {
    Draft {
        inputs,
        changelog,
        spec: draft.spec.clone(),
        schema: draft.schema.clone(),
        upsert_keys: draft.upsert_keys.clone(),
        window: draft.window.clone(),
        monotonicity: draft.monotonicity.clone(),
        ..*draft
    }
}

fn settled_inputs(
    draft: &Draft,
    wanted: impl Fn(usize, &Draft) -> Option<Updates>,
) -> Option<Vec<DraftInput>> {
    let inputs = draft.inputs.iter().enumerate().map(|(position, input)| {
        let wanted = wanted(position, &input.node)?.of(input.node.kinds);
        Some(DraftInput::new(
            settle(&input.node, wanted)?,
            input.distribution.clone(),
        ))
    });
    inputs.collect()
}

fn passed_on(draft: &Draft, wanted: Updates) -> Option<Draft> {
    let inputs = settled_inputs(draft, |_, _| Some(wanted))?;
    let mut changelog = draft.kinds.mode(wanted == Updates::BeforeAndAfter);
    changelog.key_only_deletes = inputs.iter().any(|input| input.node.changelog.key_only_deletes);
    Some(given(draft, inputs, changelog))
}

/// An operator that makes its own updates.
fn stateful(draft: &Draft, wanted: Updates, of_input: Updates) -> Option<Draft> {
    let inputs = settled_inputs(draft, |_, _| Some(of_input))?;
    Some(emitting(
        given(draft, inputs, draft.kinds.mode(wanted == Updates::BeforeAndAfter)),
        wanted,
    ))
}

/// Says in the spec whether -U is wanted.
fn emitting(mut draft: Draft, wanted: Updates) -> Draft {
    let before = wanted == Updates::BeforeAndAfter;
    match &mut draft.spec {
        NodeSpec::GroupAggregate(spec)
        | NodeSpec::LocalGroupAggregate(spec)
        | NodeSpec::GlobalGroupAggregate(spec) => spec.emit_update_before = before,
        NodeSpec::ChangelogNormalize {
            emit_update_before, ..
        } => *emit_update_before = before,
        NodeSpec::Deduplicate(spec)
        | NodeSpec::WindowDeduplicate {
            deduplicate: spec, ..
        } => {
            spec.emit_update_before = before;
        }
        NodeSpec::Rank(rank) | NodeSpec::SortLimit(rank) | NodeSpec::WindowRank { rank, .. } => {
            rank.emit_update_before = before;
        }
        _ => {}
    }
    draft
}

fn ranked(draft: &Draft, wanted: Updates, strategy: RankStrategy) -> Option<Draft> {
    let of_input = match &strategy {
        RankStrategy::UpdateFast(_) => Updates::OnlyAfter,
        RankStrategy::AppendFast | RankStrategy::Retract => Updates::BeforeAndAfter,
    };
    let mut settled = stateful(draft, wanted, of_input)?;
    if let NodeSpec::Rank(rank) | NodeSpec::SortLimit(rank) = &mut settled.spec {
        rank.strategy = strategy;
    }
    Some(settled)
}

fn join(draft: &Draft, wanted: Updates) -> Option<Draft> {
    let NodeSpec::Join(spec) = &draft.spec else {
        return None;
    };
    let inputs = settled_inputs(draft, |position, input| {
        let keys = if position == 0 {
            &spec.keys.left
        } else {
            &spec.keys.right
        };
        // An update that changes the join key would leave the old row where it was.
        let by_key = input.upsert_keys.iter().any(|key| contains(key, keys));
        match wanted {
            Updates::OnlyAfter if input.kinds.update && !by_key => None,
            Updates::OnlyAfter => Some(Updates::OnlyAfter),
            _ => Some(Updates::BeforeAndAfter),
        }
    })?;
    Some(given(
        draft,
        inputs,
        draft.kinds.mode(wanted == Updates::BeforeAndAfter),
    ))
}

fn temporal_join(draft: &Draft, wanted: Updates) -> Option<Draft> {
    let inputs = settled_inputs(draft, |position, _| match (position, wanted) {
        (0, Updates::BeforeAndAfter) => Some(Updates::BeforeAndAfter),
        _ => Some(Updates::OnlyAfter),
    })?;
    Some(given(
        draft,
        inputs,
        draft.kinds.mode(wanted == Updates::BeforeAndAfter),
    ))
}
