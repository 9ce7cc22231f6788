//! The control side of TLS passthrough: where TLS of which host goes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use propylon_model::{Delta, EndpointsName, GroupName, Passthrough, Pool, Resources};

use super::l4::{follow_pool, pool_of, retire};
use crate::{
    l4::{Forward, Hosts, Labels, LiveL4, Series, forward_of},
    pool::PoolHandle,
};

/// The control side's part of passthrough.
pub(super) struct PassthroughTables {
    live: Arc<LiveL4>,
    workers: usize,
    forwards: BTreeMap<GroupName, Arc<Forward>>,
    series: HashMap<Labels, Arc<Series>>,
}

impl PassthroughTables {
    pub(super) fn new(live: Arc<LiveL4>, workers: usize) -> Self {
        Self {
            live,
            workers,
            forwards: BTreeMap::new(),
            series: HashMap::new(),
        }
    }

    /// Whether a list of endpoints is in use.
    pub(super) fn uses(&self, name: &EndpointsName) -> bool {
        self.forwards
            .values()
            .any(|forward| forward.pool.spec.endpoints == *name)
    }

    /// The counts.
    pub(super) fn series(&self) -> impl Iterator<Item = &Arc<Series>> {
        self.series.values()
    }

    /// Takes over changed hosts. `new_pool` makes the handle of a pool.
    pub(super) fn apply(
        &mut self,
        delta: &Delta,
        resources: &Resources,
        mut new_pool: impl FnMut(&Arc<Pool>) -> Arc<PoolHandle>,
    ) {
        if delta.passthrough.is_empty() {
            return;
        }
        for (name, entry) in &delta.passthrough {
            let before = self.forwards.remove(name);
            let before = before.as_ref().map(|forward| &forward.pool);
            let Some(entry) = entry else {
                if let Some(before) = before {
                    retire(before);
                }
                continue;
            };
            let spec = pool_of(&entry.service, HTTPS, &entry.endpoints, &entry.policy);
            let pool = follow_pool(before, spec, &mut new_pool);
            let forward = forward_of(entry, pool, self.series_of(entry));
            self.forwards.insert(name.clone(), Arc::new(forward));
        }
        let live = &self.forwards;
        self.series
            .retain(|labels, _| live.values().any(|forward| forward.series.labels == *labels));
        // Of two of one host the older wins: it is put in last.
        let mut entries: Vec<(&GroupName, &Arc<Passthrough>)> = resources.passthrough.iter().collect();
        entries.sort_by_key(|(name, entry)| std::cmp::Reverse((entry.created_unix_s.unwrap_or(i64::MAX), *name)));
        let entries = entries
            .into_iter()
            .filter_map(|(name, entry)| Some((&**entry, Arc::clone(self.forwards.get(name)?))));
        self.live.publish_hosts(Hosts::new(entries));
    }

    fn series_of(&mut self, entry: &Passthrough) -> Arc<Series> {
        let labels = Labels {
            namespace: Arc::clone(&entry.service.namespace),
            service: Arc::clone(&entry.service.name),
            listener: "passthrough".into(),
        };
        let workers = self.workers;
        let series = self
            .series
            .entry(labels.clone())
            .or_insert_with(|| Arc::new(Series::new(labels, workers)));
        Arc::clone(series)
    }
}

/// The port in views; what is connected to is in the endpoints.
const HTTPS: u16 = 443;
