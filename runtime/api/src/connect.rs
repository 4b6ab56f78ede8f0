//! Two streams in one operator.
//!
//! ```text
//!   a.connect(&b)                       ConnectedStreams        map, flat_map, process
//!   a.key_by(..).connect(&b.key_by(..)) KeyedConnectedStreams   map, flat_map, process: one state for both
//!   b.broadcast_state()                 BroadcastStream         every record to every subtask
//!   a.connect_broadcast(&b)             BroadcastConnectedStream, KeyedBroadcastConnectedStream   process
//! ```
//!
//! The watermark of what comes out is the smaller of both inputs'.

use std::rc::Rc;

use crate::function::{
    BroadcastProcess, CoProcess, CoRows, Collector, FlatMap, KeyedBroadcastProcess, KeyedCoProcess, Map,
    RowFunction,
};
use crate::graph::{ProgramError, Upstream};
use crate::keyed::KeyedStream;
use crate::process::{
    BroadcastProcessFunction, CoProcessFunction, KeyedBroadcastProcessFunction, KeyedCoProcessFunction,
};
use crate::record::{Record, RecordRef};
use crate::stream::{DataStream, DrivenNode};

/// Two streams without a common key. Flink's ConnectedStreams.
#[must_use = "connected streams do nothing until an operation follows"]
pub struct ConnectedStreams<T1: Record, T2: Record> {
    first: DataStream<T1>,
    second: DataStream<T2>,
}

/// Two streams whose records of one key meet in one subtask. Flink's ConnectedStreams of two KeyedStreams.
#[must_use = "connected streams do nothing until an operation follows"]
pub struct KeyedConnectedStreams<K: Record, T1: Record, T2: Record> {
    first: KeyedStream<K, T1>,
    second: KeyedStream<K, T2>,
}

/// A stream whose records go to every subtask of the next operator. Flink's BroadcastStream.
#[must_use = "a broadcast stream does nothing until it is connected with another"]
pub struct BroadcastStream<B: Record> {
    stream: DataStream<B>,
}

/// A stream and a broadcast stream. Flink's BroadcastConnectedStream.
#[must_use = "connected streams do nothing until an operation follows"]
pub struct BroadcastConnectedStream<T: Record, B: Record> {
    first: DataStream<T>,
    broadcast: DataStream<B>,
}

/// A keyed stream and a broadcast stream. Flink's BroadcastConnectedStream of a KeyedStream.
#[must_use = "connected streams do nothing until an operation follows"]
pub struct KeyedBroadcastConnectedStream<K: Record, T: Record, B: Record> {
    first: KeyedStream<K, T>,
    broadcast: DataStream<B>,
}

impl<T: Record> DataStream<T> {
    /// Takes both streams into one operator, which tells their records apart.
    pub fn connect<U: Record>(&self, other: &DataStream<U>) -> ConnectedStreams<T, U> {
        ConnectedStreams {
            first: self.clone(),
            second: other.clone(),
        }
    }

    /// Sends every record to every subtask of the operator that this is connected to, which keeps what matters in broadcast
    /// state. Flink's `broadcast(descriptors)`; here the function registers the state itself.
    pub fn broadcast_state(&self) -> BroadcastStream<T> {
        BroadcastStream {
            stream: self.broadcast(),
        }
    }

    /// Takes this stream and a broadcast one into one operator. Flink's `connect(BroadcastStream)`.
    pub fn connect_broadcast<B: Record>(&self, other: &BroadcastStream<B>) -> BroadcastConnectedStream<T, B> {
        BroadcastConnectedStream {
            first: self.clone(),
            broadcast: other.stream.clone(),
        }
    }
}

impl<K: Record, T: Record> KeyedStream<K, T> {
    /// Takes both streams into one operator, which has one state for the records of a key.
    pub fn connect<U: Record>(&self, other: &KeyedStream<K, U>) -> KeyedConnectedStreams<K, T, U> {
        KeyedConnectedStreams {
            first: self.clone(),
            second: other.clone(),
        }
    }

    /// Takes this stream and a broadcast one into one operator. Flink's `connect(BroadcastStream)`.
    pub fn connect_broadcast<B: Record>(
        &self,
        other: &BroadcastStream<B>,
    ) -> KeyedBroadcastConnectedStream<K, T, B> {
        KeyedBroadcastConnectedStream {
            first: self.clone(),
            broadcast: other.stream.clone(),
        }
    }
}

impl<T1: Record, T2: Record> ConnectedStreams<T1, T2> {
    /// Groups both by a computed key of one type; as connecting two keyed streams.
    pub fn key_by<K: Record, F1, F2>(&self, first: F1, second: F2) -> KeyedConnectedStreams<K, T1, T2>
    where
        F1: for<'a> Fn(&'a RecordRef<'a, T1>) -> RecordRef<'a, K> + Send + Sync + 'static,
        F2: for<'a> Fn(&'a RecordRef<'a, T2>) -> RecordRef<'a, K> + Send + Sync + 'static,
    {
        self.first.key_by(first).connect(&self.second.key_by(second))
    }

    /// One record out for each record in, by a function for each stream. Flink's CoMapFunction.
    pub fn map<O: Record, F1, F2>(&self, first: F1, second: F2) -> DataStream<O>
    where
        F1: for<'a> FnMut(RecordRef<'a, T1>) -> O + Clone + Send + 'static,
        F2: for<'a> FnMut(RecordRef<'a, T2>) -> O + Clone + Send + 'static,
    {
        let node = unkeyed("CoMap", "Co-Map");
        co_rows::<T1, T2, O, _, _>(node, &self.first, &self.second, (Map(first), Map(second)))
    }

    /// Any number of records out for each record in, by a function for each stream. Flink's CoFlatMapFunction.
    pub fn flat_map<O: Record, F1, F2>(&self, first: F1, second: F2) -> DataStream<O>
    where
        F1: for<'a, 'c> FnMut(RecordRef<'a, T1>, &'c mut Collector<O>) + Clone + Send + 'static,
        F2: for<'a, 'c> FnMut(RecordRef<'a, T2>, &'c mut Collector<O>) + Clone + Send + 'static,
    {
        let node = unkeyed("CoFlatMap", "Co-Flat Map");
        co_rows::<T1, T2, O, _, _>(node, &self.first, &self.second, (FlatMap(first), FlatMap(second)))
    }

    /// A function over the records of both streams.
    pub fn process<F>(&self, function: F) -> DataStream<F::Out>
    where
        F: CoProcessFunction<In1 = T1, In2 = T2>,
    {
        let inputs = connected(&self.first, &self.second);
        unkeyed("CoProcess", "Co-Process").add(&self.first.graph, &inputs, function, CoProcess::new)
    }
}

fn unkeyed(kind: &'static str, name: &'static str) -> DrivenNode {
    DrivenNode {
        kind,
        name,
        keys: vec![None, None],
    }
}

fn co_rows<T1: Record, T2: Record, O: Record, F1, F2>(
    node: DrivenNode,
    first: &DataStream<T1>,
    second: &DataStream<T2>,
    functions: (F1, F2),
) -> DataStream<O>
where
    F1: RowFunction<T1, O>,
    F2: RowFunction<T2, O>,
{
    let inputs = connected(first, second);
    node.add(&first.graph, &inputs, functions, CoRows::<T1, T2, O, F1, F2>::new)
}

impl<K: Record, T1: Record, T2: Record> KeyedConnectedStreams<K, T1, T2> {
    /// See [`ConnectedStreams::map`]; records of one key are seen by one subtask.
    pub fn map<O: Record, F1, F2>(&self, first: F1, second: F2) -> DataStream<O>
    where
        F1: for<'a> FnMut(RecordRef<'a, T1>) -> O + Clone + Send + 'static,
        F2: for<'a> FnMut(RecordRef<'a, T2>) -> O + Clone + Send + 'static,
    {
        let node = self.node("CoMap", "Co-Map");
        co_rows::<T1, T2, O, _, _>(
            node,
            &self.first.stream,
            &self.second.stream,
            (Map(first), Map(second)),
        )
    }

    /// See [`ConnectedStreams::flat_map`]; records of one key are seen by one subtask.
    pub fn flat_map<O: Record, F1, F2>(&self, first: F1, second: F2) -> DataStream<O>
    where
        F1: for<'a, 'c> FnMut(RecordRef<'a, T1>, &'c mut Collector<O>) + Clone + Send + 'static,
        F2: for<'a, 'c> FnMut(RecordRef<'a, T2>, &'c mut Collector<O>) + Clone + Send + 'static,
    {
        let node = self.node("CoFlatMap", "Co-Flat Map");
        let functions = (FlatMap(first), FlatMap(second));
        co_rows::<T1, T2, O, _, _>(node, &self.first.stream, &self.second.stream, functions)
    }

    /// A function over the records of both streams, with state and timers of each key.
    pub fn process<F>(&self, function: F) -> DataStream<F::Out>
    where
        F: KeyedCoProcessFunction<Key = K, In1 = T1, In2 = T2>,
    {
        let node = self.node("KeyedCoProcess", "Co-Keyed-Process");
        let inputs = connected(&self.first.stream, &self.second.stream);
        node.add(&self.first.stream.graph, &inputs, function, KeyedCoProcess::new)
    }

    fn node(&self, kind: &'static str, name: &'static str) -> DrivenNode {
        let keys = [&self.first.columns, &self.second.columns];
        DrivenNode {
            kind,
            name,
            keys: keys.map(|columns| Some(columns.clone())).into(),
        }
    }
}

impl<T: Record, B: Record> BroadcastConnectedStream<T, B> {
    /// A function over the records of both streams, with broadcast state.
    pub fn process<F>(&self, function: F) -> DataStream<F::Out>
    where
        F: BroadcastProcessFunction<In = T, Broadcast = B>,
    {
        let node = DrivenNode {
            kind: "CoBroadcast",
            name: "Co-Process-Broadcast",
            keys: vec![None, None],
        };
        let inputs = connected(&self.first, &self.broadcast);
        node.add(&self.first.graph, &inputs, function, BroadcastProcess::new)
    }
}

impl<K: Record, T: Record, B: Record> KeyedBroadcastConnectedStream<K, T, B> {
    /// A function over the records of both streams, with broadcast state, and with state and timers of the keyed stream's keys.
    pub fn process<F>(&self, function: F) -> DataStream<F::Out>
    where
        F: KeyedBroadcastProcessFunction<Key = K, In = T, Broadcast = B>,
    {
        let node = DrivenNode {
            kind: "KeyedCoBroadcast",
            name: "Co-Process-Broadcast-Keyed",
            keys: vec![Some(self.first.columns.clone()), None],
        };
        let inputs = connected(&self.first.stream, &self.broadcast);
        node.add(
            &self.first.stream.graph,
            &inputs,
            function,
            KeyedBroadcastProcess::new,
        )
    }
}

/// Both streams' inputs; streams of two environments are refused.
pub(crate) fn connected<T1: Record, T2: Record>(
    first: &DataStream<T1>,
    second: &DataStream<T2>,
) -> [Vec<Upstream>; 2] {
    if Rc::ptr_eq(&first.graph, &second.graph) {
        return [first.inputs.clone(), second.inputs.clone()];
    }
    first.graph.borrow_mut().refuse(ProgramError::ForeignStream);
    [first.inputs.clone(), Vec::new()]
}
