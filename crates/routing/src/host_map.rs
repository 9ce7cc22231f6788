//! A map from host names to host tables that shares what a change does not touch.

use std::{array, sync::Arc};

use crate::host_table::HostTable;

/// Two levels of shared arrays over small sorted shards: changing one of 25,000 hosts copies some 150 pointers.
pub(crate) struct HostMap<T> {
    rows: [Arc<Row<T>>; FANOUT],
}

impl<T> HostMap<T> {
    /// The table of a host.
    pub(crate) fn get(&self, hash: u64, host: &str) -> Option<&Arc<HostTable<T>>> {
        let (row, column) = position(hash);
        let shard = self.rows.get(row)?.get(column)?;
        let first = shard.partition_point(|entry| entry.hash < hash);
        let mut same_hash = shard.iter().skip(first).take_while(|entry| entry.hash == hash);
        same_hash
            .find(|entry| entry.table.host() == host.as_bytes())
            .map(|entry| &entry.table)
    }

    /// Puts the table of a host in, or removes it.
    pub(crate) fn set(&mut self, hash: u64, host: &str, table: Option<Arc<HostTable<T>>>) {
        let (row, column) = position(hash);
        let Some(shard) = self
            .rows
            .get_mut(row)
            .and_then(|row| Arc::make_mut(row).get_mut(column))
        else {
            return;
        };
        let shard = Arc::make_mut(shard);
        shard.retain(|entry| entry.hash != hash || entry.table.host() != host.as_bytes());
        if let Some(table) = table {
            let at = shard.partition_point(|entry| entry.hash < hash);
            shard.insert(at, Entry { hash, table });
        }
    }

    /// The tables in the order of their hosts.
    ///
    /// # Cost
    /// n log n in the hosts.
    pub(crate) fn sorted(&self) -> Vec<&Arc<HostTable<T>>> {
        let entries = self
            .rows
            .iter()
            .flat_map(|row| row.iter())
            .flat_map(|shard| shard.iter());
        let mut tables: Vec<&Arc<HostTable<T>>> = entries.map(|entry| &entry.table).collect();
        tables.sort_unstable_by_key(|table| table.host());
        tables
    }
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        let shard = Arc::new(Vec::new());
        let row: Arc<Row<T>> = Arc::new(array::from_fn(|_| Arc::clone(&shard)));
        Self {
            rows: array::from_fn(|_| Arc::clone(&row)),
        }
    }
}

impl<T> Clone for HostMap<T> {
    fn clone(&self) -> Self {
        Self {
            rows: self.rows.clone(),
        }
    }
}

/// In the order of hash.
type Shard<T> = Vec<Entry<T>>;

type Row<T> = [Arc<Shard<T>>; FANOUT];

struct Entry<T> {
    hash: u64,
    table: Arc<HostTable<T>>,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self {
            hash: self.hash,
            table: Arc::clone(&self.table),
        }
    }
}

fn position(hash: u64) -> (usize, usize) {
    let digit = |shift: u32| usize::try_from((hash >> shift) % FANOUT as u64).unwrap_or(0);
    (digit(59), digit(54))
}

const FANOUT: usize = 32;
