//! Two ends of an exchange, batches of all types, and the patience to wait for a condition but not for ever.

use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::types::{Int8Type, Int32Type};
use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Field, Fields, IntervalMonthDayNano, IntervalUnit, Schema, TimeUnit, UnionFields, i256,
};
use futures::task::noop_waker_ref;
use thalweg_types::element::CheckpointBarrier;
use thalweg_types::{ExecutionId, JobId, StreamBatch, StreamElement, VertexId, WatermarkCut};
use tokio::runtime::Runtime;

use crate::{ChannelId, ChannelWriter, Exchange, ExchangeConfig, ExchangeError, InputGate};

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Transport {
    Local,
    Tcp,
}

/// A producer's and a consumer's exchange; the same one if local.
pub(crate) struct Net {
    pub(crate) producer: Arc<Exchange>,
    pub(crate) consumer: Arc<Exchange>,
    pub(crate) address: String,
    pub(crate) runtime: Runtime,
}

impl Net {
    pub(crate) fn new(transport: Transport, configure: impl Fn(&mut ExchangeConfig)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let start = || {
            let io = runtime.handle().clone();
            let mut config = ExchangeConfig::new(([127, 0, 0, 1], 0).into(), 64 << 20, io, "token");
            configure(&mut config);
            runtime.block_on(Exchange::start(config)).unwrap()
        };
        let producer = start();
        let consumer = if transport == Transport::Local {
            producer.clone()
        } else {
            start()
        };
        let address = producer.local_addr().to_string();
        Self {
            producer,
            consumer,
            address,
            runtime,
        }
    }

    pub(crate) fn writers(&self, producer: ExecutionId, subpartitions: u32) -> Vec<ChannelWriter> {
        self.producer
            .result_partition(producer, 0, subpartitions)
            .unwrap()
    }

    pub(crate) fn gate(&self, channels: &[ChannelId]) -> InputGate {
        let channels = channels
            .iter()
            .map(|channel| (*channel, self.address.clone()))
            .collect();
        self.consumer.input_gate(channels).unwrap()
    }

    /// One channel, both ends.
    pub(crate) fn channel(&self) -> (ChannelWriter, InputGate) {
        let producer = execution(0);
        let writer = self.writers(producer, 1).remove(0);
        let gate = self.gate(&[writer.id()]);
        (writer, gate)
    }

    pub(crate) fn next(&self, gate: &mut InputGate) -> Result<Option<(usize, StreamElement)>, ExchangeError> {
        self.wait(|cx| gate.poll_next(cx))
    }

    pub(crate) fn next_batch(&self, gate: &mut InputGate) -> StreamBatch {
        match self.next(gate).unwrap() {
            Some((_, StreamElement::Batch(batch))) => batch,
            other => panic!("a batch is expected: {other:?}"),
        }
    }

    pub(crate) fn send(&self, writer: &mut ChannelWriter, element: StreamElement) {
        self.wait(|cx| writer.poll_ready(cx)).unwrap();
        writer.send(element).unwrap();
    }

    /// Until it is ready, or the test has waited far too long.
    pub(crate) fn wait<T>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        let waiting = async { tokio::time::timeout(PATIENCE, poll_fn(&mut poll)).await };
        self.runtime.block_on(waiting).expect("nothing happened")
    }

    /// The error that a writer sees at last.
    pub(crate) fn writer_error(&self, writer: &mut ChannelWriter) -> ExchangeError {
        self.wait(|cx| match writer.poll_ready(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error),
            Poll::Ready(Ok(())) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        })
    }
}

/// The same test over both transports.
pub(crate) fn over_both(test: impl Fn(Net)) {
    over_both_with(|_| {}, test);
}

pub(crate) fn over_both_with(configure: impl Fn(&mut ExchangeConfig), test: impl Fn(Net)) {
    for transport in [Transport::Local, Transport::Tcp] {
        test(Net::new(transport, &configure));
    }
}

pub(crate) fn is_pending<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> bool {
    poll(&mut Context::from_waker(noop_waker_ref())).is_pending()
}

pub(crate) fn execution(subtask: u32) -> ExecutionId {
    ExecutionId {
        job: JobId::from_u128(1),
        vertex: VertexId::from_u128(2),
        subtask,
        attempt: 0,
    }
}

pub(crate) fn barrier(checkpoint_id: u64) -> StreamElement {
    StreamElement::Barrier(CheckpointBarrier {
        checkpoint_id,
        timestamp_ms: 1000 + checkpoint_id,
        options: checkpoint_id.to_le_bytes().as_slice().into(),
    })
}

pub(crate) fn cut(row: u32, timestamp_ms: i64) -> WatermarkCut {
    WatermarkCut { row, timestamp_ms }
}

/// Rows of one Int64 column, 8 bytes each.
pub(crate) fn numbers(range: Range<i64>) -> StreamBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let column = Arc::new(Int64Array::from_iter_values(range));
    StreamBatch::new(RecordBatch::try_new(schema, vec![column]).unwrap())
}

pub(crate) fn numbers_of(batch: &StreamBatch) -> Vec<i64> {
    batch
        .rows
        .column(0)
        .as_primitive::<arrow::datatypes::Int64Type>()
        .values()
        .to_vec()
}

/// All that a batch says, for comparison.
pub(crate) fn assert_same(found: &StreamBatch, expected: &StreamBatch) {
    assert_eq!(found.rows.schema(), expected.rows.schema());
    assert_eq!(found.rows, expected.rows);
    assert_eq!(found.kinds, expected.kinds);
    assert_eq!(found.timestamps, expected.timestamps);
    assert_eq!(found.key_hashes, expected.key_hashes);
    assert_eq!(found.watermarks, expected.watermarks);
}

/// Five rows of every Arrow type, with nulls.
pub(crate) fn all_types() -> RecordBatch {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(NullArray::new(5)),
        Arc::new(BooleanArray::from(vec![
            Some(true),
            None,
            Some(false),
            Some(true),
            Some(true),
        ])),
        Arc::new(Int8Array::from(vec![
            Some(1),
            None,
            Some(i8::MIN),
            Some(i8::MAX),
            Some(0),
        ])),
        Arc::new(Int16Array::from(vec![
            Some(1),
            None,
            Some(i16::MIN),
            Some(3),
            Some(0),
        ])),
        Arc::new(Int32Array::from(vec![
            Some(1),
            None,
            Some(i32::MIN),
            Some(3),
            Some(0),
        ])),
        Arc::new(Int64Array::from(vec![
            Some(1),
            None,
            Some(i64::MIN),
            Some(3),
            Some(0),
        ])),
        Arc::new(UInt8Array::from(vec![
            Some(1),
            None,
            Some(u8::MAX),
            Some(3),
            Some(0),
        ])),
        Arc::new(UInt16Array::from(vec![
            Some(1),
            None,
            Some(u16::MAX),
            Some(3),
            Some(0),
        ])),
        Arc::new(UInt32Array::from(vec![
            Some(1),
            None,
            Some(u32::MAX),
            Some(3),
            Some(0),
        ])),
        Arc::new(UInt64Array::from(vec![
            Some(1),
            None,
            Some(u64::MAX),
            Some(3),
            Some(0),
        ])),
        Arc::new(Float32Array::from(vec![
            Some(1.5),
            None,
            Some(-0.0),
            Some(f32::MAX),
            Some(0.0),
        ])),
        Arc::new(Float64Array::from(vec![
            Some(1.5),
            None,
            Some(-0.0),
            Some(f64::MAX),
            Some(0.0),
        ])),
        Arc::new(Date32Array::from(vec![
            Some(1),
            None,
            Some(-1),
            Some(20_000),
            Some(0),
        ])),
        Arc::new(Date64Array::from(vec![
            Some(1),
            None,
            Some(-1),
            Some(20_000),
            Some(0),
        ])),
        Arc::new(Time32SecondArray::from(vec![
            Some(1),
            None,
            Some(2),
            Some(3),
            Some(0),
        ])),
        Arc::new(Time64NanosecondArray::from(vec![
            Some(1),
            None,
            Some(2),
            Some(3),
            Some(0),
        ])),
        Arc::new(DurationMillisecondArray::from(vec![
            Some(1),
            None,
            Some(2),
            Some(3),
            Some(0),
        ])),
        Arc::new(IntervalYearMonthArray::from(vec![
            Some(1),
            None,
            Some(2),
            Some(3),
            Some(0),
        ])),
        Arc::new(FixedSizeBinaryArray::try_from_iter((0..5).map(|n| [n; 3])).unwrap()),
        Arc::new(StringArray::from(vec![
            Some("a"),
            None,
            Some(""),
            Some("Größe"),
            Some("e"),
        ])),
        Arc::new(LargeStringArray::from(vec![
            Some("a"),
            None,
            Some(""),
            Some("Größe"),
            Some("e"),
        ])),
        Arc::new(BinaryArray::from(vec![
            Some(&b"a"[..]),
            None,
            Some(b""),
            Some(b"\xff"),
            Some(b"e"),
        ])),
        Arc::new(LargeBinaryArray::from(vec![
            Some(&b"a"[..]),
            None,
            Some(b""),
            Some(b"\xff"),
            Some(b"e"),
        ])),
        Arc::new(StringViewArray::from(vec![
            Some("short"),
            None,
            Some("longer than twelve bytes"),
            Some(""),
            Some("x"),
        ])),
        Arc::new(BinaryViewArray::from(vec![
            Some(&b"short"[..]),
            None,
            Some(b"longer than twelve bytes"),
            Some(b""),
            None,
        ])),
    ];
    let months = IntervalMonthDayNano::new(1, 2, 3);
    columns.push(Arc::new(IntervalMonthDayNanoArray::from(vec![
        Some(months),
        None,
        None,
        Some(months),
        None,
    ])));
    let utc =
        TimestampMicrosecondArray::from(vec![Some(1), None, Some(-2), Some(3), Some(0)]).with_timezone("UTC");
    columns.push(Arc::new(utc));
    let decimals = Decimal128Array::from(vec![
        Some(12_345),
        None,
        Some(-1),
        Some(i128::from(i64::MAX)),
        Some(0),
    ]);
    columns.push(Arc::new(decimals.with_precision_and_scale(38, 4).unwrap()));
    let wide = Decimal256Array::from(vec![Some(i256::from(12)), None, Some(i256::from(-1)), None, None]);
    columns.push(Arc::new(wide.with_precision_and_scale(76, 2).unwrap()));
    columns.extend(nested_types());
    let fields: Vec<Field> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| Field::new(format!("c{index}"), column.data_type().clone(), true))
        .collect();
    assert!(
        fields
            .iter()
            .any(|f| matches!(f.data_type(), DataType::Timestamp(TimeUnit::Microsecond, Some(_))))
    );
    assert!(
        fields
            .iter()
            .any(|f| *f.data_type() == DataType::Interval(IntervalUnit::MonthDayNano))
    );
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn nested_types() -> Vec<ArrayRef> {
    let lists = || {
        vec![
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
            Some(vec![Some(2)]),
            Some(vec![None]),
        ]
    };
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(lists());
    let large = LargeListArray::from_iter_primitive::<Int32Type, _, _>(lists());
    let pairs = (0..5).map(|n| (n != 1).then(|| vec![Some(n), None]));
    let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(pairs, 2);
    let dictionary: DictionaryArray<Int8Type> = vec![Some("a"), None, Some("b"), Some("a"), Some("c")]
        .into_iter()
        .collect();
    let text: ArrayRef = Arc::new(StringViewArray::from(vec![
        "one",
        "two",
        "three, and long enough",
        "four",
        "five",
    ]));
    let fields = Fields::from(vec![
        Field::new("list", list.data_type().clone(), true),
        Field::new("text", DataType::Utf8View, true),
    ]);
    let nulls = NullBuffer::from(vec![true, false, true, true, true]);
    let structs = StructArray::new(fields, vec![Arc::new(list.clone()), text.clone()], Some(nulls));
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for row in 0..5 {
        for entry in 0..row {
            map.keys().append_value(format!("k{entry}"));
            map.values().append_option((entry != 1).then_some(entry));
        }
        map.append(row != 2).unwrap();
    }
    let of_dictionary = Arc::new(Field::new("item", dictionary.data_type().clone(), true));
    let offsets = OffsetBuffer::new(ScalarBuffer::from(vec![0, 2, 2, 3, 5, 5]));
    let dictionaries = ListArray::new(of_dictionary, offsets, Arc::new(dictionary.clone()), None);
    let members = UnionFields::try_new(
        [0, 1],
        [
            Field::new("n", DataType::Int32, true),
            Field::new("t", DataType::Utf8View, true),
        ],
    );
    let types = ScalarBuffer::from(vec![0_i8, 1, 0, 1, 0]);
    let int: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 4, 5]));
    let union = UnionArray::try_new(members.unwrap(), types, None, vec![int, text]).unwrap();
    let ends = Int32Array::from(vec![2, 5]);
    let runs = RunArray::try_new(&ends, &StringArray::from(vec![Some("x"), None])).unwrap();
    vec![
        Arc::new(list),
        Arc::new(large),
        Arc::new(fixed),
        Arc::new(dictionary),
        Arc::new(structs),
        Arc::new(map.finish()),
        Arc::new(dictionaries),
        Arc::new(union),
        Arc::new(runs),
    ]
}
