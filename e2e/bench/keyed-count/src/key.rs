//! The two types of keys.

use std::fmt::Debug;

use thalweg_api::prelude::*;

/// How many hexadecimal digits a key is written with.
pub(crate) const DIGITS: usize = 16;

/// A type of keys that can be read from digits.
pub(crate) trait Key: Record + Debug {
    /// Of [`DIGITS`] digits.
    fn read(digits: &[u8]) -> RecordRef<'_, Self>;
    /// As it was written.
    fn digits(key: RecordRef<'_, Self>) -> String;
}

/// BIGINT: the digits' number.
impl Key for i64 {
    #[inline]
    fn read(digits: &[u8]) -> i64 {
        digits.iter().fold(0, |number, digit| number << 4 | value(*digit))
    }

    fn digits(key: i64) -> String {
        format!("{key:016x}")
    }
}

/// A string of 16 bytes: the digits themselves.
impl Key for String {
    #[inline]
    fn read(digits: &[u8]) -> &str {
        // What is no text is no key either: all of that count as one, and the check of the counts finds it.
        std::str::from_utf8(digits).unwrap_or_default()
    }

    fn digits(key: &str) -> String {
        key.to_owned()
    }
}

/// Of one of `0`-`9` and `a`-`f`, without a branch.
#[inline]
fn value(digit: u8) -> i64 {
    i64::from((digit & 15) + 9 * (digit >> 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_written_alike() {
        for digits in ["0123456789abcdef", "fedcba9876543210", "ffffffffffffffff"] {
            assert_eq!(<i64 as Key>::digits(i64::read(digits.as_bytes())), digits);
            assert_eq!(<String as Key>::digits(String::read(digits.as_bytes())), digits);
        }
        assert_eq!(i64::read(b"00000000000000ff"), 255);
    }
}
