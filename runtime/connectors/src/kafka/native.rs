//! The few calls of librdkafka that its safe wrapper doesn't have: consuming without an allocation a record.
//!
//! Why: `BaseConsumer::poll` makes an event object and an `Arc` for each record, and its end-of-partition error doesn't
//! tell the topic.
//!
//! Proof, for every `unsafe` block here:
//! - *Clients live long enough.* [`FetchQueue`] holds an `Arc` of the client that its raw handle belongs to, and
//!   gives the handle back in `drop`, which runs before that `Arc` is released (fields drop after `drop`).
//! - *Threads.* librdkafka's handles may be used from any thread ("the library is completely thread safe"), so it is
//!   `Send`; taking records needs `&mut self`.
//! - *Records live long enough.* A message from `rd_kafka_consume_batch_queue` is ours until `rd_kafka_message_destroy`. A [`Fetched`] borrows
//!   it for one call of the closure and can't leave it (its lifetime is the call's). Each is destroyed exactly once, after its call;
//!   if the closure panics the remaining ones are leaked, never freed twice.
//! - *Headers* belong to the message and are read only while it is borrowed; a header's name ends with a zero byte, its value is a slice as below.
//! - *Slices.* `payload`/`len` and `key`/`key_len` describe memory inside the message; null means absent.
//! - *Strings* given to C are `CString`s that outlive the call; the topic's name belongs to the topic, which the message holds.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;

use super::rows::TimestampType;

/// Records taken by one call of librdkafka; so many may come after `each` has said that it wants no more.
const MAX_AT_ONCE: usize = 256;

/// A queue of its own for the records of forwarded partitions; everything else (logs, errors, commits) stays with the
/// consumer's queue.
pub(crate) struct FetchQueue<C: ConsumerContext> {
    queue: NonNull<rd::rd_kafka_queue_t>,
    messages: Vec<*mut rd::rd_kafka_message_t>,
    consumer: Arc<BaseConsumer<C>>,
}

// SAFETY: see "Threads" above; the pointers in `messages` are only used within `consume`.
unsafe impl<C: ConsumerContext> Send for FetchQueue<C> {}

impl<C: ConsumerContext> FetchQueue<C> {
    /// A queue at this consumer; `None` if librdkafka can't make one.
    pub(crate) fn new(consumer: Arc<BaseConsumer<C>>) -> Option<Self> {
        // SAFETY: the client is alive.
        let queue = unsafe { rd::rd_kafka_queue_new(consumer.client().native_ptr()) };
        Some(Self {
            queue: NonNull::new(queue)?,
            messages: vec![ptr::null_mut(); MAX_AT_ONCE],
            consumer,
        })
    }

    /// Sends a partition's records here; to be called before it is assigned. `false` if librdkafka doesn't know it.
    pub(crate) fn forward(&self, topic: &str, partition: i32) -> bool {
        let Ok(topic) = CString::new(topic) else {
            return false;
        };
        // SAFETY: the client and the string are alive; the partition's queue handle is given back at once, forwarding stays.
        unsafe {
            let source = rd::rd_kafka_queue_get_partition(
                self.consumer.client().native_ptr(),
                topic.as_ptr(),
                partition,
            );
            if source.is_null() {
                return false;
            }
            rd::rd_kafka_queue_forward(source, self.queue.as_ptr());
            rd::rd_kafka_queue_destroy(source);
        }
        true
    }

    /// Waits for a first record for `patience` at most, then takes what is there, `limit` records at most. `each` gets
    /// records and errors, and says whether it wants more of them.
    pub(crate) fn consume(
        &mut self,
        patience: Duration,
        limit: usize,
        mut each: impl FnMut(Fetched<'_>) -> bool,
    ) {
        let mut taken = 0;
        if !patience.is_zero() {
            match self.consume_some(patience, 1, &mut each) {
                (0, _) | (_, false) => return,
                (some, true) => taken = some,
            }
        }
        while taken < limit {
            let ask = (limit - taken).min(MAX_AT_ONCE);
            let (some, more) = self.consume_some(Duration::ZERO, ask, &mut each);
            taken += some;
            if some < ask || !more {
                return;
            }
        }
    }

    fn consume_some(
        &mut self,
        patience: Duration,
        limit: usize,
        each: &mut impl FnMut(Fetched<'_>) -> bool,
    ) -> (usize, bool) {
        let patience = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the array has room for `limit` pointers: limit <= MAX_AT_ONCE = its length.
        let taken = unsafe {
            rd::rd_kafka_consume_batch_queue(self.queue.as_ptr(), patience, self.messages.as_mut_ptr(), limit)
        };
        let taken = usize::try_from(taken).unwrap_or(0);
        let mut more = true;
        for &message in &self.messages[..taken] {
            // SAFETY: the message is ours and alive until it is destroyed below.
            unsafe {
                more = each(Fetched { message: &*message });
                rd::rd_kafka_message_destroy(message);
            }
        }
        (taken, more)
    }

    /// The end of a partition as the last fetch told it, without asking the broker.
    pub(crate) fn cached_end(&self, topic: &str, partition: i32) -> Option<i64> {
        let topic = CString::new(topic).ok()?;
        let (mut low, mut high) = (0, 0);
        // SAFETY: client, string and both numbers are alive for the call.
        let error = unsafe {
            let client = self.consumer.client().native_ptr();
            rd::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), partition, &raw mut low, &raw mut high)
        };
        (RDKafkaErrorCode::from(error) == RDKafkaErrorCode::NoError && high >= 0).then_some(high)
    }
}

impl<C: ConsumerContext> Drop for FetchQueue<C> {
    fn drop(&mut self) {
        // SAFETY: ours, given back once, while the client is alive.
        unsafe { rd::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// A record or an error of a partition, for the length of one call.
#[derive(Clone, Copy)]
pub(crate) struct Fetched<'a> {
    message: &'a rd::rd_kafka_message_t,
}

impl<'a> Fetched<'a> {
    /// The error that this is, if it is one.
    pub(crate) fn error(&self) -> Option<RDKafkaErrorCode> {
        match RDKafkaErrorCode::from(self.message.err) {
            RDKafkaErrorCode::NoError => None,
            error => Some(error),
        }
    }

    /// Tells topics apart: the address of the client's topic, which lives as long as one of its partitions is assigned.
    pub(crate) fn topic_id(&self) -> usize {
        self.message.rkt as usize
    }

    /// The topic's name; empty for an error that belongs to none.
    pub(crate) fn topic(&self) -> &'a str {
        if self.message.rkt.is_null() {
            return "";
        }
        // SAFETY: the message holds its topic, and the topic its name.
        unsafe { CStr::from_ptr(rd::rd_kafka_topic_name(self.message.rkt)) }
            .to_str()
            .unwrap_or_default()
    }

    /// The partition; negative for an error that belongs to none.
    pub(crate) fn partition(&self) -> i32 {
        self.message.partition
    }

    pub(crate) fn offset(&self) -> i64 {
        self.message.offset
    }

    pub(crate) fn value(&self) -> Option<&'a [u8]> {
        // SAFETY: see "Slices".
        unsafe { slice_of(self.message.payload, self.message.len) }
    }

    pub(crate) fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: see "Slices".
        unsafe { slice_of(self.message.key, self.message.key_len) }
    }

    /// Who gave the record its timestamp.
    pub(crate) fn timestamp_type(&self) -> TimestampType {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message and the variable are alive.
        unsafe { rd::rd_kafka_message_timestamp(self.message, &raw mut kind) };
        match kind {
            rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => TimestampType::None,
            rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => TimestampType::CreateTime,
            rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => TimestampType::LogAppendTime,
        }
    }

    /// The epoch of the partition's leader; `None` if the broker didn't tell it.
    pub(crate) fn leader_epoch(&self) -> Option<i32> {
        // SAFETY: the message is alive.
        let epoch = unsafe { rd::rd_kafka_message_leader_epoch(self.message) };
        (epoch >= 0).then_some(epoch)
    }

    /// The record's headers, in order.
    pub(crate) fn headers(&self) -> Headers<'a> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message and the variable are alive.
        let error = unsafe { rd::rd_kafka_message_headers(self.message, &raw mut headers) };
        Headers {
            headers: match RDKafkaErrorCode::from(error) {
                RDKafkaErrorCode::NoError => headers,
                _ => ptr::null(),
            },
            next: 0,
            of: PhantomData,
        }
    }

    /// Milliseconds since the epoch; `None` if the record has no timestamp.
    pub(crate) fn timestamp(&self) -> Option<i64> {
        // SAFETY: the message is alive; a null type pointer is allowed.
        let timestamp = unsafe { rd::rd_kafka_message_timestamp(self.message, ptr::null_mut()) };
        (timestamp != -1).then_some(timestamp)
    }

    /// What the error says.
    pub(crate) fn error_text(&self) -> String {
        // SAFETY: the message is alive; the text belongs to it or is static, and may be null.
        unsafe {
            let text = rd::rd_kafka_message_errstr(self.message);
            if text.is_null() {
                String::new()
            } else {
                CStr::from_ptr(text).to_string_lossy().into_owned()
            }
        }
    }
}

/// Headers of a record: name and value.
#[derive(Clone)]
pub(crate) struct Headers<'a> {
    /// Null: there are none.
    headers: *const rd::rd_kafka_headers_t,
    next: usize,
    of: PhantomData<Fetched<'a>>,
}

impl Default for Headers<'_> {
    fn default() -> Self {
        Self {
            headers: ptr::null(),
            next: 0,
            of: PhantomData,
        }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.headers.is_null() {
            return None;
        }
        let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
        // SAFETY: see "Headers"; the three variables are alive for the call.
        let error = unsafe {
            rd::rd_kafka_header_get_all(
                self.headers,
                self.next,
                &raw mut name,
                &raw mut value,
                &raw mut length,
            )
        };
        if RDKafkaErrorCode::from(error) != RDKafkaErrorCode::NoError || name.is_null() {
            return None;
        }
        self.next += 1;
        // SAFETY: see "Headers" and "Slices".
        unsafe { Some((CStr::from_ptr(name).to_bytes(), slice_of(value, length))) }
    }
}

/// # Safety
/// `data` is null or points to `length` bytes that live for `'a`.
unsafe fn slice_of<'a>(data: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's.
    (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts(data.cast(), length) })
}
