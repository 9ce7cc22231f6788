//! The plan on a virtual clock: a leader that comes and goes, a kubelet that lags, proxies that renew.

use proptest::prelude::*;

use super::*;

const TIMES: Times = Times {
    authority: Duration::from_hours(30 * 24),
    overlap: Duration::from_hours(1),
    leaf: Duration::from_hours(24),
};

/// What a kubelet and the watch of a replica may lag behind, less than the overlap.
const LAG_S: i64 = 600;

/// The world that the leader acts upon; authorities are numbers.
struct World {
    now: i64,
    state: Option<State>,
    published: Option<BTreeSet<Fingerprint>>,
    /// Since when what is published is published, latest last.
    publications: Vec<(i64, BTreeSet<Fingerprint>)>,
    /// Who signed since when, latest last.
    signers: Vec<(i64, Root)>,
    made: u8,
    /// Certificates in use: the signer, and the end.
    leaves: Vec<(Fingerprint, i64)>,
}

impl World {
    fn new() -> Self {
        Self {
            now: 1_000_000,
            state: None,
            published: None,
            publications: Vec::new(),
            signers: Vec::new(),
            made: 0,
            leaves: Vec::new(),
        }
    }

    fn root(&mut self) -> Root {
        self.made += 1;
        Root {
            fingerprint: [self.made; 32],
            not_after_unix_s: self.now + seconds(TIMES.authority),
        }
    }

    /// One step of the leader; whether it did something.
    fn step(&mut self) -> bool {
        let now = self.now;
        let step = decide(self.state.as_ref(), self.published.as_ref(), now, &TIMES);
        match step {
            Step::Create | Step::Replace => {
                let signing = self.root();
                self.signers.push((now, signing));
                self.state = Some(State {
                    signing,
                    next: None,
                    retired: Vec::new(),
                    is_rotation_requested: false,
                });
            }
            Step::PublishTrust => {
                let trusted = self.state.as_ref().unwrap().trusted();
                self.publications.push((now, trusted.clone()));
                self.published = Some(trusted);
            }
            Step::BeginNext => {
                let root = self.root();
                let state = self.state.as_mut().unwrap();
                state.is_rotation_requested = false;
                state.next = Some(Next {
                    root,
                    published_unix_s: None,
                });
            }
            Step::MarkPublished => {
                let next = self.state.as_mut().unwrap().next.as_mut().unwrap();
                assert!(self.published.as_ref().unwrap().contains(&next.root.fingerprint));
                next.published_unix_s = Some(now);
            }
            Step::Promote => {
                let state = self.state.as_mut().unwrap();
                let next = state.next.take().unwrap();
                let retired = std::mem::replace(&mut state.signing, next.root);
                state.retired.push(Retired {
                    root: retired,
                    until_unix_s: retired_until(now, &TIMES),
                });
                self.signers.push((now, next.root));
            }
            Step::Forget => self
                .state
                .as_mut()
                .unwrap()
                .retired
                .retain(|retired| retired.until_unix_s > now),
            Step::Wait(until) => {
                assert!(until > now, "a wait for the past would spin");
                return false;
            }
        }
        true
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            if !self.step() {
                return;
            }
        }
        panic!("the plan does not come to rest: {:?}", self.state);
    }

    /// What a reader that lags by `lag` sees.
    fn seen(&self, lag: i64) -> Option<&BTreeSet<Fingerprint>> {
        let seen = self.publications.iter().rev().find(|(at, _)| at + lag <= self.now);
        seen.map(|(_, trusted)| trusted)
    }

    /// A replica that lags signs for a proxy.
    fn sign(&mut self, lag: i64) {
        let signer = self.signers.iter().rev().find(|(at, _)| at + lag <= self.now);
        if let Some((_, root)) = signer {
            let end = (self.now + seconds(TIMES.leaf)).min(root.not_after_unix_s);
            self.leaves.push((root.fingerprint, end));
        }
    }

    /// Nobody that lags at most so much meets a certificate that it does not believe.
    fn check(&mut self, lag: i64) -> Result<(), TestCaseError> {
        let now = self.now;
        self.leaves.retain(|(_, end)| *end > now);
        let Some(seen) = self.seen(lag) else { return Ok(()) };
        for (signer, _) in &self.leaves {
            prop_assert!(seen.contains(signer), "at {now}: {signer:?} is not trusted");
        }
        Ok(())
    }
}

proptest! {
    /// However often the leader looks (at least every 12 h), and however much others lag within the overlap.
    #[test]
    fn what_is_in_use_is_always_trusted(pauses in prop::collection::vec(1_i64..43_200, 1..200), lag in 0..LAG_S) {
        let mut world = World::new();
        world.settle();
        world.now += LAG_S;
        for pause in pauses {
            // Time goes by in pieces, so that proxies come in between the leader's looks.
            for _ in 0..4 {
                world.now += pause / 4 + 1;
                world.sign(lag);
                world.check(lag)?;
            }
            world.settle();
            world.sign(0);
            world.check(LAG_S.max(lag))?;
            prop_assert!(world.published.as_ref().unwrap().len() <= 3);
        }
    }

    /// A cluster that was off for any time comes back with an authority that is valid and published.
    #[test]
    fn it_recovers_from_any_absence(absences in prop::collection::vec(1_i64..100 * 86_400, 1..20)) {
        let mut world = World::new();
        for absence in absences {
            world.settle();
            let state = world.state.clone().unwrap();
            prop_assert!(state.signing.not_after_unix_s > world.now);
            prop_assert_eq!(world.published.clone(), Some(state.trusted()));
            world.now += absence;
        }
    }

    /// Whatever a hand has written, one step is chosen, and no wait is longer than the authority lives.
    #[test]
    fn no_state_is_without_an_answer(
        end in -1_000_i64..1_000,
        next in prop::option::of((-1_000_i64..1_000, prop::option::of(-1_000_i64..1_000))),
        retired in prop::collection::vec(-1_000_i64..1_000, 0..3),
        is_rotation_requested: bool,
    ) {
        let root = |number, not_after_unix_s| Root { fingerprint: [number; 32], not_after_unix_s };
        let state = State {
            signing: root(1, end),
            next: next.map(|(end, published_unix_s)| Next { root: root(2, end), published_unix_s }),
            retired: retired.iter().map(|until| Retired { root: root(3, 5_000), until_unix_s: *until }).collect(),
            is_rotation_requested,
        };
        let step = decide(Some(&state), Some(&state.trusted()), 0, &TIMES);
        if let Step::Wait(until) = step {
            prop_assert!(until > 0 && until <= end);
        }
    }
}

#[test]
fn a_rotation_takes_the_overlap_and_then_the_life_of_a_leaf() {
    let mut world = World::new();
    world.settle();
    let first = world.state.as_ref().unwrap().signing;
    world.state.as_mut().unwrap().is_rotation_requested = true;
    world.settle();
    assert_eq!(
        world.state.as_ref().unwrap().signing,
        first,
        "it does not sign before the overlap"
    );
    assert_eq!(world.published.as_ref().unwrap().len(), 2);
    world.now += seconds(TIMES.overlap);
    world.settle();
    let second = world.state.as_ref().unwrap().signing;
    assert_ne!(second, first);
    assert_eq!(
        world.published.as_ref().unwrap().len(),
        2,
        "what the first signed is in use"
    );
    world.now += seconds(TIMES.leaf) + seconds(TIMES.overlap);
    world.settle();
    assert_eq!(world.published.as_ref().unwrap(), &BTreeSet::from([second.fingerprint]));
}

#[test]
fn the_next_one_is_due_with_a_third_left() {
    let mut world = World::new();
    world.settle();
    let end = world.state.as_ref().unwrap().signing.not_after_unix_s;
    let due = end - seconds(TIMES.lead());
    assert_eq!(
        decide(world.state.as_ref(), world.published.as_ref(), world.now, &TIMES),
        Step::Wait(due)
    );
    world.now = due;
    assert_eq!(
        decide(world.state.as_ref(), world.published.as_ref(), world.now, &TIMES),
        Step::BeginNext
    );
}

#[test]
fn certificates_are_renewed_after_two_thirds_of_their_life() {
    assert_eq!(renewal(0, 86_400), 57_600);
}
