//! What the process does when memory, file descriptors or places for connections run out: it refuses new work early and with
//! a reason, lets connections go, finishes what it has begun, and recovers by itself.
//!
//! What it is: the [`Pressure`] that every response looks at (one relaxed load), the task that measures ([`watch`]), and the
//! way in which a connection is refused before it costs anything ([`refuse`]).
//!
//! What it is not: a limit of one connection, client or endpoint; those are elsewhere.

mod cgroup;

use std::{
    io,
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use propylon_kit::metrics::{Metric, Registry};
use socket2::SockRef;
use tokio::{net::TcpStream, time::sleep};

use crate::{edge::Scheme, reason::Reason, respond, worker::Shared};
use cgroup::Groups;

/// What there is too little of; 0: enough of everything.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    word: AtomicU8,
    /// How often descriptors were missing.
    starved: AtomicU64,
    /// How often there was no place for a connection.
    full: AtomicU64,
    usage: AtomicU64,
    limit: AtomicU64,
}

/// Idle connections are closed, and others after their response.
const MEMORY_TIGHT: u8 = 1;
/// Requests are refused too.
const MEMORY_SCARCE: u8 = 2;
/// Connections are refused too.
const MEMORY_EXHAUSTED: u8 = 4;
const MEMORY: u8 = MEMORY_TIGHT | MEMORY_SCARCE | MEMORY_EXHAUSTED;
const DESCRIPTORS: u8 = 8;
const CONNECTIONS: u8 = 16;

impl Pressure {
    /// Whether connections are to be let go where that hurts nobody.
    pub(crate) fn is_any(&self) -> bool {
        self.word.load(Relaxed) != 0
    }

    /// Whether requests are refused.
    pub(crate) fn refuses_requests(&self) -> bool {
        self.word.load(Relaxed) & MEMORY_SCARCE != 0
    }

    /// Whether connections are refused.
    pub(crate) fn refuses_connections(&self) -> bool {
        self.word.load(Relaxed) & MEMORY_EXHAUSTED != 0
    }

    /// A descriptor was missing.
    pub(crate) fn note_starved(&self) {
        self.starved.fetch_add(1, Relaxed);
        self.word.fetch_or(DESCRIPTORS, Relaxed);
    }

    /// A connection was refused because the process has as many as it may.
    pub(crate) fn note_full(&self) {
        self.full.fetch_add(1, Relaxed);
        self.word.fetch_or(CONNECTIONS, Relaxed);
    }

    fn set(&self, mask: u8, value: u8) {
        let change = |word: u8| Some(word & !mask | value);
        if self.word.fetch_update(Relaxed, Relaxed, change).is_err() {
            tracing::trace!("the update never declines");
        }
    }
}

/// How scarce memory is; ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Plenty,
    Tight,
    Scarce,
    Exhausted,
}

impl Level {
    /// The level after a measurement. It rises at once, and falls once use is 4 points below what made it rise, so that it
    /// does not flutter.
    fn next(self, percent: u64) -> Self {
        let of = |percent: u64| match percent {
            EXHAUSTED.. => Self::Exhausted,
            SCARCE.. => Self::Scarce,
            TIGHT.. => Self::Tight,
            _ => Self::Plenty,
        };
        let (up, down) = (of(percent), of(percent.saturating_add(HYSTERESIS)));
        if up > self { up } else { self.min(down) }
    }

    const fn word(self) -> u8 {
        match self {
            Self::Plenty => 0,
            Self::Tight => MEMORY_TIGHT,
            Self::Scarce => MEMORY_TIGHT | MEMORY_SCARCE,
            Self::Exhausted => MEMORY,
        }
    }
}

/// A shortage that is over when it was not noticed for a while.
struct Shortage {
    name: &'static str,
    mask: u8,
    seen: u64,
    began: u64,
    quiet: u32,
    lasts: bool,
}

impl Shortage {
    const fn new(name: &'static str, mask: u8) -> Self {
        Self {
            name,
            mask,
            seen: 0,
            began: 0,
            quiet: 0,
            lasts: false,
        }
    }

    fn look(&mut self, pressure: &Pressure, count: &AtomicU64) {
        let count = count.load(Relaxed);
        if count != self.seen {
            if !self.lasts {
                tracing::warn!(
                    of = self.name,
                    "overload: none left; new work is refused, idle connections are closed"
                );
                (self.lasts, self.began) = (true, self.seen);
            }
            (self.seen, self.quiet) = (count, 0);
        } else if self.lasts {
            self.quiet += 1;
            if self.quiet >= QUIET_LOOKS {
                pressure.set(self.mask, 0);
                self.lasts = false;
                tracing::info!(of = self.name, times = count - self.began, "overload: over");
            }
        }
    }
}

/// Measures for as long as the process lives; logs changes only.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let pressure = &shared.pressure;
    let groups = Groups::find(&shared.config.memory_root);
    let mut level = Level::Plenty;
    let mut descriptors = Shortage::new("file descriptors", DESCRIPTORS);
    let mut connections = Shortage::new("connections", CONNECTIONS);
    let (mut pause, mut since) = (Duration::ZERO, LOOK);
    loop {
        sleep(pause).await;
        since += pause;
        if since >= LOOK {
            since = Duration::ZERO;
            descriptors.look(pressure, &pressure.starved);
            connections.look(pressure, &pressure.full);
        }
        let memory = groups.read().unwrap_or_default();
        pressure.usage.store(memory.usage, Relaxed);
        pressure.limit.store(memory.limit, Relaxed);
        // Ten thousand connections in a second fill a small group faster than a calm look would see.
        pause = if memory.percent() < FILLING { LOOK } else { CLOSE_LOOK };
        let next = level.next(memory.percent());
        if next != level {
            let (usage, limit) = (memory.usage, memory.limit);
            if next == Level::Plenty {
                tracing::info!(usage, limit, "overload: enough memory again");
            } else {
                tracing::warn!(usage, limit, level = ?next, "overload: memory");
            }
            level = next;
            pressure.set(MEMORY, level.word());
        }
    }
}

/// Adds the gauges.
pub(crate) fn register(shared: &Arc<Shared>, registry: &Registry) {
    let shared = Arc::clone(shared);
    registry.add_source(move |exposition| {
        let pressure = &shared.pressure;
        let word = pressure.word.load(Relaxed);
        for (resource, mask) in [
            ("connections", CONNECTIONS),
            ("descriptors", DESCRIPTORS),
            ("memory", MEMORY),
        ] {
            exposition.gauge_count(Metric::Overload, &[resource], i64::from(word & mask != 0));
        }
        for (kind, bytes) in [("limit", &pressure.limit), ("usage", &pressure.usage)] {
            let bytes = i64::try_from(bytes.load(Relaxed)).unwrap_or(i64::MAX);
            exposition.gauge_count(Metric::MemoryBytes, &[kind], bytes);
        }
    });
}

/// Whether a call failed because this process, or the machine, has no descriptors left.
pub(crate) fn is_starved(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let starved = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| starved.contains(&code))
}

/// Ends a connection that nothing was read from: with 503 where the client can read it, else by closing. Never waits.
pub(crate) fn refuse(stream: &TcpStream, scheme: Scheme, reason: Reason) {
    if scheme == Scheme::Http {
        let answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\nproxy-status: {}\r\n\r\n",
            respond::proxy_status(reason)
        );
        // Best effort, all of it: the client may be gone already.
        drop(stream.try_write(answer.as_bytes()));
        drop(SockRef::from(stream).shutdown(Shutdown::Write));
        // What is unread at the close makes the kernel reset the connection, which may overtake the answer.
        let mut unread = [0; 4096];
        while stream.try_read(&mut unread).is_ok_and(|count| count > 0) {}
    }
}

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// The same from [`FILLING`] percent on.
const CLOSE_LOOK: Duration = Duration::from_millis(25);
const FILLING: u64 = 50;
/// Looks without a missing descriptor or place after which that shortage is over.
const QUIET_LOOKS: u32 = 4;
/// Percent of the memory limit (`reliability.md` B2 row 14).
const TIGHT: u64 = 88;
const SCARCE: u64 = 92;
const EXHAUSTED: u64 = 95;
const HYSTERESIS: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_rise_at_once_and_fall_late() {
        let mut level = Level::Plenty;
        let mut walk = |percents: &[u64]| {
            percents
                .iter()
                .map(|percent| {
                    level = level.next(*percent);
                    level
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(walk(&[0, 87, 88]), [Level::Plenty, Level::Plenty, Level::Tight]);
        assert_eq!(
            walk(&[92, 89, 88, 87]),
            [Level::Scarce, Level::Scarce, Level::Scarce, Level::Tight]
        );
        assert_eq!(walk(&[84, 83]), [Level::Tight, Level::Plenty]);
        assert_eq!(
            walk(&[99, 91, 90, 10]),
            [Level::Exhausted, Level::Exhausted, Level::Scarce, Level::Plenty]
        );
    }

    #[test]
    fn a_shortage_ends_when_it_was_quiet() {
        let pressure = Pressure::default();
        let mut shortage = Shortage::new("file descriptors", DESCRIPTORS);
        pressure.note_starved();
        pressure.note_full();
        for _ in 0..QUIET_LOOKS {
            shortage.look(&pressure, &pressure.starved);
            assert!(pressure.word.load(Relaxed) & DESCRIPTORS != 0);
        }
        shortage.look(&pressure, &pressure.starved);
        assert_eq!(pressure.word.load(Relaxed), CONNECTIONS, "the others are left alone");
    }

    #[test]
    fn only_missing_descriptors_are_starvation() {
        assert!(is_starved(&io::Error::from_raw_os_error(24)));
        assert!(is_starved(&io::Error::from_raw_os_error(23)));
        assert!(!is_starved(&io::ErrorKind::ConnectionReset.into()));
    }
}
