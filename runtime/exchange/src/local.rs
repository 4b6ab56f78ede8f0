//! A subpartition: the queue between one producer and one consumer, kept in the producer's process.
//!
//! A local consumer's gate reads it directly; a remote one's connection reads it and writes frames. Either side may come
//! first, so the credit is zero until the consumer brings its window; what is sent before (control elements, one batch)
//! waits here.
//!
//! ```text
//!   producer:  Absent -> Present -> Ended     (end of input sent)
//!                  \         \----> Released  (canceled, failed, dropped)
//!                   \-> Missing               (the consumer waited for it in vain)
//! ```

use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use thalweg_types::StreamElement;

use crate::channel::ChannelId;
use crate::error::ExchangeError;
use crate::queue::{ELEMENT_OVERHEAD, ElementQueue, Measured, MergeLimit};
use crate::ready::ReadySlot;
use crate::wire::codec::EncodedElement;

/// What waits in a subpartition.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "one a batch: a box would cost more than the bytes it saves"
)]
pub(crate) enum Outbound {
    /// As it was sent: for a local consumer, or from before the consumer was known.
    Element { element: StreamElement, cost: usize },
    /// Ready for the wire.
    Encoded(EncodedElement),
}

impl Outbound {
    /// The element; `None` if it is encoded, which it is in no local channel.
    pub(crate) fn into_element(self) -> Option<StreamElement> {
        match self {
            Self::Element { element, .. } => Some(element),
            Self::Encoded(_) => None,
        }
    }

    /// Of which checkpoint it is the barrier, if it is one of a local channel.
    pub(crate) fn checkpoint_id(&self) -> Option<u64> {
        match self {
            Self::Element {
                element: StreamElement::Barrier(barrier),
                ..
            } => Some(barrier.checkpoint_id),
            _ => None,
        }
    }

    fn is_barrier(&self) -> bool {
        self.checkpoint_id().is_some()
    }

    /// Whether it is the end of the input of a local channel.
    fn is_end_of_input(&self) -> bool {
        matches!(
            self,
            Self::Element {
                element: StreamElement::EndOfInput,
                ..
            }
        )
    }

    /// An element with its cost.
    pub(crate) fn element(element: StreamElement) -> Self {
        let bytes = match &element {
            StreamElement::Batch(batch) => batch.memory_size(),
            _ => 0,
        };
        Self::Element {
            element,
            cost: bytes + ELEMENT_OVERHEAD,
        }
    }
}

impl Measured for Outbound {
    fn batch_rows(&self) -> Option<usize> {
        match self {
            Self::Element {
                element: StreamElement::Batch(batch),
                ..
            } => Some(batch.num_rows()),
            Self::Element { .. } | Self::Encoded(_) => None,
        }
    }

    fn cost(&self) -> usize {
        match self {
            Self::Element { cost, .. } => *cost,
            Self::Encoded(encoded) => encoded.cost(),
        }
    }
}

/// Where the consumer is.
#[derive(Debug)]
pub(crate) struct Consumer {
    /// To be told when something comes.
    pub(crate) slot: Arc<ReadySlot>,
    /// Whether elements go over the wire.
    pub(crate) remote: bool,
}

/// How the producer ended without an end of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProducerGone {
    /// Canceled, failed or dropped.
    Released,
    /// It never came.
    Missing,
}

const ABSENT: u8 = 0;
const PRESENT: u8 = 1;
const ENDED: u8 = 2;
const RELEASED: u8 = 3;
const MISSING: u8 = 4;

/// See the module.
#[derive(Debug)]
pub(crate) struct Subpartition {
    pub(crate) id: ChannelId,
    queue: ElementQueue<Outbound>,
    producer: AtomicU8,
    /// Bytes that may be sent; below zero after an overdraft.
    credit: AtomicI64,
    /// The producer is woken when the credit comes back to this, not at each byte.
    low_water: AtomicI64,
    producer_waker: AtomicWaker,
    consumer: OnceLock<Consumer>,
    consumer_gone: OnceLock<String>,
}

impl Subpartition {
    pub(crate) fn new(id: ChannelId) -> Arc<Self> {
        Arc::new(Self {
            id,
            queue: ElementQueue::default(),
            producer: AtomicU8::new(ABSENT),
            credit: AtomicI64::new(0),
            low_water: AtomicI64::new(1),
            producer_waker: AtomicWaker::new(),
            consumer: OnceLock::new(),
            consumer_gone: OnceLock::new(),
        })
    }

    // PRODUCER

    /// The producer is there.
    ///
    /// # Errors
    /// It was before, or it comes too late.
    pub(crate) fn declare(&self) -> Result<(), ExchangeError> {
        let channel = self.id;
        match self
            .producer
            .compare_exchange(ABSENT, PRESENT, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => Ok(()),
            Err(RELEASED | MISSING) => Err(ExchangeError::WriterReleased { channel }),
            Err(_) => Err(ExchangeError::AlreadyDeclared { channel }),
        }
    }

    /// Ready when there is credit, or when there is an error to be seen.
    pub(crate) fn poll_ready(&self, cx: &Context<'_>) -> Poll<Result<(), ExchangeError>> {
        if let Some(ready) = self.ready() {
            return Poll::Ready(ready);
        }
        self.producer_waker.register(cx.waker());
        self.ready().map_or(Poll::Pending, Poll::Ready)
    }

    /// [`Self::poll_ready`] without waiting; `None` = no credit.
    pub(crate) fn ready(&self) -> Option<Result<(), ExchangeError>> {
        match self.writable() {
            Ok(()) => (self.credit.load(Ordering::Acquire) > 0).then_some(Ok(())),
            Err(error) => Some(Err(error)),
        }
    }

    /// Whether somebody may still read what is sent.
    pub(crate) fn writable(&self) -> Result<(), ExchangeError> {
        if let Some(cause) = self.consumer_gone.get() {
            return Err(ExchangeError::ConsumerLost {
                channel: self.id,
                cause: cause.clone(),
            });
        }
        match self.producer.load(Ordering::Acquire) {
            PRESENT => Ok(()),
            ENDED => Err(ExchangeError::WriteAfterEnd { channel: self.id }),
            _ => Err(ExchangeError::WriterReleased { channel: self.id }),
        }
    }

    /// Whether elements are to be encoded; `false` while the consumer is unknown.
    pub(crate) fn is_remote(&self) -> bool {
        self.consumer.get().is_some_and(|consumer| consumer.remote)
    }

    /// Adds an element, with or without credit for it. After the end of input nothing else may come.
    pub(crate) fn push(&self, element: Outbound, end: bool) {
        let cost = i64::try_from(element.cost()).unwrap_or(i64::MAX);
        self.credit.fetch_sub(cost, Ordering::AcqRel);
        if end {
            // Before the element is visible: a release from now on must not take it from the consumer.
            self.advance(&[PRESENT], ENDED);
        }
        let worth_a_look = end || element.is_barrier();
        self.queue.push(element);
        self.notify_consumer();
        if let (true, Some(consumer)) = (worth_a_look, self.consumer.get()) {
            consumer.slot.note_barrier();
        }
    }

    /// The barriers that lie there, in order.
    pub(crate) fn peek_barriers(&self) -> Vec<Outbound> {
        self.queue.peek_all(Outbound::is_barrier)
    }

    /// Copies of what lies there up to this checkpoint's barrier, if that is there.
    pub(crate) fn peek_to_barrier(&self, checkpoint_id: u64) -> Option<Vec<Outbound>> {
        self.queue
            .peek_to(|outbound| outbound.checkpoint_id() == Some(checkpoint_id))
    }

    /// Copies of what lies there up to the end of the input, if that is there.
    pub(crate) fn peek_to_end(&self) -> Option<Vec<Outbound>> {
        self.queue.peek_to(Outbound::is_end_of_input)
    }

    /// The producer is gone. Harmless behind the end of input.
    pub(crate) fn release(&self) {
        if self.advance(&[ABSENT, PRESENT], RELEASED) {
            self.queue.clear();
            self.producer_waker.wake();
            self.notify_consumer();
        }
    }

    /// The producer was waited for long enough; the consumer is still to be told.
    pub(crate) fn give_up_waiting(&self) -> bool {
        self.advance(&[ABSENT], MISSING)
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.producer.load(Ordering::Acquire) == ABSENT
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.producer.load(Ordering::Acquire) == ENDED
    }

    // CONSUMER

    /// The consumer is there and lets `window` bytes come. False if there is one already.
    pub(crate) fn attach(&self, consumer: Consumer, window: usize) -> bool {
        if self.consumer.set(consumer).is_err() {
            return false;
        }
        let window = i64::try_from(window).unwrap_or(i64::MAX);
        self.low_water.store((window / 4).max(1), Ordering::Release);
        self.credit.fetch_add(window, Ordering::AcqRel);
        self.producer_waker.wake();
        if !self.queue.is_empty() || self.gone().is_some() {
            self.notify_consumer();
        }
        true
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.consumer.get().is_some()
    }

    /// How the producer was lost, if it was.
    pub(crate) fn gone(&self) -> Option<ProducerGone> {
        match self.producer.load(Ordering::Acquire) {
            RELEASED => Some(ProducerGone::Released),
            MISSING => Some(ProducerGone::Missing),
            _ => None,
        }
    }

    /// Takes elements; says whether some are left. Their cost is returned by [`Self::return_credit`].
    pub(crate) fn pop_run(&self, limit: MergeLimit, run: &mut Vec<Outbound>) -> bool {
        self.queue.pop_run(limit, run)
    }

    /// The consumer took this many bytes (negative: it turned out to hold more).
    pub(crate) fn return_credit(&self, bytes: i64) {
        let before = self.credit.fetch_add(bytes, Ordering::AcqRel);
        let low_water = self.low_water.load(Ordering::Acquire);
        if before < low_water && before + bytes >= low_water {
            self.producer_waker.wake();
        }
    }

    /// The consumer is gone; what waits for it is dropped.
    pub(crate) fn detach(&self, cause: &str) {
        if self.consumer_gone.set(cause.to_owned()).is_ok() {
            self.queue.clear();
            self.producer_waker.wake();
        }
    }

    /// Lets the consumer look.
    pub(crate) fn notify_consumer(&self) {
        if let Some(consumer) = self.consumer.get() {
            consumer.slot.notify();
        }
    }

    fn advance(&self, from: &[u8], to: u8) -> bool {
        from.iter().any(|state| {
            self.producer
                .compare_exchange(*state, to, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
        })
    }
}
