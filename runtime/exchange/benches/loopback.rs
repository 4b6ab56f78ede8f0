//! The exchange over loopback TCP alone, beside the cheapest way to move as many bytes and the cheapest way to encode them.
//!
//! `cargo bench -p thalweg-exchange`. Five runs a row; median, smallest and largest. CPU is that of the whole process, both
//! ends included; "GB/s per core" = bytes over CPU seconds. The bytes of a row are the same for all rows of one batch kind:
//! what the exchange puts on the wire.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::writer::StreamWriter;
use thalweg_exchange::{ChannelWriter, Exchange, ExchangeConfig, InputGate};
use thalweg_types::{ExecutionId, JobId, StreamBatch, StreamElement, VertexId};
use tokio::runtime::Runtime;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const RUNS: usize = 5;
/// Of wire bytes a run: with three rows for each of three kinds of batch about a minute in all.
const BYTES_A_RUN: usize = 2 << 30;
const CHANNELS: u32 = 4;

struct Kind {
    name: &'static str,
    batch: StreamBatch,
    /// Bytes of one batch on the wire.
    wire_bytes: usize,
    batches: usize,
}

#[derive(Clone, Copy)]
struct Run {
    elapsed: Duration,
    cpu: Duration,
}

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:<24} {:<22} {:>20} {:>24}",
        "batch", "what", "GB/s (min..max)", "GB/s per core (min..max)"
    )?;
    for (name, batch) in [
        ("4096 rows, numbers", numbers(4096)?),
        ("4096 rows, text", text(4096)?),
        ("64 rows, numbers", numbers(64)?),
    ] {
        let wire_bytes = wire_bytes(&runtime, &batch)?;
        // Small batches are bound by their number: fewer bytes take as long.
        let bytes = BYTES_A_RUN.min(wire_bytes * 200_000);
        let kind = Kind {
            name,
            batch,
            wire_bytes,
            batches: bytes / wire_bytes,
        };
        row(&mut out, &kind, "exchange", || exchange(&runtime, &kind))?;
        row(&mut out, &kind, "plain TCP copy", || plain_tcp(&kind))?;
        row(&mut out, &kind, "Arrow IPC encode", || ipc_encode(&kind))?;
    }
    Ok(())
}

fn row(
    out: &mut impl Write,
    kind: &Kind,
    what: &str,
    run: impl Fn() -> Result<Run, Failure>,
) -> Result<(), Failure> {
    let runs: Vec<Run> = (0..RUNS).map(|_| run()).collect::<Result<_, _>>()?;
    let gigabytes = (kind.wire_bytes * kind.batches) as f64 / 1e9;
    let show = |seconds: fn(&Run) -> f64| {
        let mut rates: Vec<f64> = runs.iter().map(|run| gigabytes / seconds(run)).collect();
        rates.sort_by(f64::total_cmp);
        format!("{:.2} ({:.2}..{:.2})", rates[RUNS / 2], rates[0], rates[RUNS - 1])
    };
    let (wall, core) = (
        show(|run| run.elapsed.as_secs_f64()),
        show(|run| run.cpu.as_secs_f64()),
    );
    writeln!(out, "{:<24} {what:<22} {wall:>20} {core:>24}", kind.name)?;
    Ok(())
}

fn measure(work: impl FnOnce() -> Result<(), Failure>) -> Result<Run, Failure> {
    let (start, cpu) = (Instant::now(), cpu_time()?);
    work()?;
    Ok(Run {
        elapsed: start.elapsed(),
        cpu: cpu_time()?.saturating_sub(cpu),
    })
}

/// User and system time of this process, in the kernel's ticks of 10 ms.
fn cpu_time() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest)
        .ok_or("/proc/self/stat has no command name")?;
    let ticks = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

fn exchange(runtime: &Runtime, kind: &Kind) -> Result<Run, Failure> {
    let (mut writers, mut gate, _ends) = connect(runtime)?;
    let each = kind.batches / writers.len();
    measure(|| {
        std::thread::scope(|scope| {
            let senders: Vec<_> = writers
                .drain(..)
                .map(|writer| scope.spawn(move || send(writer, &kind.batch, each)))
                .collect();
            receive(&mut gate)?;
            senders
                .into_iter()
                .try_for_each(|sender| sender.join().map_err(|_| "a sender panicked")?)
        })
    })
}

type Ends = (Arc<Exchange>, Arc<Exchange>);

fn connect(runtime: &Runtime) -> Result<(Vec<ChannelWriter>, InputGate, Ends), Failure> {
    let start = || {
        let io = runtime.handle().clone();
        runtime.block_on(Exchange::start(ExchangeConfig::new(
            ([127, 0, 0, 1], 0).into(),
            64 << 20,
            io,
            "bench",
        )))
    };
    let (producer, consumer) = (start()?, start()?);
    let execution = ExecutionId {
        job: JobId::from_u128(1),
        vertex: VertexId::from_u128(2),
        subtask: 0,
        attempt: 0,
    };
    let writers = producer.result_partition(execution, 0, CHANNELS)?;
    let address = producer.local_addr().to_string();
    let gate = consumer.input_gate(
        writers
            .iter()
            .map(|writer| (writer.id(), address.clone()))
            .collect(),
    )?;
    Ok((writers, gate, (producer, consumer)))
}

fn send(mut writer: ChannelWriter, batch: &StreamBatch, batches: usize) -> Result<(), Failure> {
    for _ in 0..batches {
        block_on(poll_fn(|cx| writer.poll_ready(cx)))?;
        writer.send(StreamElement::Batch(batch.clone()))?;
    }
    Ok(writer.send(StreamElement::EndOfInput)?)
}

fn receive(gate: &mut InputGate) -> Result<(), Failure> {
    while block_on(poll_fn(|cx| gate.poll_next(cx)))?.is_some() {}
    Ok(())
}

/// Polls on the calling thread and parks it in between: what a task's thread does.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}

fn wire_bytes(runtime: &Runtime, batch: &StreamBatch) -> Result<usize, Failure> {
    let (mut writers, _gate, _ends) = connect(runtime)?;
    let writer = &mut writers[0];
    block_on(poll_fn(|cx| writer.poll_ready(cx)))?;
    writer.send(StreamElement::Batch(batch.clone()))?; // with the schema
    let first = writer.bytes_out();
    writer.send(StreamElement::Batch(batch.clone()))?;
    Ok((writer.bytes_out() - first) as usize)
}

/// 256 KiB at a time from one thread to another, each of them the kernel's copies and nothing else.
fn plain_tcp(kind: &Kind) -> Result<Run, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    let total = kind.wire_bytes * kind.batches;
    let chunk = vec![7_u8; 256 << 10];
    measure(|| {
        std::thread::scope(|scope| {
            let sending = scope.spawn(move || -> std::io::Result<()> {
                let mut left = total;
                while left > 0 {
                    let length = left.min(chunk.len());
                    sender.write_all(&chunk[..length])?;
                    left -= length;
                }
                Ok(())
            });
            let mut buffer = vec![0_u8; 256 << 10];
            while receiver.read(&mut buffer)? > 0 {}
            sending.join().map_err(|_| "the sender panicked")??;
            Ok(())
        })
    })
}

/// Arrow's own stream writer into memory that is there already; the schema once, the stream columns included.
fn ipc_encode(kind: &Kind) -> Result<Run, Failure> {
    let mut columns = kind.batch.rows.columns().to_vec();
    let mut fields: Vec<Arc<Field>> = kind.batch.rows.schema().fields().iter().cloned().collect();
    let timestamps = kind
        .batch
        .timestamps
        .iter()
        .map(|c| (DataType::Int64, Arc::new(c.clone()) as ArrayRef));
    let key_hashes = kind
        .batch
        .key_hashes
        .iter()
        .map(|c| (DataType::UInt64, Arc::new(c.clone()) as ArrayRef));
    for (data_type, column) in timestamps.chain(key_hashes) {
        fields.push(Arc::new(Field::new("stream column", data_type, true)));
        columns.push(column);
    }
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    let mut writer = StreamWriter::try_new(Vec::with_capacity(2 * kind.wire_bytes), rows.schema_ref())?;
    measure(|| {
        for _ in 0..kind.batches {
            writer.get_mut().clear();
            writer.write(&rows)?;
        }
        Ok(())
    })
}

fn numbers(rows: i64) -> Result<StreamBatch, Failure> {
    let columns: Vec<(&str, DataType, ArrayRef)> = vec![
        (
            "auction",
            DataType::Int64,
            Arc::new(Int64Array::from_iter_values(0..rows)),
        ),
        (
            "bidder",
            DataType::Int64,
            Arc::new(Int64Array::from_iter_values((0..rows).rev())),
        ),
        (
            "price",
            DataType::Float64,
            Arc::new(Float64Array::from_iter_values((0..rows).map(|n| n as f64 * 1.5))),
        ),
    ];
    stream_batch(columns, rows)
}

fn text(rows: i64) -> Result<StreamBatch, Failure> {
    let urls = (0..rows).map(|n| format!("https://www.nexmark.com/item.htm?query=1&channel_id={n}"));
    let columns: Vec<(&str, DataType, ArrayRef)> = vec![
        (
            "auction",
            DataType::Int64,
            Arc::new(Int64Array::from_iter_values(0..rows)),
        ),
        (
            "url",
            DataType::Utf8View,
            Arc::new(StringViewArray::from_iter_values(urls)),
        ),
    ];
    stream_batch(columns, rows)
}

fn stream_batch(columns: Vec<(&str, DataType, ArrayRef)>, rows: i64) -> Result<StreamBatch, Failure> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, data_type, _)| Field::new(*name, data_type.clone(), false))
        .collect();
    let arrays = columns.into_iter().map(|(_, _, array)| array).collect();
    let mut batch = StreamBatch::new(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?);
    batch.timestamps = Some(Int64Array::from_iter_values(0..rows));
    batch.key_hashes = Some(UInt64Array::from_iter_values(
        (0..rows as u64).map(|n| n.wrapping_mul(0x9E37_79B9)),
    ));
    Ok(batch)
}
