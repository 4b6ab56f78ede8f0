//! The exchange of one process: its data port, its subpartitions, its connections to producers, its network memory.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thalweg_types::ExecutionId;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::channel::{ChannelCounters, ChannelId, ChannelReader, ChannelWriter, LocalReader};
use crate::error::ExchangeError;
use crate::gate::InputGate;
use crate::local::Consumer;
use crate::memory::NetworkMemory;
use crate::ready::{ReadyList, ReadySlot, lock};
use crate::registry::Registry;
use crate::wire::client::{ClientConfig, Clients};
use crate::wire::server;

/// Bytes that may be under way on one channel, if the memory allows it.
const DEFAULT_CHANNEL_BYTES: usize = 2 << 20;
/// How long a consumer looks for its producer, and how long a finished output waits for its consumer.
const DEFAULT_PARTITION_TIMEOUT: Duration = Duration::from_secs(30);

/// How a process exchanges.
#[derive(Debug, Clone)]
pub struct ExchangeConfig {
    /// Where the data port listens; port 0 = any.
    pub bind: SocketAddr,
    /// `host:port` under which peers reach this process, if known already; see [`Exchange::set_advertised`].
    pub advertised: Option<String>,
    /// Network memory of the process: the sum of all windows of its input channels.
    pub memory_bytes: usize,
    /// The largest window of one channel.
    pub channel_bytes: usize,
    /// How long a consumer waits for its producer to be reachable and deployed.
    pub partition_timeout: Duration,
    /// Runs the I/O; its time driver must be enabled.
    pub io: Handle,
    /// What peers must know: one a job.
    pub token: String,
}

impl ExchangeConfig {
    /// Windows of 2 MiB, 30 s of patience.
    pub fn new(bind: SocketAddr, memory_bytes: usize, io: Handle, token: impl Into<String>) -> Self {
        Self {
            bind,
            advertised: None,
            memory_bytes,
            channel_bytes: DEFAULT_CHANNEL_BYTES,
            partition_timeout: DEFAULT_PARTITION_TIMEOUT,
            io,
            token: token.into(),
        }
    }
}

/// See the module. Dropped, it closes its port and its connections.
#[derive(Debug)]
pub struct Exchange {
    local_addr: SocketAddr,
    advertised: Mutex<Option<String>>,
    channel_bytes: usize,
    partition_timeout: Duration,
    memory: Arc<NetworkMemory>,
    registry: Arc<Registry>,
    clients: Clients,
    server: AbortHandle,
}

impl Exchange {
    /// Opens the data port.
    ///
    /// # Errors
    /// [`ExchangeError::Bind`].
    pub async fn start(config: ExchangeConfig) -> Result<Arc<Self>, ExchangeError> {
        let bind = |source| ExchangeError::Bind {
            address: config.bind,
            source: Arc::new(source),
        };
        // Bound within the I/O runtime, whichever runtime calls.
        let address = config.bind;
        let listener = config
            .io
            .spawn(TcpListener::bind(address))
            .await
            .map_err(|error| bind(std::io::Error::other(error)))?
            .map_err(bind)?;
        let local_addr = listener.local_addr().map_err(bind)?;
        let registry = Registry::new(config.io.clone(), config.partition_timeout);
        let token: Arc<str> = config.token.into();
        let server = config
            .io
            .spawn(server::accept(listener, registry.clone(), token.clone()));
        let client = ClientConfig {
            token,
            partition_timeout: config.partition_timeout,
        };
        let exchange = Self {
            local_addr,
            advertised: Mutex::new(config.advertised),
            channel_bytes: config.channel_bytes,
            partition_timeout: config.partition_timeout,
            memory: NetworkMemory::new(config.memory_bytes),
            registry,
            clients: Clients::new(config.io, client),
            server: server.abort_handle(),
        };
        Ok(Arc::new(exchange))
    }

    /// Where the data port listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// `host:port` under which peers reach this process: channels to it stay in the process.
    pub fn set_advertised(&self, address: impl Into<String>) {
        *lock(&self.advertised) = Some(address.into());
    }

    /// The writers of what an execution sends over one edge. Its consumers may be there already or come later.
    ///
    /// # Errors
    /// [`ExchangeError::AlreadyDeclared`]; also when a consumer has given up waiting for it this moment.
    pub fn result_partition(
        &self,
        producer: ExecutionId,
        edge: u32,
        subpartitions: u32,
    ) -> Result<Vec<ChannelWriter>, ExchangeError> {
        self.registry.declare(producer, edge, subpartitions)
    }

    /// The input of a task: channels with the address of each one's producer. Index in, index out.
    ///
    /// # Errors
    /// [`ExchangeError::Memory`] and [`ExchangeError::PartitionTaken`] at once; what concerns a producer comes from
    /// [`InputGate::poll_next`].
    pub fn input_gate(&self, channels: Vec<(ChannelId, String)>) -> Result<InputGate, ExchangeError> {
        let memory = self.memory.reserve(channels.len(), self.channel_bytes)?;
        let ready = Arc::new(ReadyList::default());
        let mut readers: Vec<(ChannelReader, Arc<ReadySlot>)> = Vec::with_capacity(channels.len());
        for (index, (channel, address)) in (0_u32..).zip(channels) {
            let slot = ReadySlot::new(ready.clone(), index);
            match self.reader(channel, address, memory.window, slot.clone()) {
                Ok(reader) => readers.push((reader, slot)),
                Err(error) => {
                    readers.iter_mut().for_each(|(reader, _)| reader.close());
                    return Err(error);
                }
            }
        }
        Ok(InputGate::new(readers, ready, memory))
    }

    /// An execution ended or was canceled: consumers that have not seen its end of input see a retryable error.
    pub fn release(&self, producer: ExecutionId) {
        self.registry.release(producer);
    }

    fn reader(
        &self,
        channel: ChannelId,
        address: String,
        window: usize,
        slot: Arc<ReadySlot>,
    ) -> Result<ChannelReader, ExchangeError> {
        if !self.is_here(&address) {
            let reader = self.clients.open(channel, address, window, slot);
            return Ok(ChannelReader::Remote(Box::new(reader)));
        }
        let consumer = Consumer { slot, remote: false };
        let subpartition = self
            .registry
            .attach(channel, consumer, window, self.partition_timeout)?;
        Ok(ChannelReader::Local(LocalReader {
            subpartition,
            address,
            waited: self.partition_timeout,
            run: Vec::new(),
            counters: Arc::<ChannelCounters>::default(),
        }))
    }

    fn is_here(&self, address: &str) -> bool {
        lock(&self.advertised).as_deref() == Some(address) || address == self.local_addr.to_string()
    }

    #[cfg(test)]
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.server.abort();
    }
}
