//! A steady load of new and kept connections that counts everything that goes wrong.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Where.
    pub address: SocketAddr,
    /// Requests a second, each on a connection of its own.
    pub new: u32,
    /// Requests a second on kept connections.
    pub kept: u32,
}

/// Where a load goes, and for whom it asks.
#[derive(Clone, Debug)]
pub struct Target {
    /// One or more; connections are spread over them in turn.
    pub addresses: Vec<SocketAddr>,
    /// The host of every request.
    pub host: String,
    /// The path of every request.
    pub path: String,
}

/// Connections of each kind at a time.
const CONNECTIONS: u32 = 50;
/// An answer that takes longer is a failure.
const TOO_LATE: Duration = Duration::from_secs(10);
/// Most failures that are described.
const DESCRIBED: usize = 20;

/// A load that runs until it is stopped.
pub struct Load {
    tally: Arc<Tally>,
    began: Instant,
    thread: Option<thread::JoinHandle<()>>,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Answers with status 200 on connections made for them.
    pub new: u64,
    /// The same on kept connections.
    pub kept: u64,
    /// The slowest of all.
    pub slowest: Duration,
    /// What went wrong: how many, and the first of them in words.
    pub failures: u64,
    /// Descriptions of the first failures.
    pub described: Vec<String>,
    /// How long it ran.
    pub lasted: Duration,
}

/// What every client has in common.
struct Shared {
    target: Target,
    began: Instant,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    new: AtomicU64,
    kept: AtomicU64,
    slowest_us: AtomicU64,
    failures: AtomicU64,
    described: Mutex<Vec<String>>,
}

impl Load {
    /// Begins, at one address, for `/status/200` of `web.example`.
    ///
    /// # Panics
    /// When no thread or runtime can be made.
    pub fn start(plan: Plan) -> Self {
        let target = Target {
            addresses: vec![plan.address],
            host: "web.example".to_owned(),
            path: "/status/200".to_owned(),
        };
        Self::spread(target, plan.new, plan.kept)
    }

    /// Begins, with so many requests a second on connections of their own, and so many on kept ones.
    ///
    /// # Panics
    /// As [`Load::start`].
    pub fn spread(target: Target, new: u32, kept: u32) -> Self {
        let tally = Arc::new(Tally::default());
        let began = Instant::now();
        let shared = Arc::new(Shared {
            target,
            began,
            tally: Arc::clone(&tally),
        });
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(run(shared, new, kept));
        });
        Self {
            tally,
            began,
            thread: Some(thread),
        }
    }

    /// Answers so far.
    pub fn answers(&self) -> u64 {
        self.tally.new.load(Relaxed) + self.tally.kept.load(Relaxed)
    }

    /// Failures so far.
    pub fn failures(&self) -> u64 {
        self.tally.failures.load(Relaxed)
    }

    /// Ends it; requests under way are waited for.
    ///
    /// # Panics
    /// When the load itself failed.
    pub fn stop(mut self) -> Outcome {
        self.tally.stop.store(true, Relaxed);
        let lasted = self.began.elapsed();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the load does not panic");
        }
        let tally = &self.tally;
        Outcome {
            new: tally.new.load(Relaxed),
            kept: tally.kept.load(Relaxed),
            slowest: Duration::from_micros(tally.slowest_us.load(Relaxed)),
            failures: tally.failures.load(Relaxed),
            described: tally.described.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            lasted,
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tally.stop.store(true, Relaxed);
    }
}

impl Outcome {
    /// Answers a second.
    #[expect(clippy::cast_precision_loss, reason = "counts of a test are far below 2^52")]
    pub fn rate(&self) -> f64 {
        (self.new + self.kept) as f64 / self.lasted.as_secs_f64()
    }
}

async fn run(shared: Arc<Shared>, new: u32, kept: u32) {
    let mut tasks = JoinSet::new();
    for (rate, keep) in [(new, false), (kept, true)] {
        if rate == 0 {
            continue;
        }
        let connections = CONNECTIONS.min(rate);
        let period = Duration::from_secs(1) * connections / rate;
        for number in 0..connections {
            let first = Instant::now() + period * number / connections;
            let addresses = shared.target.addresses.iter().cycle();
            let Some(address) = addresses.copied().nth(number as usize) else {
                continue;
            };
            tasks.spawn(client(address, (first, period), keep, Arc::clone(&shared)));
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn client(address: SocketAddr, (first, period): (Instant, Duration), keep: bool, shared: Arc<Shared>) {
    let mut ticks = interval_at(first, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut kept = None;
    let tally = &shared.tally;
    while !tally.stop.load(Relaxed) {
        ticks.tick().await;
        let began = Instant::now();
        let reused = kept.is_some();
        let attempt = tokio::time::timeout(TOO_LATE, request(address, kept.take(), keep, &shared.target));
        match attempt.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                kept = stream;
                (if keep { &tally.kept } else { &tally.new }).fetch_add(1, Relaxed);
                let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                tally.slowest_us.fetch_max(took, Relaxed);
            }
            Err(error) => {
                tally.failures.fetch_add(1, Relaxed);
                let (at, took) = ((began - shared.began).as_secs_f64(), began.elapsed().as_secs_f64());
                let mut described = tally.described.lock().unwrap_or_else(PoisonError::into_inner);
                if described.len() < DESCRIBED {
                    described.push(format!(
                        "at {at:.3} s, {address}, keep {keep}, reused {reused}, after {took:.3} s: {error}"
                    ));
                }
            }
        }
    }
}

/// One request; gives the connection back where both sides keep it.
async fn request(
    address: SocketAddr,
    kept: Option<TcpStream>,
    keep: bool,
    target: &Target,
) -> io::Result<Option<TcpStream>> {
    let mut stream = match kept {
        Some(stream) => stream,
        None => TcpStream::connect(address).await?,
    };
    let last = if keep { "" } else { "Connection: close\r\n" };
    let head = format!("GET {} HTTP/1.1\r\nHost: {}\r\n{last}\r\n", target.path, target.host);
    stream.write_all(head.as_bytes()).await?;
    let mut bytes = Vec::with_capacity(2048);
    let (mut head_length, mut length) = (None, 0);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            let kind = if bytes.is_empty() {
                "no answer"
            } else {
                "half an answer"
            };
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, kind));
        }
        if head_length.is_none()
            && let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n")
        {
            head_length = Some(end + 4);
            length = content_length(bytes.get(..end).unwrap_or_default())?;
        }
        if head_length.is_some_and(|head| bytes.len() >= head + length) {
            break;
        }
    }
    let head = String::from_utf8_lossy(bytes.get(..head_length.unwrap_or(0)).unwrap_or_default()).to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") {
        let line = head.lines().next().unwrap_or_default().to_owned();
        return Err(io::Error::other(line));
    }
    Ok((keep && !head.contains("\r\nconnection: close")).then_some(stream))
}

fn content_length(head: &[u8]) -> io::Result<usize> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let mut values = head.lines().filter_map(|line| line.strip_prefix("content-length:"));
    let value = values.next().and_then(|value| value.trim().parse().ok());
    value.ok_or_else(|| io::Error::other(format!("no length: {}", head.lines().next().unwrap_or_default())))
}
