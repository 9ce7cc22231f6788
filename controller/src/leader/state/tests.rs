use std::collections::BTreeSet;

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// One Lease, as the API server keeps it.
#[derive(Default)]
struct Server {
    lease: Option<(Record, u64)>,
    is_away: bool,
    writes: u64,
}

impl Server {
    fn read(&self) -> Answer {
        if self.is_away {
            return Answer::Failed;
        }
        Answer::Read(
            self.lease
                .clone()
                .map(|(record, version)| (record, version.to_string())),
        )
    }

    fn write(&mut self, claim: Claim, holder: &str, version: Option<&str>, stamp: String) -> Answer {
        if self.is_away {
            return Answer::Failed;
        }
        let current = self.lease.as_ref().map(|(_, version)| version.to_string());
        if current.as_deref() != version {
            return Answer::Conflict;
        }
        self.writes += 1;
        let record = Record {
            holder: holder.to_owned(),
            transitions: claim.transitions,
            lease: Timing::default().lease,
            renewed: stamp.clone(),
            acquired: stamp,
        };
        self.lease = Some((record.clone(), self.writes));
        Answer::Written(record, self.writes.to_string())
    }
}

/// A process: its clock began at another time and runs at another speed.
struct Process {
    name: String,
    candidate: Candidate,
    offset: Duration,
    /// Its clock's speed, in thousandths.
    speed: u32,
    is_dead: bool,
    is_stopped: bool,
}

impl Process {
    fn new(name: &str, offset: Duration, speed: u32) -> Self {
        Self {
            name: name.to_owned(),
            candidate: Candidate::new(name.to_owned(), Timing::default()),
            offset,
            speed,
            is_dead: false,
            is_stopped: false,
        }
    }

    fn now(&self, world: Duration) -> Now {
        self.offset + world * self.speed / 1000
    }

    fn leads(&self, world: Duration) -> bool {
        !self.is_dead && self.candidate.is_leader(self.now(world))
    }

    /// Does what is due; an answer comes after `latency`.
    fn step(&mut self, server: &mut Server, world: Duration, latency: Duration) {
        if self.is_dead || self.is_stopped {
            return;
        }
        for _ in 0..3 {
            let now = self.now(world);
            let stamp = format!("{}-{world:?}", self.name);
            let answer = match self.candidate.act(now) {
                Act::Wait(_) => return,
                Act::Read => server.read(),
                Act::Create(claim) => server.write(claim, &self.name, None, stamp),
                Act::Update(claim, version) => server.write(claim, &self.name, Some(&version), stamp),
            };
            self.candidate.answer(answer, now, self.now(world + latency));
        }
    }

    fn terminate(&mut self, server: &mut Server, world: Duration) {
        self.is_stopped = true;
        if let Some((claim, version)) = self.candidate.release() {
            server.write(claim, "", Some(&version), format!("{}-{world:?}", self.name));
        }
    }
}

struct World {
    server: Server,
    processes: Vec<Process>,
    now: Duration,
    rng: fastrand::Rng,
}

impl World {
    fn new(processes: Vec<Process>, seed: u64) -> Self {
        Self {
            server: Server::default(),
            processes,
            now: Duration::ZERO,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    fn leaders(&self) -> Vec<String> {
        let leads = self.processes.iter().filter(|process| process.leads(self.now));
        leads.map(|process| process.name.clone()).collect()
    }

    /// Lets time pass; there is never more than one leader.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += self.rng.u32(10..100) * MS;
            let first = self.rng.usize(0..self.processes.len());
            for index in 0..self.processes.len() {
                let latency = self.rng.u32(0..50) * MS;
                let at = (first + index) % self.processes.len();
                self.processes[at].step(&mut self.server, self.now, latency);
            }
            let leaders = self.leaders();
            assert!(leaders.len() <= 1, "{leaders:?} at {:?}", self.now);
        }
    }

    fn find(&mut self, name: &str) -> &mut Process {
        self.processes.iter_mut().find(|process| process.name == name).unwrap()
    }
}

fn three() -> Vec<Process> {
    vec![
        Process::new("a", 5 * SECOND, 1000),
        // Hours apart, and a tenth faster and slower.
        Process::new("b", 7200 * SECOND, 1100),
        Process::new("c", Duration::ZERO, 900),
    ]
}

#[test]
fn one_of_three_leads_and_stays() {
    for seed in 0..20 {
        let mut world = World::new(three(), seed);
        world.pass(5 * SECOND);
        let first = world.leaders();
        assert_eq!(first.len(), 1);
        world.pass(300 * SECOND);
        assert_eq!(world.leaders(), first);
        assert_eq!(world.server.lease.as_ref().unwrap().0.transitions, 0);
    }
}

#[test]
fn after_a_crash_another_one_leads_within_the_lease_and_two_attempts() {
    for seed in 0..20 {
        let mut world = World::new(three(), seed);
        world.pass(5 * SECOND);
        let first = world.leaders().remove(0);
        world.find(&first).is_dead = true;
        world.pass(8 * SECOND);
        assert_eq!(world.leaders(), Vec::<String>::new(), "too early for any clock");
        // The slowest clock sees 15 s of a Lease in 16.7 s.
        world.pass(14 * SECOND);
        let second = world.leaders();
        assert!(second.len() == 1 && second[0] != first, "{second:?}");
        assert_eq!(world.server.lease.as_ref().unwrap().0.transitions, 1);
    }
}

#[test]
fn a_released_lease_is_taken_at_the_next_attempt() {
    for seed in 0..20 {
        let mut world = World::new(three(), seed);
        world.pass(5 * SECOND);
        let first = world.leaders().remove(0);
        let now = world.now;
        let World { server, processes, .. } = &mut world;
        let leader = processes.iter_mut().find(|process| process.name == first).unwrap();
        leader.terminate(server, now);
        assert!(!leader.leads(now));
        world.pass(2500 * MS);
        let second = world.leaders();
        assert!(second.len() == 1 && second[0] != first, "{second:?}");
    }
}

#[test]
fn without_the_api_server_nobody_leads_longer_than_the_renewal_allows() {
    for seed in 0..20 {
        let mut world = World::new(three(), seed);
        world.pass(5 * SECOND);
        assert_eq!(world.leaders().len(), 1);
        world.server.is_away = true;
        world.pass(12 * SECOND);
        assert_eq!(world.leaders(), Vec::<String>::new());
        world.pass(600 * SECOND);
        world.server.is_away = false;
        world.pass(20 * SECOND);
        assert_eq!(world.leaders().len(), 1);
    }
}

#[test]
fn a_leader_that_is_cut_off_has_stopped_before_another_one_begins() {
    for seed in 0..50 {
        let mut world = World::new(three(), seed);
        world.pass(5 * SECOND);
        let first = world.leaders().remove(0);
        // Cut off: it neither reads nor writes, but it lives.
        world.find(&first).is_stopped = true;
        let mut leaders = BTreeSet::new();
        for _ in 0..40 {
            world.pass(SECOND);
            leaders.extend(world.leaders());
        }
        assert!(leaders.iter().any(|leader| *leader != first));
    }
}

#[test]
fn two_candidates_with_flaky_answers_are_never_both_leaders() {
    for seed in 0..50 {
        let processes = vec![Process::new("a", SECOND, 1000), Process::new("b", 10 * SECOND, 1050)];
        let mut world = World::new(processes, seed);
        for _ in 0..60 {
            world.server.is_away = world.rng.bool();
            let time = world.rng.u32(1..8) * SECOND;
            world.pass(time);
        }
    }
}

#[test]
fn a_process_of_the_same_name_takes_its_lease_back_at_once() {
    let mut world = World::new(vec![Process::new("a", SECOND, 1000)], 1);
    world.pass(5 * SECOND);
    world.processes[0] = Process::new("a", SECOND, 1000);
    assert_eq!(world.leaders(), Vec::<String>::new());
    world.pass(SECOND);
    assert_eq!(world.leaders(), ["a"]);
}

#[test]
fn a_lease_that_is_gone_is_made_again() {
    let mut world = World::new(
        vec![Process::new("a", SECOND, 1000), Process::new("b", SECOND, 1000)],
        1,
    );
    world.pass(5 * SECOND);
    world.server.lease = None;
    world.pass(20 * SECOND);
    assert_eq!(world.leaders().len(), 1);
}
