//! A plan: operators and how rows go between them.

use std::fmt;

use crate::data_type::Schema;
use crate::spec::NodeSpec;

/// A job's operators, sources first: a node's inputs come before it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// `nodes[i].id == i`.
    pub nodes: Vec<Node>,
}

/// One operator.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its position in the plan.
    pub id: usize,
    /// What it does.
    pub spec: NodeSpec,
    /// As EXPLAIN and the REST API show it: "GroupAggregate(groupBy=[bidder], select=[bidder, COUNT(*) AS $f1])".
    pub name: String,
    /// Stays the same when the script is edited elsewhere: sink, logical path, operator kind, keys.
    pub uid: String,
    /// `None` = the job's.
    pub parallelism: Option<u32>,
    /// Where its rows are from: one for each logical input; [`NodeSpec::Union`] has one input for each of its branches.
    pub inputs: Vec<Input>,
    /// Its rows.
    pub schema: Schema,
    /// Kinds of its rows.
    pub changelog: ChangelogMode,
    /// Sets of columns that identify a row of its changelog.
    pub upsert_keys: Vec<Vec<usize>>,
}

/// A logical input of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// The node that it comes from.
    pub node: usize,
    /// How rows are shared out to subtasks.
    pub distribution: Distribution,
}

/// How rows are shared out to the subtasks of their consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distribution {
    /// Each subtask's to the same subtask; rebalanced if there are other numbers of them.
    Forward,
    /// By these columns; they are the consumer's key.
    Hash(Vec<usize>),
    /// All to one.
    Singleton,
    /// All to all.
    Broadcast,
}

/// Which kinds of rows a changelog has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ChangelogMode {
    /// +I
    pub insert: bool,
    /// -U
    pub update_before: bool,
    /// +U
    pub update_after: bool,
    /// -D
    pub delete: bool,
    /// Deletes may have the key's columns only.
    pub key_only_deletes: bool,
}

impl ChangelogMode {
    /// +I
    pub const INSERT_ONLY: Self = Self {
        insert: true,
        update_before: false,
        update_after: false,
        delete: false,
        key_only_deletes: false,
    };
    /// +I -U +U -D
    pub const ALL: Self = Self {
        update_before: true,
        update_after: true,
        delete: true,
        ..Self::INSERT_ONLY
    };
    /// +I +U -D
    pub const UPSERT: Self = Self {
        update_before: false,
        ..Self::ALL
    };

    /// Whether rows are only added.
    pub fn is_insert_only(self) -> bool {
        !self.update_before && !self.update_after && !self.delete
    }

    /// Whether every kind of `other` is among its own.
    pub fn contains(self, other: Self) -> bool {
        (self.insert || !other.insert)
            && (self.update_before || !other.update_before)
            && (self.update_after || !other.update_after)
            && (self.delete || !other.delete)
    }
}

impl fmt::Display for ChangelogMode {
    /// As EXPLAIN CHANGELOG_MODE: "I,UB,UA,D".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            (self.insert, "I"),
            (self.update_before, "UB"),
            (self.update_after, "UA"),
            (self.delete, if self.key_only_deletes { "PD" } else { "D" }),
        ];
        let mut comma = "";
        for (_, name) in kinds.into_iter().filter(|(has, _)| *has) {
            write!(f, "{comma}{name}")?;
            comma = ",";
        }
        Ok(())
    }
}
