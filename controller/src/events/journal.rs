//! Which Events are written when. Pure: the time is an argument.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::record::{EventName, Record};

/// How long after it was said something that still holds is said again: the API server forgets Events after an hour.
pub const AGAIN: Duration = Duration::from_mins(30);
/// How soon something that went and came back may be said again.
const RETURN: Duration = Duration::from_mins(5);
/// How long what went is remembered.
const FORGET: Duration = Duration::from_hours(1);
/// New Events that may be written at once, and per second after that.
const BURST: f64 = 50.0;
const PER_SECOND: f64 = 10.0;
/// New Events about one object that may be written at once, and the time in which one more becomes free.
const OBJECT_BURST: f64 = 15.0;
const OBJECT_EVERY: Duration = Duration::from_mins(1);

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The Event is new. One of its name that exists says the same: then there is nothing to do.
    Create(Record),
    /// The Event is there, or was: say that it was observed so often, and just now.
    Again(Record, i32),
}

/// Remembers what was said. Times are those since any fixed moment.
#[derive(Debug, Default)]
pub struct Journal {
    entries: BTreeMap<EventName, Entry>,
    budget: Option<Bucket>,
    objects: HashMap<ObjectKey, Bucket>,
}

type ObjectKey = (&'static str, String, String);

#[derive(Debug)]
struct Entry {
    record: Record,
    /// Since when it holds without a break; none: it does not hold.
    since: Option<Duration>,
    /// When it was said last.
    said: Option<Duration>,
    count: i32,
    /// Whether it is said once, whatever becomes of it.
    is_once: bool,
}

impl Journal {
    /// Nothing was said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Something that is said once.
    pub fn once(&mut self, record: Record, now: Duration) {
        let name = record.name();
        self.entries.entry(name).or_insert(Entry {
            record,
            since: Some(now),
            said: None,
            count: 0,
            is_once: true,
        });
    }

    /// Takes everything that holds now.
    ///
    /// # Cost
    /// A hash of each record: not to be called where nothing changed.
    pub fn hold<'r>(&mut self, holds: impl IntoIterator<Item = &'r Record>, now: Duration) {
        let holds: BTreeMap<EventName, &Record> = holds.into_iter().map(|record| (record.name(), record)).collect();
        for (name, entry) in &mut self.entries {
            if !entry.is_once && !holds.contains_key(name) {
                entry.since = None;
            }
        }
        for (name, record) in holds {
            let entry = self.entries.entry(name).or_insert_with(|| Entry {
                record: record.clone(),
                since: None,
                said: None,
                count: 0,
                is_once: false,
            });
            entry.since.get_or_insert(now);
        }
    }

    /// What is to be written now. What there is no room for is written later, if it still holds then.
    pub fn due(&mut self, now: Duration) -> Vec<Write> {
        let is_known = |entry: &Entry| entry.said.is_some_and(|said| now.saturating_sub(said) < FORGET);
        self.entries.retain(|_, entry| is_known(entry) || entry.since.is_some());
        self.objects.retain(|_, bucket| !bucket.is_full(now));
        let mut writes = Vec::new();
        let budget = self.budget.get_or_insert_with(|| Bucket::new(BURST, PER_SECOND, now));
        for entry in self.entries.values_mut() {
            let Some(since) = entry.since else { continue };
            let age = now.saturating_sub(since);
            let is_due = match entry.said {
                None => age >= entry.record.settle,
                Some(_) if entry.is_once => false,
                // It came back after it was said, or it held all the time.
                Some(said) if since > said => age >= entry.record.settle && now.saturating_sub(said) >= RETURN,
                Some(said) => now.saturating_sub(said) >= AGAIN,
            };
            if !is_due || !budget.has(now) {
                continue;
            }
            let regarding = &entry.record.regarding;
            let object = (regarding.kind, regarding.namespace.clone(), regarding.name.clone());
            let every = 1.0 / OBJECT_EVERY.as_secs_f64();
            let object = self
                .objects
                .entry(object)
                .or_insert_with(|| Bucket::new(OBJECT_BURST, every, now));
            if !object.has(now) {
                continue;
            }
            object.take();
            budget.take();
            entry.said = Some(now);
            entry.count = entry.count.saturating_add(1);
            if entry.is_once {
                entry.since = None;
            }
            writes.push(match entry.count {
                1 => Write::Create(entry.record.clone()),
                count => Write::Again(entry.record.clone(), count),
            });
        }
        writes
    }

    /// An Event could not be written: it is said again later.
    pub fn failed(&mut self, record: &Record, now: Duration) {
        if let Some(entry) = self.entries.get_mut(&record.name()) {
            entry.count -= 1;
            entry.said = None;
            if entry.is_once {
                entry.since = Some(now);
            }
        }
    }
}

/// Room that fills up again with time.
#[derive(Debug)]
struct Bucket {
    burst: f64,
    per_second: f64,
    room: f64,
    at: Duration,
}

impl Bucket {
    const fn new(burst: f64, per_second: f64, now: Duration) -> Self {
        Self {
            burst,
            per_second,
            room: burst,
            at: now,
        }
    }

    fn has(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.room = self.per_second.mul_add(passed, self.room).min(self.burst);
        self.at = now;
        self.room >= 1.0
    }

    fn take(&mut self) {
        self.room -= 1.0;
    }

    fn is_full(&mut self, now: Duration) -> bool {
        self.has(now) && self.room >= self.burst
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;
    use crate::events::record::{EventType, Regarding};

    fn record(object: &str, note: &str) -> Record {
        Record {
            regarding: Regarding {
                api_version: "networking.k8s.io/v1",
                kind: "Ingress",
                namespace: "default".to_owned(),
                name: object.to_owned(),
                uid: None,
            },
            type_: EventType::Warning,
            reason: Cow::Borrowed("AnnotationInvalid"),
            note: note.to_owned(),
            action: "Compile",
            settle: Duration::from_secs(3),
        }
    }

    fn step<'r>(journal: &mut Journal, holds: impl IntoIterator<Item = &'r Record>, now: Duration) -> Vec<Write> {
        journal.hold(holds, now);
        journal.due(now)
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_holds_is_said_once_and_again_before_it_is_forgotten() {
        let mut journal = Journal::new();
        let one = record("web", "a");
        assert!(step(&mut journal, [&one], at(0)).is_empty(), "it may pass by itself");
        assert_eq!(step(&mut journal, [&one], at(3)), [Write::Create(one.clone())]);
        for seconds in 4..1800 {
            assert!(step(&mut journal, [&one], at(seconds)).is_empty());
        }
        assert_eq!(step(&mut journal, [&one], at(1803)), [Write::Again(one.clone(), 2)]);
    }

    #[test]
    fn what_flaps_is_not_said_each_time() {
        let mut journal = Journal::new();
        let one = record("web", "a");
        let mut writes = 0;
        for second in 0..600 {
            let holds = (second / 5 % 2 == 0).then_some(&one);
            writes += step(&mut journal, holds, at(second)).len();
        }
        assert!((2..=3).contains(&writes), "{writes}");
    }

    #[test]
    fn what_is_said_once_is_not_said_again() {
        let mut journal = Journal::new();
        let one = Record {
            settle: Duration::ZERO,
            ..record("web", "done")
        };
        journal.once(one.clone(), at(0));
        assert_eq!(step(&mut journal, [], at(0)), [Write::Create(one.clone())]);
        journal.once(one, at(5));
        assert!(step(&mut journal, [], at(6)).is_empty());
        assert!(step(&mut journal, [], at(2000)).is_empty());
    }

    #[test]
    fn a_failure_is_tried_again() {
        let mut journal = Journal::new();
        let one = record("web", "a");
        step(&mut journal, [&one], at(0));
        assert_eq!(step(&mut journal, [&one], at(3)).len(), 1);
        journal.failed(&one, at(3));
        assert_eq!(step(&mut journal, [&one], at(4)), [Write::Create(one.clone())]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn an_object_and_the_whole_have_a_rate(notes in 1..400_usize, seconds in 1..600_u64) {
            let mut journal = Journal::new();
            let records: Vec<Record> = (0..notes).map(|note| record(&format!("o{}", note % 7), &note.to_string())).collect();
            let mut writes = Vec::new();
            journal.hold(&records, at(0));
            for second in 0..=seconds {
                writes.extend(journal.due(at(second)));
            }
            prop_assert!(writes.len() <= 7 * (15 + 1 + usize::try_from(seconds / 60).unwrap()));
            prop_assert!(writes.len() <= 51 + 10 * usize::try_from(seconds).unwrap());
            prop_assert!(writes.len() <= notes);
        }
    }
}
