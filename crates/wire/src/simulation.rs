//! The protocol under faults: two controllers, one proxy, and a network that cuts. Seeded; a failing seed is printed, and
//! `PROPYLON_SIM_SEED=N cargo test -p propylon-wire simulation` runs it alone.

mod controller;
mod proxy;
mod world;

use std::collections::VecDeque;

use prost::Message;

use self::{controller::Controller, proxy::Proxy, world::World};
use crate::message::{Request, Response};

/// Seeds of a run.
const SEEDS: u64 = 256;

/// Steps of a seed before it gets quiet.
const STEPS: usize = 400;

/// Most steps until it must be quiet.
const QUIET: usize = 20_000;

#[test]
fn a_proxy_ends_with_the_controllers_state_whatever_happened() {
    if let Some(seed) = option_env!("PROPYLON_SIM_SEED") {
        let happened = run(seed.parse().expect("PROPYLON_SIM_SEED is a number"));
        return println!("{happened:?}");
    }
    let mut all = Happened::default();
    (0..SEEDS).for_each(|seed| all.add(&run(seed)));
    println!("{all:?}");
    assert!(all.is_everything(), "the faults do not reach everything: {all:?}");
}

/// How often the parts of the protocol were used that matter, so that the simulation cannot miss them.
#[derive(Debug, Default)]
struct Happened {
    asked: usize,
    overtook: usize,
    in_parts: usize,
    rejected: usize,
    withheld: usize,
}

impl Happened {
    fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.overtook += other.overtook;
        self.in_parts += other.in_parts;
        self.rejected += other.rejected;
        self.withheld += other.withheld;
    }

    fn is_everything(&self) -> bool {
        let counts = [self.asked, self.overtook, self.in_parts, self.rejected, self.withheld];
        counts.iter().all(|count| *count > 10)
    }
}

fn run(seed: u64) -> Happened {
    let printed = Printed(seed);
    let mut simulation = Simulation::new(seed);
    for _ in 0..STEPS {
        simulation.step();
    }
    simulation.quiet();
    simulation.check();
    simulation.restart_sends_nothing();
    std::mem::forget(printed);
    simulation.happened
}

/// Prints the seed when it is dropped, which is when the run panicked.
struct Printed(u64);

impl Drop for Printed {
    fn drop(&mut self) {
        println!("failing seed: {}", self.0);
    }
}

struct Simulation {
    rng: fastrand::Rng,
    world: World,
    controllers: [Controller; 2],
    proxy: Proxy,
    link: Option<Link>,
    happened: Happened,
}

/// A connection: the bytes on their way, and how many messages fit.
struct Link {
    controller: usize,
    to_proxy: VecDeque<Vec<u8>>,
    to_controller: VecDeque<Vec<u8>>,
    capacity: usize,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let world = World::new(&mut rng);
        Self {
            controllers: [Controller::new(&world, &mut rng), Controller::new(&world, &mut rng)],
            proxy: Proxy::default(),
            link: None,
            happened: Happened::default(),
            world,
            rng,
        }
    }

    fn step(&mut self) {
        match self.rng.u32(0..100) {
            0..20 => self.change(),
            20..25 => {
                // One of them learns of what happened, the other not yet.
                let which = self.rng.usize(0..2);
                self.controllers[which].learn();
            }
            25..50 => {
                self.controller_sends();
            }
            50..70 => {
                self.proxy_reads();
            }
            70..90 => {
                self.controller_reads();
            }
            90..94 => self.link = None,
            94..98 => self.connect(),
            98 => {
                let which = self.rng.usize(0..2);
                self.link.take_if(|link| link.controller == which);
                self.controllers[which].restart(&self.world);
            }
            _ => {
                self.link = None;
                self.proxy.restart();
            }
        }
    }

    /// Something happens in the cluster; each controller sees it now or later.
    fn change(&mut self) {
        let delta = self.world.change(&mut self.rng);
        for controller in &mut self.controllers {
            controller.behind.push_back((delta.clone(), self.world.garbled.clone()));
            if self.rng.u32(0..3) > 0 {
                controller.learn();
            }
        }
    }

    fn connect(&mut self) {
        let controller = self.rng.usize(0..2);
        self.controllers[controller].accept();
        let greeting = self.proxy.mirror.greet("simulated").encode_to_vec();
        self.link = Some(Link {
            controller,
            to_proxy: VecDeque::new(),
            to_controller: [greeting].into(),
            capacity: self.rng.usize(1..4),
        });
    }

    fn controller_sends(&mut self) -> bool {
        let Some(link) = self.link.as_mut().filter(|link| link.to_proxy.len() < link.capacity) else {
            return false;
        };
        let response = self.controllers[link.controller].poll();
        link.to_proxy.extend(response.as_ref().map(Response::encode_to_vec));
        if let Some(response) = &response {
            self.happened.asked += usize::from(response.ask_versions);
            self.happened.in_parts += usize::from(response.commit.is_none() && !response.ask_versions);
            let is_unchecked = response.commit.as_ref().is_some_and(|commit| commit.state.is_empty());
            self.happened.overtook += usize::from(is_unchecked && !response.resources.is_empty());
        }
        response.is_some()
    }

    fn proxy_reads(&mut self) -> bool {
        let Some(link) = &mut self.link else { return false };
        let Some(bytes) = link.to_proxy.pop_front() else {
            return false;
        };
        let response = Response::decode(&bytes[..]).expect("what was encoded is decoded");
        let requests = self.proxy.receive(response);
        link.to_controller.extend(requests.iter().map(Request::encode_to_vec));
        self.happened.rejected += usize::from(self.proxy.mirror.rejected().next().is_some());
        self.happened.withheld += usize::from(!self.proxy.mirror.withheld().is_empty());
        true
    }

    fn controller_reads(&mut self) -> bool {
        let Some(link) = &mut self.link else { return false };
        let Some(bytes) = link.to_controller.pop_front() else {
            return false;
        };
        let request = Request::decode(&bytes[..]).expect("what was encoded is decoded");
        self.controllers[link.controller].receive(request);
        true
    }

    /// Nothing more happens, and everything arrives.
    fn quiet(&mut self) {
        for controller in &mut self.controllers {
            while !controller.behind.is_empty() {
                controller.learn();
            }
        }
        if self.link.is_none() {
            self.connect();
        }
        for _ in 0..QUIET {
            // None of the three is left out.
            let moved = [self.controller_sends(), self.proxy_reads(), self.controller_reads()];
            if moved == [false; 3] {
                return;
            }
        }
        panic!("it never gets quiet: something is sent again and again");
    }

    fn check(&self) {
        let link = self.link.as_ref().expect("connected");
        let controller = &self.controllers[link.controller];
        assert_eq!(self.controllers[0].store.state(), self.controllers[1].store.state());
        assert_eq!(controller.acknowledged, Some(controller.store.generation()));
        assert_eq!(self.proxy.mirror.state(), controller.store.state());
        self.proxy.check(&self.world);
    }

    /// A controller that starts again has nothing to say to a proxy that is up to date.
    fn restart_sends_nothing(&mut self) {
        for controller in &mut self.controllers {
            controller.restart(&self.world);
        }
        self.connect();
        let before = self.proxy.received;
        self.quiet();
        assert_eq!(self.proxy.received, before, "a restarted controller sent resources");
        self.check();
    }
}
