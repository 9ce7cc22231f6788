//! The metrics of a process: interns route labels, collects the threads' cells, renders.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    control::Control,
    exposition::Exposition,
    labels::{ListenerId, RouteId, RouteLabels},
    series::SeriesCells,
    table::Metric,
    worker::{MAX_LISTENERS, WorkerCells, WorkerMetrics},
};

mod totals;

type Source = Box<dyn Fn(&mut Exposition) + Send + Sync>;

/// What a registry is made with.
#[derive(Clone, Copy, Debug)]
pub struct RegistryConfig {
    /// The reason codes of the proxy's own responses, by index.
    pub reasons: &'static [&'static str],
    /// The reasons of retries, by index.
    pub retry_reasons: &'static [&'static str],
    /// How many routes get series of their own; further ones share `ingress="__other__"`. Default 10,000.
    pub max_routes: usize,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            reasons: &[],
            retry_reasons: &[],
            max_routes: 10_000,
        }
    }
}

/// All metrics of a process; shared by `Arc`.
pub struct Registry {
    config: RegistryConfig,
    control: Control,
    state: Mutex<State>,
    sources: Mutex<Vec<Source>>,
}

impl Registry {
    /// Makes an empty registry.
    pub fn new(config: RegistryConfig) -> Self {
        let state = State {
            slots: reserved_slots(),
            ..State::default()
        };
        Self {
            config,
            control: Control::default(),
            state: Mutex::new(state),
            sources: Mutex::default(),
        }
    }

    /// The metrics of the control side.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Makes the metrics of the calling thread. What it counts stays in the sums after it is dropped.
    pub fn worker(&self) -> WorkerMetrics {
        let cells = Arc::new(WorkerCells::new(
            self.config.reasons.len(),
            self.config.retry_reasons.len(),
        ));
        let mut state = self.lock();
        state.workers.push(Arc::clone(&cells));
        WorkerMetrics::new(state.workers.len() - 1, cells)
    }

    /// Names a listener; the same name gives the same id. Beyond 16 names the last one takes the rest.
    pub fn listener(&self, name: &str) -> ListenerId {
        let mut state = self.lock();
        let index = state
            .listeners
            .iter()
            .position(|present| present == name)
            .unwrap_or_else(|| {
                if state.listeners.len() < MAX_LISTENERS {
                    state.listeners.push(name.to_owned());
                }
                state.listeners.len() - 1
            });
        ListenerId(u8::try_from(index).unwrap_or_default())
    }

    /// Interns the labels of a route: the same labels give the same id until they are retired. Beyond
    /// [`RegistryConfig::max_routes`] it is [`RouteId::OTHER`].
    ///
    /// For the thread that compiles tables.
    pub fn route(&self, labels: &RouteLabels) -> RouteId {
        let mut state = self.lock();
        if let Some(id) = state.ids.get(labels) {
            return *id;
        }
        if state.ids.len() >= self.config.max_routes {
            return RouteId::OTHER;
        }
        let id = state.take_slot(labels);
        state.ids.insert(labels.clone(), id);
        id
    }

    /// Removes the series of a route whose object is gone. The id counts nothing any more; the same labels get a new one.
    pub fn retire(&self, id: RouteId) {
        self.lock().retire(id);
    }

    /// Retires every route that is not in `live`. For the thread that compiles tables, after the swap: ids interned
    /// for a table that is not yet in force belong in `live` too.
    pub fn set_live(&self, live: &HashSet<RouteId>) {
        let mut state = self.lock();
        let gone: Vec<RouteId> = state.ids.values().filter(|id| !live.contains(id)).copied().collect();
        for id in gone {
            state.retire(id);
        }
    }

    /// Adds a function that writes samples at every scrape, for what is counted elsewhere (endpoints, objects,
    /// certificates). It must not block.
    pub fn add_source(&self, source: impl Fn(&mut Exposition) + Send + Sync + 'static) {
        self.sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(source));
    }

    /// The exposition in Prometheus' text format 0.0.4.
    ///
    /// # Cost
    ///
    /// About 15 us per route that served a request; not for a data-plane thread. Other calls wait only while the list
    /// of cells is copied.
    pub fn render(&self) -> String {
        let mut exposition = Exposition::new();
        let snapshot = self.lock().snapshot();
        for (labels, cells) in &snapshot.routes {
            totals::render_route(&mut exposition, labels, cells);
        }
        totals::render_workers(&mut exposition, &snapshot, &self.config);
        exposition.counter(Metric::Panics, &[], totals::panics(&snapshot) + self.control.panics());
        self.control.render(&mut exposition);
        for source in self.sources.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            source(&mut exposition);
        }
        let build = [
            env!("CARGO_PKG_VERSION"),
            env!("PROPYLON_REVISION"),
            env!("PROPYLON_RUSTC"),
        ];
        exposition.gauge_count(Metric::BuildInfo, &build, 1);
        exposition.finish()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Registry")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    ids: HashMap<RouteLabels, RouteId>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    workers: Vec<Arc<WorkerCells>>,
    listeners: Vec<String>,
}

/// What is copied out under the lock for one scrape.
struct Snapshot {
    routes: Vec<(RouteLabels, Vec<Arc<SeriesCells>>)>,
    workers: Vec<Arc<WorkerCells>>,
    listeners: Vec<String>,
}

/// A place for a route's series; it has one owner at a time, told apart by the generation.
#[derive(Default)]
struct Slot {
    generation: u32,
    /// None while the slot is free.
    labels: Option<RouteLabels>,
    /// One per thread that served the route.
    cells: Vec<Arc<SeriesCells>>,
}

impl State {
    fn take_slot(&mut self, labels: &RouteLabels) -> RouteId {
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index as usize)
        {
            slot.labels = Some(labels.clone());
            return RouteId {
                slot: index,
                generation: slot.generation,
            };
        }
        let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Slot {
            labels: Some(labels.clone()),
            ..Slot::default()
        });
        RouteId {
            slot: index,
            generation: 0,
        }
    }

    fn retire(&mut self, id: RouteId) {
        let Some(slot) = self.slots.get_mut(id.slot as usize) else {
            return;
        };
        if id == RouteId::UNMATCHED || id == RouteId::OTHER || slot.generation != id.generation {
            return;
        }
        if let Some(labels) = slot.labels.take() {
            slot.generation = slot.generation.wrapping_add(1);
            slot.cells.clear();
            self.ids.remove(&labels);
            self.free.push(id.slot);
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        for worker in &self.workers {
            let added = std::mem::take(&mut *worker.added.lock().unwrap_or_else(PoisonError::into_inner));
            for cells in added {
                // Cells of a retired id have no reader.
                if let Some(slot) = self.slots.get_mut(cells.id.slot as usize)
                    && slot.generation == cells.id.generation
                {
                    slot.cells.push(cells);
                }
            }
        }
        let used = self.slots.iter().filter(|slot| !slot.cells.is_empty());
        let routes = used
            .filter_map(|slot| Some((slot.labels.clone()?, slot.cells.clone())))
            .collect();
        Snapshot {
            routes,
            workers: self.workers.clone(),
            listeners: self.listeners.clone(),
        }
    }
}

/// The slots of [`RouteId::UNMATCHED`] and [`RouteId::OTHER`].
fn reserved_slots() -> Vec<Slot> {
    ["__unmatched__", "__other__"]
        .map(|ingress| Slot {
            labels: Some(RouteLabels::new("", ingress, "")),
            ..Slot::default()
        })
        .into()
}
