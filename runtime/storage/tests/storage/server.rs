//! As much of an S3 server as the client uses, in memory, on loopback; it fails when told to.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// 503, as S3 when it is asked too much.
    Unavailable,
    /// 507.
    Full,
    /// 403.
    Forbidden,
    /// No answer, for longer than the client waits.
    Hang,
    /// The connection is closed before the request was carried out.
    LostBefore,
    /// The same, after it was carried out.
    LostAfter,
    /// The connection is closed in the middle of the answer's body.
    CutOff,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    uploads: BTreeMap<u64, BTreeMap<u32, Bytes>>,
    next_upload: u64,
    faults: VecDeque<Fault>,
    failing_parts: usize,
    lose_completion: bool,
    requests: usize,
    /// Of objects, sent to clients.
    sent_bytes: usize,
}

pub(crate) struct Server {
    address: String,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

struct Request {
    method: String,
    key: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Bytes,
}

struct Answer {
    status: &'static str,
    headers: String,
    body: Bytes,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self {
            address,
            state,
            accepting,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Instead of those told before.
    pub(crate) fn fail_next(&self, faults: &[Fault]) {
        self.state.lock().unwrap().faults = faults.iter().copied().collect();
    }

    /// The next uploads of parts get a 503; other requests don't.
    pub(crate) fn fail_next_parts(&self, count: usize) {
        self.state.lock().unwrap().failing_parts = count;
    }

    /// The next upload in parts is completed, but the client isn't told.
    pub(crate) fn lose_next_completion(&self) {
        self.state.lock().unwrap().lose_completion = true;
    }

    pub(crate) fn faults_left(&self) -> usize {
        self.state.lock().unwrap().faults.len()
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.lock().unwrap().requests
    }

    pub(crate) fn sent_bytes(&self) -> usize {
        self.state.lock().unwrap().sent_bytes
    }

    pub(crate) fn unfinished_uploads(&self) -> usize {
        self.state.lock().unwrap().uploads.len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
        // Connections that are open end with their next request.
        if let Ok(mut state) = self.state.lock() {
            state.faults = VecDeque::from([Fault::LostBefore; 100]);
        }
    }
}

/// Requests of one connection, until a fault ends it.
async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        let fault = {
            let mut state = state.lock().unwrap();
            state.requests += 1;
            state.faults.pop_front()
        };
        let refused = |status| Answer {
            status,
            headers: String::new(),
            body: Bytes::new(),
        };
        let answer = match fault {
            Some(Fault::LostBefore) => return,
            Some(Fault::Hang) => return std::future::pending().await,
            Some(Fault::Unavailable) => refused("503 Slow Down"),
            Some(Fault::Full) => refused("507 Insufficient Storage"),
            Some(Fault::Forbidden) => refused("403 Forbidden"),
            Some(Fault::LostAfter | Fault::CutOff) | None => state.lock().unwrap().answer(&request),
        };
        if fault == Some(Fault::LostAfter) {
            return;
        }
        let head = request.method == "HEAD";
        let sent = match fault {
            Some(Fault::CutOff) => &answer.body[..answer.body.len() / 2],
            _ if head => &[],
            _ => &answer.body[..],
        };
        let begin = format!(
            "HTTP/1.1 {}\r\nContent-Length: {}\r\n{}\r\n",
            answer.status,
            answer.body.len(),
            answer.headers
        );
        let written = stream.get_mut().write_all(begin.as_bytes()).await.is_ok()
            && stream.get_mut().write_all(sent).await.is_ok();
        if !written || fault == Some(Fault::CutOff) {
            return;
        }
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), decoded(value))
    });
    Some(Request {
        method,
        key: decoded(path.trim_start_matches("/bucket").trim_start_matches('/')),
        query: query.collect(),
        headers,
        body: body.into(),
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes().iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [*rest.next().unwrap(), *rest.next().unwrap()];
                let digits = std::str::from_utf8(&digits).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
            }
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).unwrap()
}

impl State {
    fn answer(&mut self, request: &Request) -> Answer {
        let query = |name: &str| request.query.get(name).map(String::as_str);
        match request.method.as_str() {
            "GET" if query("list-type").is_some() => self.list(query("prefix").unwrap_or("")),
            "GET" => {
                let answer = self.get(request);
                self.sent_bytes += answer.body.len();
                answer
            }
            "HEAD" => self.get(request),
            "PUT" if query("partNumber").is_some() => self.put_part(request),
            "PUT" => self.put(request),
            "POST" if query("uploads").is_some() => {
                self.next_upload += 1;
                self.uploads.insert(self.next_upload, BTreeMap::new());
                let id = self.next_upload;
                xml(format!(
                    "<InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>k</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                ))
            }
            "POST" if query("uploadId").is_some() => {
                let Some(parts) = self.uploads.remove(&query("uploadId").unwrap().parse().unwrap()) else {
                    return empty("404 Not Found");
                };
                // Those that are named, and no others that were sent.
                let body = String::from_utf8(request.body.to_vec()).unwrap();
                let named = body.split("<PartNumber>").skip(1);
                let number = |rest: &str| rest.split('<').next().unwrap().parse().unwrap();
                let content = named.map(|rest| parts[&number(rest)].clone());
                let content = content.collect::<Vec<Bytes>>().concat();
                self.objects.insert(request.key.clone(), content.into());
                if std::mem::take(&mut self.lose_completion) {
                    return empty("503 Slow Down");
                }
                xml(
                    "<CompleteMultipartUploadResult><ETag>\"whole\"</ETag></CompleteMultipartUploadResult>"
                        .to_owned(),
                )
            }
            "POST" => self.delete_many(&request.body),
            "DELETE" if query("uploadId").is_some() => {
                self.uploads.remove(&query("uploadId").unwrap().parse().unwrap());
                empty("204 No Content")
            }
            "DELETE" => {
                self.objects.remove(&request.key);
                empty("204 No Content")
            }
            other => panic!("{other} {}", request.key),
        }
    }

    fn put(&mut self, request: &Request) -> Answer {
        let new = request.headers.contains_key("if-none-match");
        if new && self.objects.contains_key(&request.key) {
            return empty("412 Precondition Failed");
        }
        self.objects.insert(request.key.clone(), request.body.clone());
        empty("200 OK")
    }

    fn put_part(&mut self, request: &Request) -> Answer {
        if self.failing_parts > 0 {
            self.failing_parts -= 1;
            return empty("503 Slow Down");
        }
        let number = |name: &str| request.query[name].parse::<u64>().unwrap();
        let Some(parts) = self.uploads.get_mut(&number("uploadId")) else {
            return empty("404 Not Found");
        };
        parts.insert(number("partNumber") as u32, request.body.clone());
        empty("200 OK")
    }

    fn get(&self, request: &Request) -> Answer {
        let Some(object) = self.objects.get(&request.key) else {
            return empty("404 Not Found");
        };
        let size = object.len();
        let Some(range) = request.headers.get("range") else {
            return Answer {
                body: object.clone(),
                ..empty("200 OK")
            };
        };
        let (first, last) = range.trim_start_matches("bytes=").split_once('-').unwrap();
        let first: usize = first.parse().unwrap();
        let end = last.parse::<usize>().map_or(size, |last| (last + 1).min(size));
        if first >= size {
            return empty("416 Range Not Satisfiable");
        }
        let mut answer = empty("206 Partial Content");
        write!(
            answer.headers,
            "Content-Range: bytes {first}-{}/{size}\r\n",
            end - 1
        )
        .unwrap();
        answer.body = object.slice(first..end);
        answer
    }

    fn list(&self, prefix: &str) -> Answer {
        let mut text = "<ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
        for (key, object) in self.objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
            let size = object.len();
            write!(
                text,
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"x\"</ETag><Size>{size}</Size></Contents>"
            )
            .unwrap();
        }
        xml(text + "</ListBucketResult>")
    }

    fn delete_many(&mut self, body: &Bytes) -> Answer {
        let body = String::from_utf8(body.to_vec()).unwrap();
        let keys: Vec<&str> = body
            .split("<Key>")
            .skip(1)
            .map(|rest| rest.split("</Key>").next().unwrap())
            .collect();
        let mut text = "<DeleteResult>".to_owned();
        for key in keys {
            self.objects.remove(key);
            write!(text, "<Deleted><Key>{key}</Key></Deleted>").unwrap();
        }
        xml(text + "</DeleteResult>")
    }
}

fn empty(status: &'static str) -> Answer {
    Answer {
        status,
        headers: "ETag: \"tag\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n".to_owned(),
        body: Bytes::new(),
    }
}

fn xml(text: String) -> Answer {
    Answer {
        body: text.into(),
        ..empty("200 OK")
    }
}
