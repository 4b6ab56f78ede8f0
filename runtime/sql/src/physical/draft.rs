//! Operators while a plan is made: a tree, and what is known of each operator's rows.
//!
//! A draft is made from the sources on: kinds of changes, keys, windows and monotonicity follow from the inputs when an operator is added. Which
//! updates come with -U is known only from the consumers: [`super::changelog`] sets [`Draft::changelog`] later.

use thalweg_plan::spec::{WindowKind, WindowSpec};
use thalweg_plan::{ChangelogMode, Distribution, NodeSpec, Schema};

use crate::error::Position;

/// An operator and all before it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Draft {
    /// What it does.
    pub(crate) spec: NodeSpec,
    /// Where its rows are from.
    pub(crate) inputs: Vec<DraftInput>,
    /// Its columns.
    pub(crate) schema: Schema,
    /// Which changes it can give.
    pub(crate) kinds: Kinds,
    /// With -U or not; before the consumers are known: as if with all.
    pub(crate) changelog: ChangelogMode,
    /// Sets of columns that identify a row; a set without columns: there is one row.
    pub(crate) upsert_keys: Vec<Vec<usize>>,
    /// The windows that its rows are in.
    pub(crate) window: Option<WindowProperties>,
    /// How updates change its columns, by column; `None`: not known.
    pub(crate) monotonicity: Option<Vec<Monotonicity>>,
    /// `None` = the job's.
    pub(crate) parallelism: Option<u32>,
    /// Where it stands in the script.
    pub(crate) position: Option<Position>,
}

/// A logical input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DraftInput {
    /// Who gives its rows.
    pub(crate) node: Box<Draft>,
    /// How they are shared out.
    pub(crate) distribution: Distribution,
}

/// Kinds of changes, whichever way an update is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "SQL's names")]
pub(crate) struct Kinds {
    pub(crate) insert: bool,
    pub(crate) update: bool,
    pub(crate) delete: bool,
}

/// How updates of a row change a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Monotonicity {
    /// Not at all.
    Constant,
    /// It only ever grows.
    Increasing,
    /// It only ever gets smaller.
    Decreasing,
    /// Anyhow.
    None,
}

/// The windows that rows are in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WindowProperties {
    /// `window_start`, if it is still there.
    pub(crate) start: Option<usize>,
    /// `window_end`, if it is still there.
    pub(crate) end: Option<usize>,
    /// `window_time`, if it is still there.
    pub(crate) time: Option<usize>,
    /// Which windows.
    pub(crate) kind: WindowKind,
    /// Shifts all windows, in milliseconds.
    pub(crate) offset_ms: i64,
    /// Of sessions that nothing was aggregated of yet: by which columns; `None` among them: one that is gone.
    pub(crate) sessions_by: Option<Vec<Option<usize>>>,
    /// Whether they are of event time.
    pub(crate) event_time: bool,
    /// Whether their bounds are local times of the session's zone.
    pub(crate) local_time: bool,
}

impl WindowProperties {
    /// Those of a window function behind an input of so many columns.
    pub(crate) fn behind(window: &WindowSpec, event_time: bool, local_time: bool, first: usize) -> Self {
        Self {
            start: Some(first),
            end: Some(first + 1),
            time: Some(first + 2),
            kind: window.kind,
            offset_ms: window.offset_ms,
            sessions_by: matches!(window.kind, WindowKind::Session { .. })
                .then(|| window.partition.iter().copied().map(Some).collect()),
            event_time,
            local_time,
        }
    }

    /// The same with columns elsewhere; `None`: they are gone.
    pub(crate) fn moved(&self, place: impl Fn(usize) -> Option<usize>) -> Option<Self> {
        let moved = Self {
            start: self.start.and_then(&place),
            end: self.end.and_then(&place),
            time: self.time.and_then(&place),
            sessions_by: self
                .sessions_by
                .as_ref()
                .map(|columns| columns.iter().map(|column| column.and_then(&place)).collect()),
            ..self.clone()
        };
        (moved.start.is_some() || moved.end.is_some() || moved.time.is_some()).then_some(moved)
    }

    /// Whether they are the same windows, wherever the columns are.
    pub(crate) fn same_windows(&self, other: &Self) -> bool {
        (self.kind, self.offset_ms, self.event_time, self.local_time)
            == (other.kind, other.offset_ms, other.event_time, other.local_time)
    }
}

impl Kinds {
    /// Rows are only added.
    pub(crate) const INSERT: Self = Self {
        insert: true,
        update: false,
        delete: false,
    };
    /// All.
    pub(crate) const ALL: Self = Self {
        insert: true,
        update: true,
        delete: true,
    };

    /// Of a changelog.
    pub(crate) fn of(mode: ChangelogMode) -> Self {
        Self {
            insert: mode.insert,
            update: mode.update_before || mode.update_after,
            delete: mode.delete,
        }
    }

    /// Whether rows are only added.
    pub(crate) fn is_insert_only(self) -> bool {
        !self.update && !self.delete
    }

    /// Those of either.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            insert: self.insert || other.insert,
            update: self.update || other.update,
            delete: self.delete || other.delete,
        }
    }

    /// The changelog, its updates with -U or without.
    pub(crate) fn mode(self, with_update_before: bool) -> ChangelogMode {
        ChangelogMode {
            insert: self.insert,
            update_before: self.update && with_update_before,
            update_after: self.update,
            delete: self.delete,
            key_only_deletes: false,
        }
    }
}

impl Draft {
    /// An operator whose rows are only added, and of which nothing else is known.
    pub(crate) fn new(spec: NodeSpec, inputs: Vec<DraftInput>, schema: Schema) -> Self {
        Self {
            parallelism: inherited(&spec, &inputs),
            spec,
            inputs,
            schema,
            kinds: Kinds::INSERT,
            changelog: ChangelogMode::INSERT_ONLY,
            upsert_keys: Vec::new(),
            window: None,
            monotonicity: None,
            position: None,
        }
    }

    /// An operator over one input that keeps rows, kinds, keys, windows and monotonicity as they are.
    pub(crate) fn over(input: Draft, distribution: Distribution, spec: NodeSpec) -> Self {
        Self {
            kinds: input.kinds,
            changelog: input.changelog,
            upsert_keys: input.upsert_keys.clone(),
            window: input.window.clone(),
            monotonicity: input.monotonicity.clone(),
            schema: input.schema.clone(),
            position: input.position,
            ..Self::new(
                spec,
                vec![DraftInput::new(input, distribution)],
                Schema::default(),
            )
        }
    }

    /// How many columns it has.
    pub(crate) fn width(&self) -> usize {
        self.schema.fields.len()
    }

    /// Whether rows are only added.
    pub(crate) fn is_insert_only(&self) -> bool {
        self.kinds.is_insert_only()
    }

    /// Its only input.
    pub(crate) fn input(&self) -> Option<&Draft> {
        self.inputs.first().map(|input| &*input.node)
    }
}

impl DraftInput {
    /// Rows of a node, shared out so.
    pub(crate) fn new(node: Draft, distribution: Distribution) -> Self {
        Self {
            node: Box::new(node),
            distribution,
        }
    }
}

/// By these columns, or all to one.
pub(crate) fn keyed(columns: &[usize]) -> Distribution {
    match columns {
        [] => Distribution::Singleton,
        columns => Distribution::Hash(columns.to_vec()),
    }
}

/// An operator runs as often as what it reads, unless rows are shared out anew: so updates of a row stay in order. Constants are made once.
fn inherited(spec: &NodeSpec, inputs: &[DraftInput]) -> Option<u32> {
    if matches!(spec, NodeSpec::Values(_))
        || inputs
            .iter()
            .any(|input| input.distribution == Distribution::Singleton)
    {
        return Some(1);
    }
    let first = inputs.first()?.node.parallelism;
    let same =
        |input: &DraftInput| input.distribution == Distribution::Forward && input.node.parallelism == first;
    inputs.iter().all(same).then_some(first).flatten()
}
