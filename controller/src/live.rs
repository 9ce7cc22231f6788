//! Which generation is live everywhere: what this replica's proxies acknowledged, and what the other replicas say of theirs.

use std::collections::BTreeMap;

use propylon_wire::{Generation, ProxyState};

/// How far the proxies are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// The generation that every proxy has; 0 where one has none, or where there is no proxy.
    pub everywhere: Generation,
    /// The newest generation that some proxy has.
    pub somewhere: Generation,
    /// Number of proxies, of all replicas.
    pub proxies: usize,
}

/// What another replica says of one of its proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// The generation of ours whose state the proxy has; none where it has one that we never had.
    pub generation: Option<Generation>,
}

/// Takes both together. A proxy that is connected here and told of elsewhere has moved: what it says here counts.
pub fn of(here: &[ProxyState], elsewhere: &BTreeMap<String, Elsewhere>) -> Live {
    let mut all: BTreeMap<String, Generation> = elsewhere
        .iter()
        .map(|(name, proxy)| (name.clone(), proxy.generation.unwrap_or_default()))
        .collect();
    for proxy in here {
        all.insert(proxy.identity.to_string(), proxy.acknowledged);
    }
    Live {
        everywhere: all.values().min().copied().unwrap_or_default(),
        somewhere: all.values().max().copied().unwrap_or_default(),
        proxies: all.len(),
    }
}

#[cfg(test)]
mod tests {
    use propylon_wire::{ProxyIdentity, StateVersion};

    use super::*;

    fn here(pod: &str, acknowledged: u64) -> ProxyState {
        ProxyState {
            identity: ProxyIdentity {
                namespace: "p".into(),
                pod: pod.into(),
                node: "n".into(),
                uid: "u".into(),
            },
            acknowledged: Generation(acknowledged),
            version: StateVersion::EMPTY,
            rejected: Vec::new(),
            connected_unix_s: 0,
        }
    }

    #[test]
    fn the_slowest_proxy_decides_what_is_live_everywhere() {
        assert_eq!(of(&[], &BTreeMap::new()), Live::default());
        let elsewhere = [
            (
                "p/b".to_owned(),
                Elsewhere {
                    generation: Some(Generation(5)),
                },
            ),
            // Moved here since.
            (
                "p/a".to_owned(),
                Elsewhere {
                    generation: Some(Generation(1)),
                },
            ),
        ];
        let live = of(&[here("a", 7)], &elsewhere.into());
        assert_eq!(
            (live.everywhere, live.somewhere, live.proxies),
            (Generation(5), Generation(7), 2)
        );
        let unknown = [("p/b".to_owned(), Elsewhere { generation: None })];
        assert_eq!(of(&[here("a", 7)], &unknown.into()).everywhere, Generation(0));
    }
}
