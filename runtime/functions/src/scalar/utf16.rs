//! What Flink does with Java's strings, whose characters are units of UTF-16: half a pair, cut off, is written as `?`.

use arrow::array::StringBuilder;

use super::support::{push, push_char};

/// Units of a text.
pub(super) fn length(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        text.encode_utf16().count()
    }
}

fn write(out: &mut StringBuilder, units: impl IntoIterator<Item = u16>) {
    for character in char::decode_utf16(units) {
        push_char(out, character.unwrap_or('?'));
    }
}

/// LPAD and RPAD; the pad isn't empty.
pub(super) fn pad(out: &mut StringBuilder, text: &str, length: usize, pad: &str, in_front: bool) {
    let kept: Vec<u16> = text.encode_utf16().take(length).collect();
    let pad: Vec<u16> = pad.encode_utf16().collect();
    let filling = pad.iter().copied().cycle().take(length - kept.len());
    match in_front {
        true => write(out, filling.chain(kept.iter().copied())),
        false => write(out, kept.iter().copied().chain(filling)),
    }
}

/// OVERLAY: the text as it is if the start is outside of it, nothing of the rest behind an end outside of it.
pub(super) fn overlay(out: &mut StringBuilder, text: &str, new: &str, start: i64, replaced: i64) {
    let units: Vec<u16> = text.encode_utf16().collect();
    let total = units.len() as i64;
    if start <= 0 || start > total {
        return push(out, text);
    }
    let front = units[..start as usize - 1].iter().copied();
    let rest = match start.saturating_add(replaced) {
        end if end <= total && replaced > 0 => &units[end as usize - 1..],
        _ => &[],
    };
    write(out, front.chain(new.encode_utf16()).chain(rest.iter().copied()));
}
