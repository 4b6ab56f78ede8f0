use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    Field, Fields, Float16Type, Int8Type, Int32Type, IntervalMonthDayNano, UInt8Type, i256,
};

use super::*;

fn hashes(columns: &[ArrayRef]) -> Vec<u64> {
    let mut out = Vec::new();
    hash_rows(columns, &mut out).unwrap();
    out
}

fn hash(column: impl Array + 'static) -> u64 {
    let hashes = hashes(&[Arc::new(column)]);
    assert_eq!(hashes.len(), 1);
    hashes[0]
}

fn decimal128(unscaled: i128, scale: i8) -> Decimal128Array {
    Decimal128Array::from(vec![unscaled])
        .with_precision_and_scale(30, scale)
        .unwrap()
}

fn float16(value: f32) -> Float16Array {
    PrimitiveArray::<Float16Type>::from_iter_values([<Float16Type as ArrowPrimitiveType>::Native::from_f32(
        value,
    )])
}

fn int_list(values: Vec<Option<i32>>) -> ListArray {
    ListArray::from_iter_primitive::<Int32Type, _, _>([Some(values)])
}

fn pair(number: ArrayRef, text: ArrayRef) -> StructArray {
    let fields = Fields::from(vec![
        Field::new("n", number.data_type().clone(), true),
        Field::new("t", text.data_type().clone(), true),
    ]);
    StructArray::new(fields, vec![number, text], None)
}

fn map(entries: &[(&str, i32)]) -> MapArray {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for (key, value) in entries {
        builder.keys().append_value(key);
        builder.values().append_value(*value);
    }
    builder.append(true).unwrap();
    builder.finish()
}

/// What the golden file holds, by the names used there.
fn golden_rows() -> Vec<(&'static str, Vec<ArrayRef>)> {
    fn one(column: impl Array + 'static) -> Vec<ArrayRef> {
        vec![Arc::new(column)]
    }
    vec![
        ("NULL", one(NullArray::new(1))),
        ("BOOLEAN true", one(BooleanArray::from(vec![true]))),
        ("BOOLEAN false", one(BooleanArray::from(vec![false]))),
        ("INTEGER 0", one(Int64Array::from(vec![0]))),
        ("INTEGER 42", one(Int64Array::from(vec![42]))),
        ("INTEGER -1", one(Int64Array::from(vec![-1]))),
        (
            "INTEGER 9223372036854775807",
            one(Int64Array::from(vec![i64::MAX])),
        ),
        (
            "INTEGER 9223372036854775808",
            one(UInt64Array::from(vec![1 << 63])),
        ),
        ("FLOAT 0.0", one(Float64Array::from(vec![0.0]))),
        ("FLOAT 1.5", one(Float64Array::from(vec![1.5]))),
        ("FLOAT NaN", one(Float64Array::from(vec![f64::NAN]))),
        (
            "FLOAT -Infinity",
            one(Float64Array::from(vec![f64::NEG_INFINITY])),
        ),
        ("TEXT ''", one(StringArray::from(vec![""]))),
        ("TEXT 'thalweg'", one(StringArray::from(vec!["thalweg"]))),
        (
            "TEXT 'Donau-Löß €𝄞'",
            one(StringArray::from(vec!["Donau-Löß €𝄞"])),
        ),
        ("TEXT 'x' * 300", one(StringArray::from(vec!["x".repeat(300)]))),
        ("BYTES 00FF", one(BinaryArray::from(vec![&[0u8, 255][..]]))),
        ("DECIMAL 0", one(decimal128(0, 2))),
        ("DECIMAL 1.5", one(decimal128(15, 1))),
        ("DECIMAL -12300", one(decimal128(-12_300, 0))),
        ("DECIMAL 2^200 + 1", one(large_decimal(200, 1))),
        ("DATE 2026-11-22", one(Date32Array::from(vec![20_779]))),
        ("TIME 00:00:01.5", one(Time32MillisecondArray::from(vec![1_500]))),
        (
            "TIMESTAMP 1970-01-01 00:00:01.5",
            one(TimestampMillisecondArray::from(vec![1_500])),
        ),
        (
            "TIMESTAMP 1969-12-31 23:59:59.999999999",
            one(TimestampNanosecondArray::from(vec![-1])),
        ),
        (
            "INSTANT 1970-01-01 00:00:01.5",
            one(TimestampMillisecondArray::from(vec![1_500]).with_timezone("UTC")),
        ),
        ("DURATION 1.5 s", one(DurationMillisecondArray::from(vec![1_500]))),
        (
            "INTERVAL 1 month 2 days 3 ns",
            one(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(
                1, 2, 3,
            )])),
        ),
        ("LIST []", one(int_list(vec![]))),
        ("LIST [1, NULL, 3]", one(int_list(vec![Some(1), None, Some(3)]))),
        (
            "STRUCT (1, 'a')",
            one(pair(
                Arc::new(Int32Array::from(vec![1])),
                Arc::new(StringArray::from(vec!["a"])),
            )),
        ),
        ("MAP {'a': 1, 'b': 2}", one(map(&[("a", 1), ("b", 2)]))),
        (
            "ROW ('a', 1)",
            vec![
                Arc::new(StringArray::from(vec!["a"])),
                Arc::new(Int64Array::from(vec![1])),
            ],
        ),
        (
            "ROW (1, NULL)",
            vec![Arc::new(Int64Array::from(vec![1])), Arc::new(NullArray::new(1))],
        ),
    ]
}

fn large_decimal(power: u8, plus: i128) -> Decimal256Array {
    let unscaled = (i256::ONE << power) + i256::from_i128(plus);
    Decimal256Array::from(vec![unscaled])
        .with_precision_and_scale(76, 0)
        .unwrap()
}

/// A vector that is in the file never changes: it would move keyed state to other subtasks. New ones are added to it.
#[test]
fn golden_vectors_hold() {
    let committed: BTreeMap<&str, &str> = include_str!("golden.txt")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split_once('\t').unwrap())
        .map(|(hash, name)| (name, hash))
        .collect();
    let computed: BTreeMap<&str, String> = golden_rows()
        .into_iter()
        .map(|(name, columns)| (name, format!("{:016x}", hashes(&columns)[0])))
        .collect();
    let differ: Vec<String> = computed
        .iter()
        .filter(|(name, hash)| committed.get(*name) != Some(&hash.as_str()))
        .map(|(name, hash)| format!("{hash}\t{name}"))
        .collect();
    assert!(differ.is_empty(), "not as committed:\n{}", differ.join("\n"));
    assert_eq!(
        committed.len(),
        computed.len(),
        "a committed vector is not tested"
    );
}

#[test]
fn the_hash_is_what_the_documentation_says() {
    use xxhash_rust::xxh3::xxh3_64_with_seed;
    let seed = u64::from_be_bytes(*b"thalweg\x01");
    let class = |number: u64| number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let text = xxh3_64_with_seed(b"a", seed ^ class(5));
    let row = xxh3_64_with_seed(&1i64.to_le_bytes(), text ^ class(2));
    let columns: [ArrayRef; 2] = [
        Arc::new(StringArray::from(vec!["a"])),
        Arc::new(Int64Array::from(vec![1])),
    ];
    assert_eq!(hashes(&columns), [row]);
}

#[test]
fn different_values_have_different_hashes() {
    let mut all: Vec<u64> = golden_rows()
        .iter()
        .map(|(_, columns)| hashes(columns)[0])
        .collect();
    let rows = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), rows);
}

#[test]
fn an_integer_has_one_hash_in_every_width() {
    let expected = hash(Int64Array::from(vec![42]));
    assert_eq!(hash(Int8Array::from(vec![42])), expected);
    assert_eq!(hash(Int16Array::from(vec![42])), expected);
    assert_eq!(hash(Int32Array::from(vec![42])), expected);
    assert_eq!(hash(UInt8Array::from(vec![42])), expected);
    assert_eq!(hash(UInt16Array::from(vec![42])), expected);
    assert_eq!(hash(UInt32Array::from(vec![42])), expected);
    assert_eq!(hash(UInt64Array::from(vec![42])), expected);
}

#[test]
fn a_float_has_one_nan_and_one_zero_in_every_width() {
    let nan = hash(Float64Array::from(vec![f64::NAN]));
    assert_eq!(hash(Float64Array::from(vec![-f64::NAN])), nan);
    assert_eq!(
        hash(Float64Array::from(vec![f64::from_bits(0x7ff8_dead_beef_0001)])),
        nan
    );
    assert_eq!(hash(Float32Array::from(vec![f32::NAN])), nan);
    assert_eq!(
        hash(Float64Array::from(vec![-0.0])),
        hash(Float64Array::from(vec![0.0]))
    );
    assert_eq!(
        hash(Float32Array::from(vec![1.5])),
        hash(Float64Array::from(vec![1.5]))
    );
    assert_eq!(hash(float16(1.5)), hash(Float64Array::from(vec![1.5])));
}

#[test]
fn a_text_has_one_hash_in_every_encoding() {
    let expected = hash(StringArray::from(vec!["thalweg, the line of fastest flow"]));
    assert_eq!(
        hash(LargeStringArray::from(vec!["thalweg, the line of fastest flow"])),
        expected
    );
    assert_eq!(
        hash(StringViewArray::from(vec!["thalweg, the line of fastest flow"])),
        expected
    );
    let dictionary: DictionaryArray<Int8Type> = ["other", "thalweg, the line of fastest flow"]
        .into_iter()
        .collect();
    assert_eq!(hashes(&[Arc::new(dictionary)])[1], expected);
    let runs: RunArray<Int32Type> = ["a", "a", "thalweg, the line of fastest flow"]
        .into_iter()
        .collect();
    assert_eq!(hashes(&[Arc::new(runs.clone())])[2], expected);
    assert_eq!(hash(runs.slice(2, 1)), expected);
}

#[test]
fn bytes_have_one_hash_in_every_encoding_and_are_no_text() {
    let expected = hash(BinaryArray::from(vec![&b"ab"[..]]));
    assert_eq!(hash(LargeBinaryArray::from(vec![&b"ab"[..]])), expected);
    assert_eq!(hash(BinaryViewArray::from(vec![&b"ab"[..]])), expected);
    assert_eq!(
        hash(FixedSizeBinaryArray::try_from_iter([b"ab"].into_iter()).unwrap()),
        expected
    );
    assert_ne!(hash(StringArray::from(vec!["ab"])), expected);
}

#[test]
fn a_decimal_has_one_hash_in_every_scale_and_width() {
    let expected = hash(decimal128(15, 1));
    assert_eq!(hash(decimal128(150, 2)), expected);
    assert_eq!(hash(decimal128(1_500_000, 6)), expected);
    assert_eq!(
        hash(
            Decimal32Array::from(vec![150])
                .with_precision_and_scale(9, 2)
                .unwrap()
        ),
        expected
    );
    assert_eq!(
        hash(
            Decimal64Array::from(vec![150])
                .with_precision_and_scale(18, 2)
                .unwrap()
        ),
        expected
    );
    let wide = Decimal256Array::from(vec![i256::from_i128(150)])
        .with_precision_and_scale(76, 2)
        .unwrap();
    assert_eq!(hash(wide), expected);
    assert_eq!(hash(decimal128(3, -2)), hash(decimal128(300, 0)));
    assert_eq!(hash(decimal128(0, 5)), hash(decimal128(0, 0)));
    assert_ne!(hash(decimal128(15, 2)), expected);
}

#[test]
fn a_wide_decimal_that_fits_after_its_zeros_are_gone_is_the_narrow_one() {
    let unscaled = i256::from_i128(7).wrapping_mul(i256::from_i128(10).wrapping_pow(60));
    let wide = Decimal256Array::from(vec![unscaled])
        .with_precision_and_scale(76, 60)
        .unwrap();
    assert_eq!(hash(wide), hash(decimal128(7, 0)));
}

#[test]
fn a_time_has_one_hash_in_every_precision() {
    let timestamp = hash(TimestampNanosecondArray::from(vec![-2_000_000_000]));
    assert_eq!(hash(TimestampSecondArray::from(vec![-2])), timestamp);
    assert_eq!(hash(TimestampMillisecondArray::from(vec![-2_000])), timestamp);
    assert_eq!(hash(TimestampMicrosecondArray::from(vec![-2_000_000])), timestamp);
    let time = hash(Time64NanosecondArray::from(vec![3_000_000_000]));
    assert_eq!(hash(Time32SecondArray::from(vec![3])), time);
    assert_eq!(hash(Time64MicrosecondArray::from(vec![3_000_000])), time);
    assert_eq!(
        hash(Date64Array::from(vec![-86_400_000])),
        hash(Date32Array::from(vec![-1]))
    );
    assert_eq!(
        hash(DurationSecondArray::from(vec![1])),
        hash(DurationNanosecondArray::from(vec![1_000_000_000]))
    );
}

#[test]
fn an_instant_is_the_same_in_every_time_zone_but_no_local_time() {
    let local = TimestampSecondArray::from(vec![9]);
    let utc = hash(local.clone().with_timezone("UTC"));
    assert_eq!(hash(local.clone().with_timezone("+02:00")), utc);
    assert_ne!(hash(local), utc);
}

#[test]
fn a_null_is_the_same_in_every_type_and_not_the_default_value() {
    let null = hash(NullArray::new(1));
    assert_eq!(hash(Int32Array::from(vec![None])), null);
    assert_eq!(hash(StringArray::from(vec![None::<&str>])), null);
    assert_eq!(
        hash(ListArray::new_null(
            Arc::new(Field::new_list_field(DataType::Int32, true)),
            1
        )),
        null
    );
    let keys = UInt8Array::from(vec![None]);
    let empty = DictionaryArray::<UInt8Type>::new(keys, Arc::new(StringArray::from(Vec::<&str>::new())));
    assert_eq!(hash(empty), null);
    let to_null = DictionaryArray::<UInt8Type>::new(
        UInt8Array::from(vec![0]),
        Arc::new(StringArray::from(vec![None::<&str>])),
    );
    assert_eq!(hash(to_null), null);
    assert_ne!(hash(Int32Array::from(vec![0])), null);
}

#[test]
fn a_list_has_one_hash_in_every_encoding_and_its_order_counts() {
    let list = hash(int_list(vec![Some(1), Some(2)]));
    let field = Arc::new(Field::new_list_field(DataType::Int32, true));
    let values: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    let fixed = FixedSizeListArray::new(field.clone(), 2, values.clone(), None);
    assert_eq!(hash(fixed), list);
    let large = LargeListArray::new(
        field.clone(),
        OffsetBuffer::new(vec![0i64, 2].into()),
        values.clone(),
        None,
    );
    assert_eq!(hash(large), list);
    let view = ListViewArray::new(
        field,
        ScalarBuffer::from(vec![0i32]),
        ScalarBuffer::from(vec![2i32]),
        values,
        None,
    );
    assert_eq!(hash(view), list);
    assert_ne!(hash(int_list(vec![Some(2), Some(1)])), list);
}

#[test]
fn nesting_is_told_apart() {
    let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    assert_ne!(
        hash(pair(text("ab"), text("c"))),
        hash(pair(text("a"), text("bc")))
    );
    assert_ne!(hashes(&[text("ab"), text("c")]), hashes(&[text("a"), text("bc")]));
    let field = Field::new("n", DataType::Int32, true);
    let inner: ArrayRef = Arc::new(Int32Array::from(vec![7]));
    let null_struct = StructArray::new(
        vec![field].into(),
        vec![inner],
        Some(NullBuffer::from(vec![false])),
    );
    assert_eq!(hash(null_struct), hash(NullArray::new(1)));
}

#[test]
fn the_order_of_a_map_does_not_count_but_who_has_which_value_does() {
    assert_eq!(hash(map(&[("a", 1), ("b", 2)])), hash(map(&[("b", 2), ("a", 1)])));
    assert_ne!(hash(map(&[("a", 1), ("b", 2)])), hash(map(&[("a", 2), ("b", 1)])));
}

#[test]
fn the_fast_paths_and_the_general_way_agree() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(i64::MIN)]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("bc")]));
    for column in [numbers, texts] {
        let general = hashes(std::slice::from_ref(&column));
        assert_eq!(hashes(&[column.slice(0, 1)]), general[..1]);
        assert_eq!(hashes(&[column.slice(2, 1)]), general[2..]);
    }
}

#[test]
fn what_can_be_no_key_is_refused() {
    let mut out = vec![1];
    assert_eq!(hash_rows(&[], &mut out), Err(KeyHashError::NoColumns));
    let short: ArrayRef = Arc::new(NullArray::new(1));
    let long: ArrayRef = Arc::new(NullArray::new(2));
    assert_eq!(
        hash_rows(&[short, long], &mut out),
        Err(KeyHashError::Length {
            expected: 1,
            found: 2
        })
    );
}
