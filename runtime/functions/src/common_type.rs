//! The type that values of several types have in common: branches of CASE, UNION and VALUES, operands of comparisons.

use thalweg_plan::data_type::TimeKind;
use thalweg_plan::{DataType, Field, TypeRoot};

/// Flink's largest precision of a DECIMAL.
pub(crate) const MAX_PRECISION: u8 = 38;

/// The least restrictive type, nullable if one of them is; `None` if they have none in common.
pub fn common_type(types: &[DataType]) -> Option<DataType> {
    let nullable = types
        .iter()
        .any(|data_type| data_type.nullable || data_type.root == TypeRoot::Null);
    let mut root: Option<TypeRoot> = None;
    for data_type in types {
        root = Some(match root {
            None => data_type.clone().root,
            Some(root) => common_root(&root, &data_type.root)?,
        });
    }
    root.map(|root| DataType { root, nullable })
}

/// The type that COALESCE, GREATEST and other functions give values of several types: where [`common_type`] keeps the first of local times and
/// instants it takes instants, and FLOAT where that takes DOUBLE for a DECIMAL and a FLOAT.
pub(crate) fn merged_type(types: &[DataType]) -> Option<DataType> {
    let mut types = types.to_vec();
    let is_instant = |data_type: &DataType| matches!(data_type.root, TypeRoot::TimestampLtz(..));
    types.sort_by_key(|data_type| !is_instant(data_type));
    let common = common_type(&types)?;
    let has = |root: TypeRoot| types.iter().any(|data_type| data_type.root == root);
    Some(match common.root {
        TypeRoot::Double if has(TypeRoot::Float) && !has(TypeRoot::Double) => DataType {
            root: TypeRoot::Float,
            ..common
        },
        _ => common,
    })
}

/// Digits of a whole number's type, as DECIMAL(p, 0).
pub(crate) fn decimal_of(root: &TypeRoot) -> Option<(u8, u8)> {
    match root {
        TypeRoot::TinyInt => Some((3, 0)),
        TypeRoot::SmallInt => Some((5, 0)),
        TypeRoot::Int => Some((10, 0)),
        TypeRoot::BigInt => Some((19, 0)),
        TypeRoot::Decimal { precision, scale } => Some((*precision, *scale)),
        _ => None,
    }
}

/// TINYINT to BIGINT.
pub(crate) fn is_integer(root: &TypeRoot) -> bool {
    matches!(
        root,
        TypeRoot::TinyInt | TypeRoot::SmallInt | TypeRoot::Int | TypeRoot::BigInt
    )
}

/// FLOAT or DOUBLE.
pub(crate) fn is_approximate(root: &TypeRoot) -> bool {
    matches!(root, TypeRoot::Float | TypeRoot::Double)
}

/// Any number.
pub(crate) fn is_numeric(root: &TypeRoot) -> bool {
    is_approximate(root) || decimal_of(root).is_some()
}

/// CHAR or VARCHAR.
pub(crate) fn is_character(root: &TypeRoot) -> bool {
    matches!(root, TypeRoot::Char(_) | TypeRoot::VarChar(_))
}

/// BINARY or VARBINARY.
pub(crate) fn is_binary(root: &TypeRoot) -> bool {
    matches!(root, TypeRoot::Binary(_) | TypeRoot::VarBinary(_))
}

/// DATE, TIME or a timestamp.
pub(crate) fn is_datetime(root: &TypeRoot) -> bool {
    matches!(
        root,
        TypeRoot::Date | TypeRoot::Time(_) | TypeRoot::Timestamp(..) | TypeRoot::TimestampLtz(..)
    )
}

fn common_root(left: &TypeRoot, right: &TypeRoot) -> Option<TypeRoot> {
    use TypeRoot::{
        Array, Binary, Char, Decimal, Double, Float, Map, Multiset, Null, Row, Time, Timestamp, TimestampLtz,
        VarBinary, VarChar,
    };
    if left == right {
        return Some(left.clone());
    }
    Some(match (left, right) {
        (Null, other) | (other, Null) => other.clone(),
        (Char(a), Char(b)) if a == b => Char(*a),
        // Calcite keeps CHAR; Flink's branches of different lengths are not padded, hence VARCHAR.
        (Char(a) | VarChar(a), Char(b) | VarChar(b)) => VarChar((*a).max(*b)),
        (Binary(a) | VarBinary(a), Binary(b) | VarBinary(b)) => VarBinary((*a).max(*b)),
        (a, b) if is_integer(a) && is_integer(b) => {
            let wider = decimal_of(a) > decimal_of(b);
            if wider { a.clone() } else { b.clone() }
        }
        (Float, Double) | (Double, Float) => Double,
        (a, b) if is_approximate(a) && is_integer(b) => a.clone(),
        (a, b) if is_integer(a) && is_approximate(b) => b.clone(),
        (Decimal { .. }, b) if is_approximate(b) => Double,
        (a, Decimal { .. }) if is_approximate(a) => Double,
        (a, b) if is_numeric(a) && is_numeric(b) => {
            let ((p, s), (q, t)) = (decimal_of(a)?, decimal_of(b)?);
            let scale = s.max(t);
            let whole = (p - s).max(q - t);
            let precision = (whole + scale).min(MAX_PRECISION);
            let scale = scale.min(MAX_PRECISION.saturating_sub(whole));
            Decimal { precision, scale }
        }
        (Time(a), Time(b)) => Time((*a).max(*b)),
        (Timestamp(a, _), Timestamp(b, _)) => Timestamp((*a).max(*b), TimeKind::Regular),
        (TimestampLtz(a, _), TimestampLtz(b, _)) => TimestampLtz((*a).max(*b), TimeKind::Regular),
        // Calcite has one family of both and takes the first's kind.
        (Timestamp(a, _), TimestampLtz(b, _)) => Timestamp((*a).max(*b), TimeKind::Regular),
        (TimestampLtz(a, _), Timestamp(b, _)) => TimestampLtz((*a).max(*b), TimeKind::Regular),
        (Array(a), Array(b)) => Array(Box::new(common(a, b)?)),
        (Multiset(a), Multiset(b)) => Multiset(Box::new(common(a, b)?)),
        (Map(k, v), Map(l, w)) => Map(Box::new(common(k, l)?), Box::new(common(v, w)?)),
        (Row(a), Row(b)) if a.len() == b.len() => Row(a
            .iter()
            .zip(b)
            .map(|(a, b)| Some(Field::new(a.name.clone(), common(&a.data_type, &b.data_type)?)))
            .collect::<Option<_>>()?),
        _ => return None,
    })
}

fn common(left: &DataType, right: &DataType) -> Option<DataType> {
    common_type(&[left.clone(), right.clone()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(precision: u8, scale: u8) -> TypeRoot {
        TypeRoot::Decimal { precision, scale }
    }

    #[test]
    fn the_common_type_of_numbers_holds_both() {
        let cases = [
            (TypeRoot::TinyInt, TypeRoot::BigInt, TypeRoot::BigInt),
            (TypeRoot::BigInt, TypeRoot::Float, TypeRoot::Float),
            (decimal(10, 2), TypeRoot::Float, TypeRoot::Double),
            (decimal(10, 2), TypeRoot::Int, decimal(12, 2)),
            (decimal(38, 0), decimal(38, 20), decimal(38, 0)),
            (TypeRoot::Char(3), TypeRoot::Char(5), TypeRoot::VarChar(5)),
            (TypeRoot::Null, TypeRoot::Date, TypeRoot::Date),
        ];
        for (left, right, expected) in cases {
            let types = [DataType::not_null(left), DataType::not_null(right)];
            assert_eq!(common_type(&types).map(|common| common.root), Some(expected));
        }
    }

    #[test]
    fn a_number_and_a_text_have_no_common_type() {
        assert_eq!(
            common_type(&[DataType::nullable(TypeRoot::Int), DataType::string()]),
            None
        );
    }

    #[test]
    fn of_local_times_and_instants_the_first_counts_but_in_functions() {
        let local = DataType::not_null(TypeRoot::Timestamp(3, TimeKind::Regular));
        let instant = DataType::not_null(TypeRoot::TimestampLtz(3, TimeKind::Regular));
        let both = [local.clone(), instant.clone()];
        assert_eq!(common_type(&both), Some(local));
        assert_eq!(merged_type(&both), Some(instant));
        let numbers = [
            DataType::not_null(decimal(10, 2)),
            DataType::not_null(TypeRoot::Float),
        ];
        assert_eq!(merged_type(&numbers), Some(DataType::not_null(TypeRoot::Float)));
    }

    #[test]
    fn null_makes_nullable() {
        let types = [
            DataType::not_null(TypeRoot::Int),
            DataType::nullable(TypeRoot::Null),
        ];
        assert_eq!(common_type(&types), Some(DataType::nullable(TypeRoot::Int)));
    }
}
