//! Open loop: requests are due at the times of a Poisson process, whether or not earlier ones were answered, and
//! their latency counts from the time they were due.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

use super::Outcome;
use crate::args::LoadArgs;
use crate::clock::{now_ns, seconds_ns};
use crate::http::{ResponseReader, get};
use crate::stats::percentile;

const TIMER: u64 = u64::MAX;
const SECOND: u64 = 1_000_000_000;

struct Connection {
    stream: TcpStream,
    reader: ResponseReader,
    /// When the request under way was due.
    due: Option<u64>,
}

struct Generator {
    epoll: OwnedFd,
    timer: OwnedFd,
    request: Vec<u8>,
    connections: Vec<Connection>,
    free: Vec<usize>,
    waiting: VecDeque<u64>,
    latencies: Vec<u64>,
    errors: u64,
}

/// Sends at `rate` over `connections` for `seconds`, then waits up to a second for what is still under way.
pub(super) fn run(args: &LoadArgs) -> Result<Outcome> {
    let mut generator = Generator::new(args)?;
    let mut random = fastrand::Rng::with_seed(args.seed);
    let mean_ns = 1e9 / f64::from(args.rate.max(1));
    let start = now_ns();
    let end = start + seconds_ns(args.seconds);
    let mut elapsed = 0.0;
    let mut next = start;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let now = now_ns();
        while next <= now && next < end {
            generator.waiting.push_back(next);
            elapsed -= mean_ns * (1.0 - random.f64()).ln();
            next = start + whole(elapsed);
        }
        generator.send_waiting()?;
        let idle = generator.waiting.is_empty() && generator.free.len() == generator.connections.len();
        if next >= end && (idle || now > end + SECOND) {
            break;
        }
        generator.wait(if next < end { next } else { end + SECOND }, &mut buffer)?;
    }
    Ok(generator.finish())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive time below hours"
)]
fn whole(nanoseconds: f64) -> u64 {
    nanoseconds as u64
}

impl Generator {
    fn new(args: &LoadArgs) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        let mut connections = Vec::new();
        for index in 0..args.connections {
            let stream = TcpStream::connect(args.addr)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(index as u64), EventFlags::IN)?;
            connections.push(Connection {
                stream,
                reader: ResponseReader::default(),
                due: None,
            });
        }
        let free = (0..connections.len()).collect();
        Ok(Self {
            epoll,
            timer,
            request: get(&args.path),
            connections,
            free,
            waiting: VecDeque::new(),
            latencies: Vec::new(),
            errors: 0,
        })
    }

    /// Gives due requests to free connections.
    fn send_waiting(&mut self) -> Result<()> {
        while let Some(index) = self.free.pop() {
            let Some(due) = self.waiting.pop_front() else {
                self.free.push(index);
                return Ok(());
            };
            let connection = self.connections.get_mut(index).context("an unknown connection")?;
            let count = connection.stream.write(&self.request)?;
            if count != self.request.len() {
                bail!("the socket did not take a small request at once");
            }
            connection.due = Some(due);
        }
        Ok(())
    }

    /// Waits for answers until `until` (monotonic nanoseconds) and takes them.
    fn wait(&mut self, until: u64, buffer: &mut [u8]) -> Result<()> {
        let value = Timespec {
            tv_sec: i64::try_from(until / SECOND)?,
            tv_nsec: i64::try_from(until % SECOND)?,
        };
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        let mut events = Vec::with_capacity(128);
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in events {
            match event.data.u64() {
                // The expirations do not matter; reading them (or finding none) rearms the level trigger.
                TIMER => drop(rustix::io::read(&self.timer, &mut [0; 8])),
                token => self.receive(usize::try_from(token)?, buffer)?,
            }
        }
        Ok(())
    }

    fn receive(&mut self, index: usize, buffer: &mut [u8]) -> Result<()> {
        let connection = self.connections.get_mut(index).context("an unknown connection")?;
        let count = match connection.stream.read(buffer) {
            Ok(0) => bail!("the proxy closed a connection"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let Some(status) = connection.reader.feed(buffer.get(..count).unwrap_or_default())? else {
            return Ok(());
        };
        let due = connection.due.take().context("an answer without a request")?;
        if status == 200 {
            self.latencies.push(now_ns().saturating_sub(due));
        } else {
            self.errors += 1;
        }
        self.free.push(index);
        Ok(())
    }

    fn finish(mut self) -> Outcome {
        let unanswered = self.waiting.len() + self.connections.len() - self.free.len();
        self.latencies.sort_unstable();
        let microseconds = |per_mille| percentile(&self.latencies, per_mille) as f64 / 1000.0;
        Outcome {
            requests: self.latencies.len() as u64,
            errors: self.errors + unanswered as u64,
            p50_us: microseconds(500),
            p99_us: microseconds(990),
            p999_us: microseconds(999),
            ..Outcome::default()
        }
    }
}
