//! A proxy on loopback in front of a real S3 server that fails as told: what a network and a busy server do to a client.
//!
//! ```text
//!   client --request--> proxy --fault?--> server        the request goes on as it came: its signature stays valid
//!          <--answer---       <--fault?--
//! ```

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::server::Fault;

pub(crate) struct Proxy {
    address: String,
    faults: Arc<Mutex<Faults>>,
    outage: watch::Sender<Option<Fault>>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Faults {
    next: VecDeque<Fault>,
    /// Only requests of this method meet them; "" = all do.
    method: &'static str,
    /// Every third request meets one in turn, for ever.
    steady: bool,
    requests: usize,
    /// How often each request line has met one of those.
    met: HashMap<String, usize>,
}

/// Steady faults that one request line meets: any client tries again so often. Which request of several at a time is the third is
/// nobody's choice, so that one might meet them all else.
const MOST_FAULTS: usize = 2;

/// A request or an answer, as it is on the wire.
struct Message {
    /// Request or status line, and headers.
    head: String,
    body: Vec<u8>,
}

impl Proxy {
    /// In front of this endpoint, `http://host:port`.
    pub(crate) async fn start(endpoint: &str) -> Self {
        let server = endpoint
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let faults = Arc::new(Mutex::new(Faults::default()));
        let outage = watch::Sender::new(None);
        let (shared, telling) = (Arc::clone(&faults), outage.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (faults, outage) = (Arc::clone(&shared), telling.subscribe());
                tokio::spawn(serve(client, server.clone(), faults, outage));
            }
        });
        Self {
            address,
            faults,
            outage,
            accepting,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next requests of this method ("" = of any) meet these, instead of those told before.
    pub(crate) fn fail_next(&self, method: &'static str, faults: &[Fault]) {
        let next = faults.iter().copied().collect();
        *self.faults.lock().unwrap() = Faults {
            next,
            method,
            ..Faults::default()
        };
    }

    /// From now on every third request meets one of these, in turn, unless others of its method and path have met [`MOST_FAULTS`]. A POST,
    /// which clients try again only if it was refused, is refused instead of lost.
    pub(crate) fn fail_every_third(&self, faults: &[Fault]) {
        let next = faults.iter().copied().collect();
        *self.faults.lock().unwrap() = Faults {
            next,
            steady: true,
            ..Faults::default()
        };
    }

    /// From now on every request meets this, until `None` is told: then connections that hang are closed.
    pub(crate) fn outage(&self, fault: Option<Fault>) {
        self.outage.send_replace(fault);
    }

    pub(crate) fn faults_left(&self) -> usize {
        self.faults.lock().unwrap().next.len()
    }
}

impl Faults {
    fn of(&mut self, request: &Message) -> Option<Fault> {
        self.requests += 1;
        if !self.steady {
            return match request.head.starts_with(self.method) {
                true => self.next.pop_front(),
                false => None,
            };
        }
        if !self.requests.is_multiple_of(3) {
            return None;
        }
        let line = request.head.lines().next().unwrap_or_default();
        let met = self.met.entry(line.to_owned()).or_default();
        if *met == MOST_FAULTS {
            return None;
        }
        *met += 1;
        self.next.rotate_left(1);
        let fault = self.next.back().copied();
        match request.head.starts_with("POST") {
            true => fault.map(|_| Fault::Unavailable),
            false => fault,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Requests of one connection, until a fault or the client ends it. The server gets a connection for each.
async fn serve(
    client: TcpStream,
    server: String,
    faults: Arc<Mutex<Faults>>,
    mut outage: watch::Receiver<Option<Fault>>,
) {
    let mut client = BufReader::new(client);
    while let Some(request) = Message::read(&mut client, false).await {
        let general = *outage.borrow();
        let fault = general.or_else(|| faults.lock().unwrap().of(&request));
        let refusal = match fault {
            Some(Fault::LostBefore) => return,
            Some(Fault::Hang) if general.is_some() => {
                // An error is the end of the proxy.
                let _ = outage.wait_for(Option::is_none).await;
                return;
            }
            Some(Fault::Hang) => return std::future::pending().await,
            Some(Fault::Unavailable) => Some("503 Slow Down"),
            Some(Fault::Full) => Some("507 Insufficient Storage"),
            Some(Fault::Forbidden) => Some("403 Forbidden"),
            Some(Fault::LostAfter | Fault::CutOff) | None => None,
        };
        if let Some(status) = refusal {
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            if client.get_mut().write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        let Some(answer) = forward(&server, &request).await else {
            return;
        };
        let body = match fault {
            Some(Fault::LostAfter) => return,
            Some(Fault::CutOff) => &answer.body[..answer.body.len() / 2],
            _ => &answer.body[..],
        };
        let client = client.get_mut();
        let written =
            client.write_all(answer.head.as_bytes()).await.is_ok() && client.write_all(body).await.is_ok();
        if !written || fault == Some(Fault::CutOff) {
            return;
        }
    }
}

async fn forward(server: &str, request: &Message) -> Option<Message> {
    let mut connection = BufReader::new(TcpStream::connect(server).await.ok()?);
    let stream = connection.get_mut();
    stream.write_all(request.head.as_bytes()).await.ok()?;
    stream.write_all(&request.body).await.ok()?;
    Message::read(&mut connection, request.head.starts_with("HEAD")).await
}

impl Message {
    /// `bodyless`: an answer to HEAD has the length of a body that isn't there.
    async fn read(stream: &mut BufReader<TcpStream>, bodyless: bool) -> Option<Self> {
        let mut head = String::new();
        let (mut length, mut chunked) = (0, false);
        loop {
            let begin = head.len();
            if stream.read_line(&mut head).await.ok()? == 0 {
                return None;
            }
            let line = head[begin..].trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
        }
        let mut body = Vec::new();
        if chunked && !bodyless {
            read_chunks(stream, &mut body).await?;
        } else if !bodyless {
            body.resize(length, 0);
            stream.read_exact(&mut body).await.ok()?;
        }
        Some(Self { head, body })
    }
}

/// As they are on the wire, up to the last one.
async fn read_chunks(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let size = usize::from_str_radix(line.trim().split(';').next()?, 16).ok()?;
        body.extend(line.as_bytes());
        // The chunk and the end of its line.
        let begin = body.len();
        body.resize(begin + size + 2, 0);
        stream.read_exact(&mut body[begin..]).await.ok()?;
        if size == 0 {
            return Some(());
        }
    }
}
