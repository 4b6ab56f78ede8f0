//! DECIMAL arithmetic: the types of results, and values rounded half up; a result of too many digits is null.

use arrow::datatypes::i256;

use crate::common_type::MAX_PRECISION;

/// Digits that are kept behind the point when a result has more than 38.
const KEPT_SCALE: i32 = 6;

/// The type of a result, by Flink's rules for DECIMAL(p, s) and DECIMAL(q, t).
pub(super) fn result_type(operator: &str, (p, s): (u8, u8), (q, t): (u8, u8)) -> (u8, u8) {
    let [p, s, q, t] = [p, s, q, t].map(i32::from);
    let (precision, scale) = match operator {
        "*" => (p + q + 1, s + t),
        "/" => {
            let scale = KEPT_SCALE.max(s + q + 1);
            (p - s + t + scale, scale)
        }
        "%" => {
            let scale = s.max(t);
            ((p - s).min(q - t) + scale, scale)
        }
        _ => {
            let scale = s.max(t);
            ((p - s).max(q - t) + scale + 1, scale)
        }
    };
    fitted(precision, scale)
}

/// Cut to 38 digits: first those behind the point, as far as [`KEPT_SCALE`].
fn fitted(precision: i32, scale: i32) -> (u8, u8) {
    let most = i32::from(MAX_PRECISION);
    if precision <= most {
        return (precision as u8, scale as u8);
    }
    let whole = precision - scale;
    let scale = (most - whole).max(scale.min(KEPT_SCALE));
    (MAX_PRECISION, scale as u8)
}

/// What a DECIMAL operation needs to know of its types.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    pub(super) left: u8,
    pub(super) right: u8,
    pub(super) result: u8,
    /// The first magnitude that has too many digits.
    pub(super) limit: u128,
}

impl Scales {
    /// Operands of these scales, a result of this precision and scale.
    pub(super) fn new(left: u8, right: u8, (precision, result): (u8, u8)) -> Self {
        Self {
            left,
            right,
            result,
            limit: 10_u128.pow(precision.into()),
        }
    }

    fn fits(self, value: i256) -> Option<i128> {
        let value = value.to_i128()?;
        (value.unsigned_abs() < self.limit).then_some(value)
    }

    /// A value of another scale in the result's.
    fn rescaled(self, value: i256, scale: i32) -> Option<i128> {
        let change = i32::from(self.result) - scale;
        let value = match change {
            0 => value,
            1.. => times_power(value, change as u32)?,
            _ => divided_half_up(value, power(change.unsigned_abs())?),
        };
        self.fits(value)
    }

    pub(super) fn add(self, left: i128, right: i128) -> Option<i128> {
        if self.left == self.right && self.left == self.result {
            let sum = left.checked_add(right)?;
            return (sum.unsigned_abs() < self.limit).then_some(sum);
        }
        let scale = self.left.max(self.right);
        let left = times_power(i256::from_i128(left), u32::from(scale - self.left))?;
        let right = times_power(i256::from_i128(right), u32::from(scale - self.right))?;
        self.rescaled(left.checked_add(right)?, i32::from(scale))
    }

    pub(super) fn multiply(self, left: i128, right: i128) -> Option<i128> {
        let scale = i32::from(self.left) + i32::from(self.right);
        if scale == i32::from(self.result)
            && let Some(product) = left.checked_mul(right)
        {
            return (product.unsigned_abs() < self.limit).then_some(product);
        }
        self.rescaled(i256::from_i128(left).checked_mul(i256::from_i128(right))?, scale)
    }

    /// The divisor is not zero.
    pub(super) fn divide(self, left: i128, right: i128) -> Option<i128> {
        let change = i32::from(self.result) + i32::from(self.right) - i32::from(self.left);
        if left == 0 {
            return Some(0);
        }
        let (dividend, divisor) = match change {
            // More digits than any quotient of 38 could come from.
            0.. => (
                times_power(i256::from_i128(left), change as u32)?,
                i256::from_i128(right),
            ),
            _ => (
                i256::from_i128(left),
                times_power(i256::from_i128(right), change.unsigned_abs())?,
            ),
        };
        self.fits(divided_half_up(dividend, divisor))
    }

    /// With the sign of the dividend; the divisor is not zero.
    pub(super) fn remainder(self, left: i128, right: i128) -> Option<i128> {
        let scale = self.left.max(self.right);
        let left = times_power(i256::from_i128(left), u32::from(scale - self.left))?;
        let right = times_power(i256::from_i128(right), u32::from(scale - self.right))?;
        self.rescaled(left.wrapping_rem(right), i32::from(scale))
    }
}

fn power(exponent: u32) -> Option<i256> {
    i256::from_i128(10).checked_pow(exponent)
}

fn times_power(value: i256, exponent: u32) -> Option<i256> {
    match exponent {
        0 => Some(value),
        _ => value.checked_mul(power(exponent)?),
    }
}

fn divided_half_up(dividend: i256, divisor: i256) -> i256 {
    let quotient = dividend.wrapping_div(divisor);
    let remainder = dividend.wrapping_rem(divisor).wrapping_abs();
    let half = divisor.wrapping_abs().wrapping_sub(remainder);
    if remainder == i256::ZERO || remainder < half {
        return quotient;
    }
    let negative = (dividend < i256::ZERO) != (divisor < i256::ZERO);
    quotient.wrapping_add(if negative { i256::MINUS_ONE } else { i256::ONE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_types_are_cut_to_38_digits_before_the_point_first() {
        assert_eq!(result_type("*", (3, 3), (19, 0)), (23, 3));
        assert_eq!(result_type("/", (5, 2), (10, 0)), (16, 13));
        assert_eq!(result_type("/", (5, 2), (2, 1)), (10, 6));
        assert_eq!(result_type("+", (5, 2), (10, 0)), (13, 2));
        assert_eq!(result_type("%", (5, 2), (10, 0)), (5, 2));
        assert_eq!(result_type("*", (38, 10), (38, 10)), (38, 6));
        assert_eq!(result_type("+", (38, 0), (38, 10)), (38, 6));
    }

    #[test]
    fn quotients_are_rounded_half_up_and_too_large_ones_are_null() {
        let scales = Scales::new(0, 0, (5, 2));
        assert_eq!(scales.divide(1, 8), Some(13));
        assert_eq!(scales.divide(-1, 8), Some(-13));
        assert_eq!(scales.divide(1, -3), Some(-33));
        assert_eq!(scales.divide(1000, 1), None);
        let wide = Scales::new(0, 38, (38, 38));
        assert_eq!(wide.divide(i128::MAX / 10, 1), None);
    }

    #[test]
    fn sums_of_different_scales_are_exact() {
        let scales = Scales::new(2, 1, (7, 2));
        assert_eq!(scales.add(250, -5), Some(200));
        assert_eq!(scales.remainder(-1025, 30), Some(-125));
    }
}
