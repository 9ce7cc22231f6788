//! What follows from the answers for one name: which addresses are in use, what is wrong, and when to ask again.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use propylon_kit::{backoff::Backoff, clock::Monotonic};

/// What the DNS said of one kind of address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// These addresses, for so long.
    Found(Vec<IpAddr>, Duration),
    /// That there are none (RFC 2308), for so long if it said.
    Nothing(Option<Duration>, String),
    /// Nothing of use.
    Failed(String),
}

/// What is to be done after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The addresses to use from now on, in order; none: those that are in use.
    pub(super) publish: Option<Vec<IpAddr>>,
    /// What is wrong.
    pub(super) problem: Option<String>,
    /// When to ask again.
    pub(super) wait: Duration,
}

/// The history of one name.
#[derive(Debug)]
pub(super) struct Course {
    v4: BTreeSet<IpAddr>,
    v6: BTreeSet<IpAddr>,
    published: bool,
    /// Since when the DNS says that there is nothing.
    nothing_since: Option<Monotonic>,
    backoff: Backoff,
    random: fastrand::Rng,
}

impl Course {
    pub(super) const fn new(random: fastrand::Rng) -> Self {
        Self {
            v4: BTreeSet::new(),
            v6: BTreeSet::new(),
            published: false,
            nothing_since: None,
            backoff: Backoff::new(RETRY, RETRY_MOST),
            random,
        }
    }

    /// Takes the answers for IPv4 and IPv6.
    ///
    /// What was found is used; a family that failed keeps its last addresses. That there is nothing is believed when the
    /// DNS has said so for [`HOLD`].
    pub(super) fn take(&mut self, v4: Answer, v6: Answer, now: Monotonic) -> Step {
        match (v4, v6) {
            (Answer::Nothing(ttl, why), Answer::Nothing(other, _)) => {
                let ttl = ttl.into_iter().chain(other).min().unwrap_or(NOTHING);
                self.nothing(ttl, &why, now)
            }
            (Answer::Failed(why), Answer::Failed(_) | Answer::Nothing(..))
            | (Answer::Nothing(..), Answer::Failed(why)) => self.failed(&why),
            (v4, v6) => self.found(v4, v6),
        }
    }

    fn found(&mut self, v4: Answer, v6: Answer) -> Step {
        self.nothing_since = None;
        let is_partial = matches!(v4, Answer::Failed(_)) || matches!(v6, Answer::Failed(_));
        let mut ttl = TTL_MOST;
        for (family, answer) in [(&mut self.v4, v4), (&mut self.v6, v6)] {
            match answer {
                Answer::Found(addresses, valid) => {
                    *family = addresses.into_iter().collect();
                    ttl = ttl.min(valid);
                }
                Answer::Nothing(..) => family.clear(),
                Answer::Failed(_) => {}
            }
        }
        if is_partial {
            ttl = ttl.min(self.retry());
        } else {
            self.backoff.reset();
        }
        Step {
            publish: Some(self.publish()),
            problem: None,
            wait: self.before_expiry(ttl),
        }
    }

    fn nothing(&mut self, ttl: Duration, why: &str, now: Monotonic) -> Step {
        self.backoff.reset();
        let since = *self.nothing_since.get_or_insert(now);
        let is_held = !self.is_empty() && now.since(since) < HOLD;
        if !is_held {
            self.v4.clear();
            self.v6.clear();
        }
        let mut wait = ttl.clamp(TTL_LEAST, NOTHING_MOST);
        if is_held {
            wait = wait.min(HOLD / 4);
        }
        Step {
            publish: (!is_held).then(|| self.publish()),
            problem: Some(self.explain(why)),
            wait,
        }
    }

    fn failed(&mut self, why: &str) -> Step {
        let publish = (!self.published).then(|| self.publish());
        Step {
            publish,
            problem: Some(self.explain(why)),
            wait: self.retry(),
        }
    }

    fn explain(&self, why: &str) -> String {
        if self.is_empty() {
            format!("{why}; requests are answered with 503 until it resolves")
        } else {
            format!("{why}; the addresses of the last good answer stay in use")
        }
    }

    fn publish(&mut self) -> Vec<IpAddr> {
        self.published = true;
        self.v4.iter().chain(&self.v6).copied().collect()
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// A pause that grows with every failure.
    fn retry(&mut self) -> Duration {
        RETRY / 2 + self.backoff.pause(&mut self.random)
    }

    /// Somewhat before the answer expires, so that names that came together do not stay together.
    fn before_expiry(&mut self, ttl: Duration) -> Duration {
        let ttl = ttl.clamp(TTL_LEAST, TTL_MOST);
        ttl.mul_f64(1.0 - 0.1 * self.random.f64()).max(TTL_LEAST)
    }
}

/// A name is not asked for more often than this.
const TTL_LEAST: Duration = Duration::from_secs(1);
/// An answer is not believed for longer than this.
const TTL_MOST: Duration = Duration::from_mins(5);
/// How long `nothing` is believed that does not say (RFC 2308 5), and the longest that it is.
const NOTHING: Duration = Duration::from_secs(5);
const NOTHING_MOST: Duration = Duration::from_mins(1);
/// How long the last addresses stay in use when the DNS says that there are none: mistakes in zones are common.
const HOLD: Duration = Duration::from_secs(30);
/// The bound of the first pause after a failure, and of the longest.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use propylon_kit::clock;

    use super::*;

    fn course() -> Course {
        Course::new(fastrand::Rng::with_seed(1))
    }

    fn found(addresses: &[&str], seconds: u64) -> Answer {
        Answer::Found(
            addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            Duration::from_secs(seconds),
        )
    }

    fn nothing() -> Answer {
        Answer::Nothing(Some(Duration::from_secs(2)), "no such name".to_owned())
    }

    fn failed() -> Answer {
        Answer::Failed("timed out".to_owned())
    }

    fn addresses(step: &Step) -> Vec<String> {
        step.publish.iter().flatten().map(ToString::to_string).collect()
    }

    #[test]
    fn the_shortest_validity_counts_within_its_bounds() {
        for (v4, v6, least, most) in [(60, 30, 27, 30), (0, 30, 1, 1), (86_400, 86_400, 270, 300)] {
            let step = course().take(found(&["192.0.2.1"], v4), found(&["2001:db8::1"], v6), clock::now());
            assert_eq!(addresses(&step), ["192.0.2.1", "2001:db8::1"]);
            assert_eq!(step.problem, None);
            let (least, most) = (Duration::from_secs(least), Duration::from_secs(most));
            assert!(step.wait >= least && step.wait <= most, "{:?}", step.wait);
        }
    }

    #[test]
    fn one_family_is_enough() {
        let step = course().take(nothing(), found(&["2001:db8::1"], 60), clock::now());
        assert_eq!(addresses(&step), ["2001:db8::1"]);
        assert!(step.problem.is_none() && step.wait > Duration::from_secs(50));
    }

    #[test]
    fn a_family_that_fails_keeps_its_addresses_and_is_asked_again_soon() {
        let mut course = course();
        course.take(found(&["192.0.2.1"], 60), found(&["2001:db8::1"], 60), clock::now());
        let step = course.take(found(&["192.0.2.2"], 60), failed(), clock::now());
        assert_eq!(addresses(&step), ["192.0.2.2", "2001:db8::1"]);
        assert!(
            step.problem.is_none() && step.wait <= Duration::from_secs(2),
            "{step:?}"
        );
    }

    #[test]
    fn after_a_failure_the_last_answer_stays_and_pauses_grow() {
        let mut course = course();
        course.take(found(&["192.0.2.1"], 1), nothing(), clock::now());
        let steps: Vec<Step> = (0..40).map(|_| course.take(failed(), failed(), clock::now())).collect();
        assert!(steps.iter().all(|step| step.publish.is_none()));
        assert!(steps[0].problem.as_ref().unwrap().contains("last good answer"));
        assert!(steps[0].wait <= Duration::from_millis(1500));
        assert!(steps.iter().all(|step| step.wait <= Duration::from_millis(30_500)));
        assert!(steps[10..].iter().any(|step| step.wait > Duration::from_secs(15)));
    }

    #[test]
    fn what_was_there_before_goes_when_the_first_answer_fails() {
        let step = course().take(failed(), nothing(), clock::now());
        assert_eq!(step.publish, Some(vec![]));
        assert!(step.problem.unwrap().contains("503"));
    }

    #[test]
    fn that_there_is_nothing_is_believed_after_a_while() {
        let mut course = course();
        let began = clock::now();
        course.take(found(&["192.0.2.1"], 1), nothing(), began);
        let step = course.take(nothing(), nothing(), began + Duration::from_secs(1));
        assert!(step.publish.is_none() && step.problem.is_some(), "{step:?}");
        let step = course.take(nothing(), nothing(), began + Duration::from_secs(30));
        assert!(step.publish.is_none());
        let step = course.take(nothing(), nothing(), began + Duration::from_secs(31));
        assert_eq!(step.publish, Some(vec![]));
        assert_eq!(step.wait, Duration::from_secs(2));
        let step = course.take(found(&["192.0.2.3"], 1), nothing(), began + Duration::from_secs(32));
        assert_eq!(addresses(&step), ["192.0.2.3"]);
    }
}
