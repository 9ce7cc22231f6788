//! Node and zone preference: hints of `EndpointSlices` as kube-proxy reads them, `trafficDistribution` where there are none.

use std::sync::Arc;

use propylon_model::{Endpoint, TrafficDistribution};

/// Where this proxy runs, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Here {
    /// Name of the node.
    pub node: Option<Arc<str>>,
    /// The node's zone (`topology.kubernetes.io/zone`).
    pub zone: Option<Arc<str>>,
}

/// The endpoints to prefer, by place in the list; none where all are alike.
///
/// Hints count only where every endpoint has them and one names this place: hints that are half written must not send all
/// traffic to a few (KEP-2433, kube-proxy `topology.go`). Without any hint, `distribution` is taken by where the endpoints
/// are. The caller falls back to all where the preferred ones cannot be used.
///
/// # Cost
/// Linear.
pub fn preferred<'a>(
    endpoints: impl Iterator<Item = &'a Endpoint> + Clone,
    distribution: TrafficDistribution,
    here: &Here,
) -> Option<Vec<usize>> {
    let is_hinted = endpoints
        .clone()
        .any(|endpoint| !endpoint.for_nodes.is_empty() || !endpoint.for_zones.is_empty());
    if is_hinted {
        return hinted(endpoints.clone(), here.node.as_ref(), |endpoint| &endpoint.for_nodes)
            .or_else(|| hinted(endpoints, here.zone.as_ref(), |endpoint| &endpoint.for_zones));
    }
    let same_zone = || located(endpoints.clone(), here.zone.as_ref(), |endpoint| endpoint.zone.as_ref());
    match distribution {
        TrafficDistribution::Any => None,
        TrafficDistribution::PreferSameNode => {
            located(endpoints.clone(), here.node.as_ref(), |endpoint| endpoint.node.as_ref()).or_else(same_zone)
        }
        TrafficDistribution::PreferSameZone => same_zone(),
    }
}

fn hinted<'a>(
    mut endpoints: impl Iterator<Item = &'a Endpoint> + Clone,
    here: Option<&Arc<str>>,
    hints: impl Fn(&'a Endpoint) -> &'a [Arc<str>],
) -> Option<Vec<usize>> {
    let here = here?;
    if endpoints.clone().any(|endpoint| hints(endpoint).is_empty()) {
        return None;
    }
    select(&mut endpoints, |endpoint| hints(endpoint).contains(here))
}

fn located<'a>(
    mut endpoints: impl Iterator<Item = &'a Endpoint>,
    here: Option<&Arc<str>>,
    place: impl Fn(&'a Endpoint) -> Option<&'a Arc<str>>,
) -> Option<Vec<usize>> {
    let here = here?;
    select(&mut endpoints, |endpoint| place(endpoint) == Some(here))
}

fn select<'a>(
    endpoints: &mut impl Iterator<Item = &'a Endpoint>,
    is_near: impl Fn(&'a Endpoint) -> bool,
) -> Option<Vec<usize>> {
    let near: Vec<usize> = endpoints
        .enumerate()
        .filter(|(_, endpoint)| is_near(endpoint))
        .map(|(index, _)| index)
        .collect();
    (!near.is_empty()).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(Option<&'static str>, Option<&'static str>);

    fn list(places: &[(Place, Place)]) -> Vec<Endpoint> {
        let names = |name: Option<&'static str>| name.map(Arc::from).into_iter().collect::<Vec<Arc<str>>>();
        places
            .iter()
            .zip(1..)
            .map(|((at, hint), last)| {
                let mut endpoint = Endpoint::new(([10, 0, 0, last], 80).into());
                endpoint.node = at.0.map(Arc::from);
                endpoint.zone = at.1.map(Arc::from);
                endpoint.for_nodes = names(hint.0);
                endpoint.for_zones = names(hint.1);
                endpoint
            })
            .collect()
    }

    fn here(node: &str, zone: &str) -> Here {
        Here {
            node: Some(node.into()),
            zone: Some(zone.into()),
        }
    }

    const NONE: Place = Place(None, None);

    #[test]
    fn hints_of_the_node_come_before_those_of_the_zone() {
        let endpoints = list(&[
            (NONE, Place(Some("n1"), Some("a"))),
            (NONE, Place(Some("n2"), Some("a"))),
            (NONE, Place(Some("n3"), Some("b"))),
        ]);
        let near = |here: &Here| preferred(endpoints.iter(), TrafficDistribution::Any, here);
        assert_eq!(near(&here("n2", "a")), Some(vec![1]));
        assert_eq!(near(&here("n9", "a")), Some(vec![0, 1]));
        assert_eq!(near(&here("n9", "z")), None);
        assert_eq!(near(&Here::default()), None);
    }

    #[test]
    fn hints_that_are_incomplete_do_not_count() {
        let endpoints = list(&[(NONE, Place(None, Some("a"))), (NONE, NONE)]);
        let near = preferred(endpoints.iter(), TrafficDistribution::PreferSameZone, &here("n1", "a"));
        assert_eq!(near, None);
    }

    #[test]
    fn without_hints_the_distribution_goes_by_place() {
        let endpoints = list(&[
            (Place(Some("n1"), Some("a")), NONE),
            (Place(Some("n2"), Some("a")), NONE),
            (Place(Some("n3"), Some("b")), NONE),
        ]);
        let near = |distribution, here: &Here| preferred(endpoints.iter(), distribution, here);
        let (node, zone) = (TrafficDistribution::PreferSameNode, TrafficDistribution::PreferSameZone);
        assert_eq!(near(TrafficDistribution::Any, &here("n1", "a")), None);
        assert_eq!(near(node, &here("n2", "a")), Some(vec![1]));
        assert_eq!(near(node, &here("n9", "b")), Some(vec![2]));
        assert_eq!(near(zone, &here("n1", "a")), Some(vec![0, 1]));
        assert_eq!(near(zone, &here("n1", "c")), None);
    }
}
