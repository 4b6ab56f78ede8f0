//! Sizes of memory and storage: Flink's notation and Kubernetes'.

/// Reads a size in bytes. Flink's units are powers of 1024 whatever they are called (`512m`, `1 gb`, `4096`); Kubernetes'
/// binary ones are as well (`512Mi`), its decimal ones are told by the capital letter (`512M`, `1G`).
///
/// # Errors
/// What is wrong with the text, without naming the field.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text
        .bytes()
        .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
        .count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "b" | "bytes" => 1,
        "k" | "kb" | "kibibytes" | "Ki" => 1 << 10,
        "m" | "mb" | "mebibytes" | "Mi" => 1 << 20,
        "g" | "gb" | "gibibytes" | "Gi" => 1 << 30,
        "t" | "tb" | "tebibytes" | "Ti" => 1 << 40,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        other => {
            return Err(format!(
                "{text:?} has the unknown unit {other:?}; use Flink's (1024m, 2g) or Kubernetes' (1Gi, 512Mi)"
            ));
        }
    };
    let wrong = || format!("{text:?} is not a size; write a number and a unit, as 1024m or 2Gi");
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * factor as f64;
    // Above 2^53 a float no longer counts bytes; nothing has 8 PiB.
    if !(1.0..9.0e15).contains(&bytes) {
        return Err(wrong());
    }
    Ok(bytes as u64)
}

/// A size as a Kubernetes quantity that people can read.
#[must_use]
pub fn quantity(bytes: u64) -> String {
    for (shift, unit) in [(30, "Gi"), (20, "Mi"), (10, "Ki")] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// A size in Flink's notation.
#[must_use]
pub fn flink_size(bytes: u64) -> String {
    for (shift, unit) in [(30, "g"), (20, "m"), (10, "k")] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}b")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_are_read() {
        for (text, bytes) in [
            ("1024m", 1 << 30),
            ("2 gb", 2 << 30),
            ("1.5g", 3 << 29),
            ("512Mi", 512 << 20),
            ("1Gi", 1 << 30),
            ("1G", 1_000_000_000),
            ("4096", 4096),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_the_text_in_the_message() {
        for text in ["", "m", "-1g", "1x", "0", "1..2m", "99999999999t"] {
            let message = parse_bytes(text).unwrap_err();
            assert!(message.contains(&format!("{text:?}")), "{message}");
        }
    }

    #[test]
    fn sizes_are_written_in_the_largest_whole_unit() {
        assert_eq!(quantity(1 << 30), "1Gi");
        assert_eq!(quantity(1536 << 20), "1536Mi");
        assert_eq!(quantity(1001), "1001");
        assert_eq!(flink_size(1536 << 20), "1536m");
        assert_eq!(flink_size(1001), "1001b");
    }
}
