//! Digests, Base64, character sets and random identifiers.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryBuilder, StringBuilder};
use arrow::datatypes::Int32Type;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha2::Digest;
use thalweg_plan::{DataType, TypeRoot};

use super::math::push_hex;
use super::string::function;
use super::support::{
    BYTES, DONE, Kind, STRING, binaries, fixed, map_text, numbers, push, push_char, texts, write_texts,
};
use crate::registry::{Call, ScalarFunction, Signature};

use Kind::{Bytes, Int, Text};

/// This module's functions.
pub(crate) const FUNCTIONS: &[ScalarFunction] = &[
    function!(
        "MD5",
        "MD5(string)",
        &[Text],
        1,
        STRING,
        |call| digest::<md5::Md5>(call)
    ),
    function!("SHA1", "SHA1(string)", &[Text], 1, STRING, |call| digest::<
        sha1::Sha1,
    >(call)),
    function!("SHA224", "SHA224(string)", &[Text], 1, STRING, |call| digest::<
        sha2::Sha224,
    >(call)),
    function!("SHA256", "SHA256(string)", &[Text], 1, STRING, |call| digest::<
        sha2::Sha256,
    >(call)),
    function!("SHA384", "SHA384(string)", &[Text], 1, STRING, |call| digest::<
        sha2::Sha384,
    >(call)),
    function!("SHA512", "SHA512(string)", &[Text], 1, STRING, |call| digest::<
        sha2::Sha512,
    >(call)),
    function!("SHA2", "SHA2(string, bits)", &[Text, Int], 2, STRING, sha2_of),
    function!("TO_BASE64", "TO_BASE64(string)", &[Text], 1, STRING, to_base64),
    function!(
        "FROM_BASE64",
        "FROM_BASE64(string)",
        &[Text],
        1,
        STRING,
        from_base64
    ),
    function!(
        "ENCODE",
        "ENCODE(string, character set)",
        &[Text, Text],
        2,
        BYTES,
        encode
    ),
    function!(
        "DECODE",
        "DECODE(bytes, character set)",
        &[Bytes, Text],
        2,
        STRING,
        decode
    ),
    ScalarFunction {
        name: "UUID",
        usage: "UUID()",
        infer: |args| match args {
            [] => Ok(Signature {
                args: Vec::new(),
                result: DataType::not_null(TypeRoot::Char(36)),
            }),
            _ => Err("()".into()),
        },
        kernel: uuid,
        is_deterministic: false,
    },
];

const LOWER: &[u8; 16] = b"0123456789abcdef";

fn digest<D: Digest>(call: &Call<'_>) -> Result<ArrayRef, String> {
    map_text(call, |text, out| {
        push_hex(out, &D::digest(text.as_bytes()), LOWER);
        DONE
    })
}

fn sha2_of(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, bits) = (texts(call, 0)?, numbers::<Int32Type>(call, 1)?);
    write_texts(call.rows, call.rows * 64, |row, out| {
        let (Some(text), Some(bits)) = (input.get(row), bits.get(row)) else {
            return Ok(None);
        };
        match bits {
            224 => push_hex(out, &sha2::Sha224::digest(text.as_bytes()), LOWER),
            256 => push_hex(out, &sha2::Sha256::digest(text.as_bytes()), LOWER),
            384 => push_hex(out, &sha2::Sha384::digest(text.as_bytes()), LOWER),
            512 => push_hex(out, &sha2::Sha512::digest(text.as_bytes()), LOWER),
            other => {
                return Err(format!(
                    "Unsupported algorithm: SHA-{other}; there are 224, 256, 384 and 512"
                ));
            }
        }
        DONE
    })
}

/// As `java.util.Base64`: padding may be left out, spare bits aren't looked at.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

fn to_base64(call: &Call<'_>) -> Result<ArrayRef, String> {
    let mut encoded = String::new();
    map_text(call, |text, out| {
        encoded.clear();
        BASE64.encode_string(text, &mut encoded);
        push(out, &encoded);
        DONE
    })
}

fn from_base64(call: &Call<'_>) -> Result<ArrayRef, String> {
    let mut bytes = Vec::new();
    map_text(call, |text, out| {
        bytes.clear();
        BASE64
            .decode_vec(text, &mut bytes)
            .map_err(|error| format!("'{text}' is no Base64: {error}"))?;
        push(out, &String::from_utf8_lossy(&bytes));
        DONE
    })
}

/// Character sets that every Java has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charset {
    Ascii,
    Latin1,
    Utf8,
    Utf16,
    Utf16Be,
    Utf16Le,
}

impl Charset {
    fn parse(name: &str) -> Result<Self, String> {
        Ok(match name.to_ascii_uppercase().as_str() {
            "US-ASCII" | "ASCII" => Self::Ascii,
            "ISO-8859-1" | "LATIN1" | "ISO8859_1" => Self::Latin1,
            "UTF-8" | "UTF8" => Self::Utf8,
            "UTF-16" | "UTF16" => Self::Utf16,
            "UTF-16BE" => Self::Utf16Be,
            "UTF-16LE" => Self::Utf16Le,
            _ => {
                return Err(format!(
                    "Unsupported encoding: {name}; there are US-ASCII, ISO-8859-1, UTF-8, UTF-16, UTF-16BE and UTF-16LE"
                ));
            }
        })
    }

    fn encode(self, text: &str, bytes: &mut Vec<u8>) {
        let one_byte = |last: u32| {
            move |character: char| match u32::from(character) {
                code if code <= last => code as u8,
                _ => b'?',
            }
        };
        match self {
            Self::Ascii => bytes.extend(text.chars().map(one_byte(0x7f))),
            Self::Latin1 => bytes.extend(text.chars().map(one_byte(0xff))),
            Self::Utf8 => bytes.extend_from_slice(text.as_bytes()),
            Self::Utf16 | Self::Utf16Be => {
                if self == Self::Utf16 && !text.is_empty() {
                    bytes.extend([0xfe, 0xff]);
                }
                bytes.extend(text.encode_utf16().flat_map(u16::to_be_bytes));
            }
            Self::Utf16Le => bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes)),
        }
    }

    fn decode(self, bytes: &[u8], out: &mut StringBuilder) {
        match self {
            Self::Ascii => bytes.iter().for_each(|&byte| {
                push_char(
                    out,
                    if byte.is_ascii() {
                        byte.into()
                    } else {
                        char::REPLACEMENT_CHARACTER
                    },
                );
            }),
            Self::Latin1 => bytes.iter().for_each(|&byte| push_char(out, byte.into())),
            Self::Utf8 => push(out, &String::from_utf8_lossy(bytes)),
            Self::Utf16 => match bytes {
                [0xfe, 0xff, rest @ ..] => units(rest, u16::from_be_bytes, out),
                [0xff, 0xfe, rest @ ..] => units(rest, u16::from_le_bytes, out),
                rest => units(rest, u16::from_be_bytes, out),
            },
            Self::Utf16Be => units(bytes, u16::from_be_bytes, out),
            Self::Utf16Le => units(bytes, u16::from_le_bytes, out),
        }
    }
}

fn units(bytes: &[u8], unit: fn([u8; 2]) -> u16, out: &mut StringBuilder) {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    for character in char::decode_utf16(units) {
        push_char(out, character.unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    if bytes.len() % 2 == 1 {
        push_char(out, char::REPLACEMENT_CHARACTER);
    }
}

fn encode(call: &Call<'_>) -> Result<ArrayRef, String> {
    let (input, charsets) = (texts(call, 0)?, texts(call, 1)?);
    let mut out = BinaryBuilder::with_capacity(call.rows, input.bytes(call.rows));
    let mut bytes = Vec::new();
    for row in 0..call.rows {
        let (Some(text), Some(charset)) = (input.get(row), charsets.get(row)) else {
            out.append_null();
            continue;
        };
        bytes.clear();
        Charset::parse(charset)?.encode(text, &mut bytes);
        out.append_value(&bytes);
    }
    Ok(Arc::new(out.finish()))
}

fn decode(call: &Call<'_>) -> Result<ArrayRef, String> {
    let ((input, value), charsets) = (binaries(call, 0)?, texts(call, 1)?);
    write_texts(call.rows, input.value_data().len(), |row, out| {
        let row_of_input = value.index(row);
        let Some(charset) = charsets.get(row).filter(|_| input.is_valid(row_of_input)) else {
            return Ok(None);
        };
        Charset::parse(charset)?.decode(input.value(row_of_input), out);
        DONE
    })
}

/// Version 4, as `UUID.randomUUID`.
fn uuid(call: &Call<'_>) -> Result<ArrayRef, String> {
    use std::hash::{BuildHasher, RandomState};
    let keys = (RandomState::new(), RandomState::new());
    write_texts(call.rows, call.rows * 36, |row, out| {
        let (high, low) = (keys.0.hash_one(row), keys.1.hash_one(row));
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        for (place, part) in [0..4, 4..6, 6..8, 8..10, 10..16].into_iter().enumerate() {
            if place > 0 {
                push_char(out, '-');
            }
            push_hex(out, &bytes[part], LOWER);
        }
        DONE
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use crate::testing::{int, text};

    #[test]
    fn digests_and_encodings_are_javas() {
        check(&[
            ("MD5", &[text("Hello World")], "b10a8db164e0754105b7a99be72e3fe5"),
            (
                "SHA1",
                &[text("Hello World")],
                "0a4d55a8d778e5022fab701977c5d840bbc486d0",
            ),
            (
                "SHA224",
                &[text("Hello World")],
                "c4890faffdb0105d991a461e668e276685401b02eab1ef4372795047",
            ),
            (
                "SHA2",
                &[text("Hello World"), int(256)],
                "a591a6d40bf420404a011733cfb7b190d62c65bf0bcda32b57b277d9ad9f146e",
            ),
            ("SHA2", &[text("a"), int(1)], "error: SHA-1"),
            ("TO_BASE64", &[text("äöü€😀x")], "w6TDtsO84oKs8J+YgHg="),
            ("FROM_BASE64", &[text("SGVsbG8")], "Hello"),
            ("FROM_BASE64", &[text("a b")], "error: 'a b' is no Base64"),
            ("HEX", &[text("a")], "61"),
            ("HEX", &[int(-1)], "FFFFFFFFFFFFFFFF"),
            ("BIN", &[int(5)], "101"),
            (
                "ENCODE",
                &[text("a"), text("nothing")],
                "error: Unsupported encoding: nothing",
            ),
        ]);
    }
}
