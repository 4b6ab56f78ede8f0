//! Numbers.

use std::io::{Cursor, Write as _};

/// The most digits of a DECIMAL.
const MAX_PRECISION: u8 = 38;

/// Java's `String.trim`: without what is at or below the space at both ends.
pub fn trim(text: &[u8]) -> &[u8] {
    let begin = text.iter().position(|byte| *byte > b' ').unwrap_or(text.len());
    let end = text
        .iter()
        .rposition(|byte| *byte > b' ')
        .map_or(begin, |last| last + 1);
    &text[begin..end]
}

/// `Boolean.parseBoolean`: "true" in any case is true, everything else is not.
pub fn parse_boolean(text: &[u8]) -> bool {
    text.eq_ignore_ascii_case(b"true")
}

/// `Long.parseLong`: a sign and digits.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value: i64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // Down from zero, since there is one more below than above.
        value = value.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative {
        Some(value)
    } else {
        value.checked_neg()
    }
}

/// `Double.parseDouble` without hexadecimal numbers; spaces around it are allowed.
pub fn parse_double(text: &[u8]) -> Option<f64> {
    java_float_text(text)?.parse().ok()
}

/// `Float.parseFloat` without hexadecimal numbers; spaces around it are allowed.
pub fn parse_float(text: &[u8]) -> Option<f32> {
    java_float_text(text)?.parse().ok()
}

/// What Java takes for a floating point number and Rust reads in the same way.
fn java_float_text(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(trim(text)).ok()?;
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned.as_bytes() {
        b"NaN" | b"Infinity" => return Some(text),
        [b'0'..=b'9' | b'.', ..] => {}
        _ => return None,
    }
    let is_suffixed = matches!(
        text.as_bytes(),
        [.., b'0'..=b'9' | b'.', b'd' | b'D' | b'f' | b'F']
    );
    Some(if is_suffixed {
        &text[..text.len() - 1]
    } else {
        text
    })
}

/// A number's unscaled value at a scale, rounded half up; `Ok(None)` if it has more digits than the precision, which is null in Flink, and
/// `Err` if it is no number.
pub fn parse_decimal(text: &[u8], precision: u8, scale: u8) -> Result<Option<i128>, NotANumber> {
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let number = Digits::read(unsigned).ok_or(NotANumber)?;
    let magnitude = number.at_scale(i64::from(scale));
    let limit = 10_i128.checked_pow(u32::from(precision.min(MAX_PRECISION)));
    let fits = magnitude.filter(|magnitude| limit.is_none_or(|limit| *magnitude < limit));
    Ok(fits.map(|magnitude| if negative { -magnitude } else { magnitude }))
}

/// A text that is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotANumber;

/// The parts of a decimal number.
struct Digits<'a> {
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl<'a> Digits<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        let end = |text: &[u8]| {
            text.iter()
                .position(|byte| !byte.is_ascii_digit())
                .unwrap_or(text.len())
        };
        let (whole, rest) = text.split_at(end(text));
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => rest.split_at(end(rest)),
            rest => (&[][..], rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let exponent = match rest {
            [] => 0,
            // As BigDecimal, whose exponent is an int.
            [b'e' | b'E', exponent @ ..] => i64::from(i32::try_from(parse_integer(exponent)?).ok()?),
            _ => return None,
        };
        Some(Self {
            whole,
            fraction,
            exponent,
        })
    }

    /// The unscaled value, rounded half up; `None` if it has more than 38 digits.
    fn at_scale(&self, scale: i64) -> Option<i128> {
        // Of so many digits, counted from the first, the value is made.
        let wanted = self.whole.len() as i64 + self.exponent + scale;
        let mut digits = self
            .whole
            .iter()
            .chain(self.fraction)
            .map(|byte| i128::from(byte - b'0'));
        let mut value: i128 = 0;
        for _ in 0..wanted.max(0) {
            match digits.next() {
                Some(digit) => value = value.checked_mul(10)?.checked_add(digit)?,
                None if value == 0 => break,
                None => value = value.checked_mul(10)?,
            }
        }
        let rounds_up = wanted >= 0 && digits.next().is_some_and(|digit| digit >= 5);
        value.checked_add(i128::from(rounds_up))
    }
}

/// A whole number.
pub fn write_integer(out: &mut Vec<u8>, value: i64) {
    write_digits(out, value < 0, u128::from(value.unsigned_abs()));
}

fn write_digits(out: &mut Vec<u8>, negative: bool, value: u128) {
    let mut digits = [0_u8; 40];
    let begin = digits_of(value, &mut digits);
    if negative {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[begin..]);
}

/// Puts a number's digits at the end; where they begin.
fn digits_of(value: u128, digits: &mut [u8; 40]) -> usize {
    let mut begin = digits.len();
    let mut wide = value;
    while wide > u128::from(u64::MAX) {
        begin -= 1;
        digits[begin] = b'0' + (wide % 10) as u8;
        wide /= 10;
    }
    let mut rest = wide as u64;
    loop {
        begin -= 1;
        digits[begin] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return begin;
        }
    }
}

/// `BigDecimal.toPlainString`.
pub fn write_decimal_plain(out: &mut Vec<u8>, unscaled: i128, scale: u8) {
    let mut digits = [0_u8; 40];
    let begin = digits_of(unscaled.unsigned_abs(), &mut digits);
    let digits = &digits[begin..];
    if unscaled < 0 {
        out.push(b'-');
    }
    let scale = usize::from(scale);
    if scale == 0 {
        return out.extend_from_slice(digits);
    }
    let whole = digits.len().saturating_sub(scale);
    match whole {
        0 => out.push(b'0'),
        _ => out.extend_from_slice(&digits[..whole]),
    }
    out.push(b'.');
    out.extend(std::iter::repeat_n(b'0', scale.saturating_sub(digits.len())));
    out.extend_from_slice(&digits[whole..]);
}

/// `BigDecimal.toString`: with an exponent if the number is below a millionth.
pub fn write_decimal(out: &mut Vec<u8>, unscaled: i128, scale: u8) {
    let mut digits = [0_u8; 40];
    let begin = digits_of(unscaled.unsigned_abs(), &mut digits);
    let digits = &digits[begin..];
    let adjusted = digits.len() as i64 - 1 - i64::from(scale);
    if adjusted >= -6 {
        return write_decimal_plain(out, unscaled, scale);
    }
    if unscaled < 0 {
        out.push(b'-');
    }
    out.push(digits[0]);
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
    out.push(b'E');
    write_integer(out, adjusted);
}

/// `Double.toString`: plain between 10^-3 and 10^7, else `d.dE±n`.
pub fn write_double(out: &mut Vec<u8>, value: f64) {
    let mut text = [0_u8; 32];
    let mut cursor = Cursor::new(&mut text[..]);
    // 32 bytes hold the shortest digits of any double.
    let _ = write!(cursor, "{:e}", value.abs());
    let length = cursor.position() as usize;
    write_java_float(out, value, &text[..length]);
}

/// `Float.toString`.
pub fn write_float(out: &mut Vec<u8>, value: f32) {
    let mut text = [0_u8; 32];
    let mut cursor = Cursor::new(&mut text[..]);
    let _ = write!(cursor, "{:e}", value.abs());
    let length = cursor.position() as usize;
    write_java_float(out, f64::from(value), &text[..length]);
}

/// `scientific` holds the shortest digits as Rust's `{:e}` writes them for the absolute value.
fn write_java_float(out: &mut Vec<u8>, value: f64, scientific: &[u8]) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    if value.is_infinite() {
        return out.extend_from_slice(b"Infinity");
    }
    if value == 0.0 {
        return out.extend_from_slice(b"0.0");
    }
    let e = scientific
        .iter()
        .position(|byte| *byte == b'e')
        .unwrap_or(scientific.len());
    let exponent = parse_integer(scientific.get(e + 1..).unwrap_or_default()).unwrap_or(0);
    let (first, behind) = (&scientific[..1], scientific.get(2..e).unwrap_or_default());
    let fraction = |out: &mut Vec<u8>, digits: &[u8]| match digits {
        [] => out.push(b'0'),
        digits => out.extend_from_slice(digits),
    };
    match exponent {
        0..7 => {
            let exponent = exponent as usize;
            let whole = behind.len().min(exponent);
            out.extend_from_slice(first);
            out.extend_from_slice(&behind[..whole]);
            out.extend(std::iter::repeat_n(b'0', exponent - whole));
            out.push(b'.');
            fraction(out, &behind[whole..]);
        }
        -3..0 => {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
            out.extend_from_slice(first);
            out.extend_from_slice(behind);
        }
        _ => {
            out.extend_from_slice(first);
            out.push(b'.');
            fraction(out, behind);
            out.push(b'E');
            write_integer(out, exponent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn integers_are_read_to_their_limits() {
        assert_eq!(parse_integer(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_integer(b"+9223372036854775807"), Some(i64::MAX));
        for wrong in ["9223372036854775808", "", "-", "1.0", " 1", "1e3"] {
            assert_eq!(parse_integer(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn doubles_are_read_as_java_reads_them() {
        assert_eq!(parse_double(b" 1.5d "), Some(1.5));
        assert_eq!(parse_double(b"-Infinity"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_double(b".5"), Some(0.5));
        for wrong in ["inf", "nan", "infinity", "", "1,5", "d"] {
            assert_eq!(parse_double(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn decimals_are_rounded_half_up_and_too_large_ones_are_null() {
        let parse = |text: &str| parse_decimal(text.as_bytes(), 5, 2);
        assert_eq!(parse("1.005"), Ok(Some(101)));
        assert_eq!(parse("-1.005"), Ok(Some(-101)));
        assert_eq!(parse("1.5E+2"), Ok(Some(15_000)));
        assert_eq!(parse("5E-3"), Ok(Some(1)));
        assert_eq!(parse("4E-30"), Ok(Some(0)));
        assert_eq!(parse("999.994"), Ok(Some(99_999)));
        assert_eq!(parse("999.995"), Ok(None));
        assert_eq!(parse("0E999999999"), Ok(Some(0)));
        assert_eq!(parse("1E999999999"), Ok(None));
        for wrong in ["", ".", "1.2.3", "1e", "x", "1E99999999999"] {
            assert_eq!(parse(wrong), Err(NotANumber), "{wrong}");
        }
    }

    #[test]
    fn decimals_are_written_as_big_decimal_writes_them() {
        assert_eq!(written(|out| write_decimal(out, 90_800, 3)), "90.800");
        assert_eq!(written(|out| write_decimal(out, -5, 2)), "-0.05");
        assert_eq!(written(|out| write_decimal(out, 12, 8)), "1.2E-7");
        assert_eq!(written(|out| write_decimal(out, 0, 7)), "0E-7");
        assert_eq!(written(|out| write_decimal_plain(out, 12, 8)), "0.00000012");
        assert_eq!(
            written(|out| write_decimal_plain(out, i128::MIN, 0)),
            i128::MIN.to_string()
        );
    }

    #[test]
    fn doubles_are_written_as_java_writes_them() {
        let cases = [
            (1.0, "1.0"),
            (-2.5, "-2.5"),
            (1e7, "1.0E7"),
            (9_999_999.0, "9999999.0"),
            (1_234_500.0, "1234500.0"),
            (0.001, "0.001"),
            (1.25e-4, "1.25E-4"),
            (123.456, "123.456"),
            (-0.0, "-0.0"),
            (1e300, "1.0E300"),
            (f64::NAN, "NaN"),
        ];
        for (value, text) in cases {
            assert_eq!(written(|out| write_double(out, value)), text);
        }
        assert_eq!(written(|out| write_float(out, 16_777_216.0)), "1.6777216E7");
        assert_eq!(written(|out| write_float(out, 0.1)), "0.1");
    }
}
