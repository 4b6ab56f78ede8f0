//! LIKE: what a table takes of another one. Flink's MergeTableLikeUtil.

use std::collections::BTreeMap;

use sqlparser::ast::Ident;

use super::definition::Definition;
use super::{Catalog, Object};
use crate::ast::{ColumnDefKind, LikeClause, LikeFeature, LikeStrategy};
use crate::error::{Position, SqlError};

/// What a table begins with.
#[derive(Default)]
pub(super) struct Inherited {
    pub(super) definition: Definition,
    pub(super) overwrites_generated: bool,
    pub(super) overwrites_metadata: bool,
    pub(super) overwrites_watermark: bool,
    pub(super) overwrites_options: bool,
}

/// Flink's defaults: INCLUDING, but OVERWRITING OPTIONS.
fn strategy(like: &LikeClause, feature: LikeFeature) -> LikeStrategy {
    let said = |wanted: LikeFeature| {
        let mut options = like.options.iter().rev();
        options
            .find(|option| option.feature == wanted)
            .map(|option| option.strategy)
    };
    said(feature)
        .or_else(|| said(LikeFeature::All))
        .unwrap_or(match feature {
            LikeFeature::Options => LikeStrategy::Overwriting,
            _ => LikeStrategy::Including,
        })
}

/// What LIKE takes.
pub(super) fn inherited(catalog: &Catalog, like: &LikeClause) -> Result<Inherited, SqlError> {
    let names: Vec<Ident> = like
        .table
        .0
        .iter()
        .filter_map(|part| part.as_ident().cloned())
        .collect();
    let position = names.first().and_then(|name| Position::of_span(name.span));
    let path = catalog.path_of(&names)?;
    let Object::Table(base) = catalog.find(&path, position)? else {
        let message = format!("Source table '{path}' of the LIKE clause can not be a VIEW");
        return Err(SqlError::semantic(message, position));
    };
    let takes = |feature| strategy(like, feature) != LikeStrategy::Excluding;
    let overwrites = |feature| strategy(like, feature) == LikeStrategy::Overwriting;
    let base = &base.definition;
    let columns = base.columns.iter().filter(|column| match column.kind {
        ColumnDefKind::Physical(_) => true,
        ColumnDefKind::Computed(_) => takes(LikeFeature::Generated),
        ColumnDefKind::Metadata { .. } => takes(LikeFeature::Metadata),
    });
    let definition = Definition {
        columns: columns.cloned().collect(),
        watermark: base.watermark.clone().filter(|_| takes(LikeFeature::Watermarks)),
        primary_key: base
            .primary_key
            .clone()
            .filter(|_| takes(LikeFeature::Constraints)),
        partition_keys: match takes(LikeFeature::Partitions) {
            true => base.partition_keys.clone(),
            false => Vec::new(),
        },
        options: match takes(LikeFeature::Options) {
            true => base.options.clone(),
            false => BTreeMap::new(),
        },
        comment: base.comment.clone(),
    };
    Ok(Inherited {
        definition,
        overwrites_generated: overwrites(LikeFeature::Generated),
        overwrites_metadata: overwrites(LikeFeature::Metadata),
        overwrites_watermark: overwrites(LikeFeature::Watermarks),
        overwrites_options: overwrites(LikeFeature::Options),
    })
}
