//! Leader election: what is known of the Lease in, what to do out. Pure: the time is an argument, on a clock that never
//! goes back; no clock of another machine is compared with it.
//!
//! A Lease is expired when this process has seen it unchanged for as long as it lasts. A leader stops being one when its
//! last renewal began longer ago than [`Timing::renew`]: with `renew < lease` there are never two, as long as no clock runs
//! more than `lease / renew` times as fast as another one.

use std::time::Duration;

/// A point on the clock of this process: the time since some fixed point of it.
pub type Now = Duration;

/// The three times, with the usual defaults of Kubernetes' own components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a Lease lasts without a renewal.
    pub lease: Duration,
    /// How long a leader stays one without a renewal; less than `lease`.
    pub renew: Duration,
    /// Time between two attempts.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// What a Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; empty: nobody (it was released).
    pub holder: String,
    /// How often it changed hands.
    pub transitions: i32,
    /// How long it lasts.
    pub lease: Duration,
    /// When it was renewed last, as its holder wrote it: compared for equality only.
    pub renewed: String,
    /// When it was acquired, as its holder wrote it.
    pub acquired: String,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Wait until then.
    Wait(Now),
    /// Read the Lease.
    Read,
    /// Make the Lease; it must not exist.
    Create(Claim),
    /// Write the Lease if it has still this version.
    Update(Claim, String),
}

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// How often it changed hands.
    pub transitions: i32,
    /// Whether the time of acquisition is now, rather than what it was.
    pub is_new: bool,
}

/// What became of an act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The Lease as it is, with its version; none: there is none.
    Read(Option<(Record, String)>),
    /// It was written and is now this, with its version.
    Written(Record, String),
    /// Somebody else wrote it before.
    Conflict,
    /// The API server could not be reached, or refused; perhaps the write took place.
    Failed,
}

/// One candidate.
#[derive(Clone, Debug)]
pub struct Candidate {
    identity: String,
    timing: Timing,
    /// The last reading, and when it was first seen so.
    seen: Option<(Record, Now)>,
    /// The version of the last reading; none: it must be read again.
    version: Option<Reading>,
    /// When the last renewal that succeeded began.
    renewed: Option<Now>,
    /// When to do something again.
    next: Now,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reading {
    Absent,
    Version(String),
}

impl Candidate {
    /// A candidate that has seen nothing yet.
    pub const fn new(identity: String, timing: Timing) -> Self {
        Self {
            identity,
            timing,
            seen: None,
            version: None,
            renewed: None,
            next: Duration::ZERO,
        }
    }

    /// Whether it leads.
    pub fn is_leader(&self, now: Now) -> bool {
        self.leads_until().is_some_and(|until| now < until)
    }

    /// Until when it leads, unless it renews before; none: it does not lead.
    pub fn leads_until(&self) -> Option<Now> {
        self.renewed.map(|renewed| renewed + self.timing.renew)
    }

    /// Who leads as far as is known; none: nobody, or unknown.
    pub fn leader(&self) -> Option<&str> {
        let holder = self.seen.as_ref().map(|(record, _)| record.holder.as_str());
        holder.filter(|holder| !holder.is_empty())
    }

    /// What to do now.
    pub fn act(&self, now: Now) -> Act {
        if now < self.next {
            return Act::Wait(self.next);
        }
        let Some(reading) = &self.version else {
            return Act::Read;
        };
        match (reading, &self.seen) {
            (Reading::Absent, _) | (_, None) => Act::Create(Claim {
                transitions: 0,
                is_new: true,
            }),
            (Reading::Version(version), Some((record, since))) => {
                let claim = self.claim(record, *since, now);
                claim.map_or(Act::Read, |claim| Act::Update(claim, version.clone()))
            }
        }
    }

    /// What to write over a record; none: it is somebody else's.
    fn claim(&self, record: &Record, since: Now, now: Now) -> Option<Claim> {
        if record.holder == self.identity {
            // Its own, of this process or of one before with the same name.
            return Some(Claim {
                transitions: record.transitions,
                is_new: self.renewed.is_none(),
            });
        }
        let lasts = record.lease.max(self.timing.lease);
        let is_free = record.holder.is_empty() || now >= since + lasts;
        is_free.then_some(Claim {
            transitions: record.transitions.saturating_add(1),
            is_new: true,
        })
    }

    /// Takes what became of the act that began at `began`.
    pub fn answer(&mut self, answer: Answer, began: Now, now: Now) {
        match answer {
            Answer::Read(None) => self.missed(now),
            Answer::Read(Some((record, version))) => self.read(record, version, now),
            Answer::Written(record, version) => {
                self.renewed = Some(began);
                self.see(record, now);
                self.version = Some(Reading::Version(version));
                self.next = now + self.timing.retry;
            }
            Answer::Conflict => self.version = None,
            Answer::Failed => {
                // The write may have taken place: read before the next one.
                self.version = None;
                self.next = now + self.timing.retry;
            }
        }
    }

    /// There is no Lease. Where somebody held one a moment ago, it may still believe so: it is waited for.
    fn missed(&mut self, now: Now) {
        self.renewed = None;
        self.version = None;
        let held = self.seen.as_ref().filter(|(record, _)| record.holder != self.identity);
        if held.is_some_and(|(record, since)| self.claim(record, *since, now).is_none()) {
            self.next = now + self.timing.retry;
            return;
        }
        self.seen = None;
        self.version = Some(Reading::Absent);
    }

    fn read(&mut self, record: Record, version: String, now: Now) {
        let is_own = record.holder == self.identity;
        if !is_own {
            self.renewed = None;
        }
        self.see(record, now);
        self.version = Some(Reading::Version(version));
        let claim = self
            .seen
            .as_ref()
            .and_then(|(record, since)| self.claim(record, *since, now));
        if claim.is_none() {
            // Somebody else's: look again later, in a new reading.
            self.version = None;
            self.next = now + self.timing.retry;
        }
    }

    fn see(&mut self, record: Record, now: Now) {
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != record) {
            self.seen = Some((record, now));
        }
    }

    /// What to write to release the Lease at the end; none: it is not held.
    pub fn release(&mut self) -> Option<(Claim, String)> {
        self.renewed.take()?;
        let (record, _) = self.seen.as_ref()?;
        let Some(Reading::Version(version)) = self.version.take() else {
            return None;
        };
        let claim = Claim {
            transitions: record.transitions,
            is_new: false,
        };
        Some((claim, version))
    }
}

#[cfg(test)]
mod tests;
