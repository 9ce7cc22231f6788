use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn seen(name: &str, version: u32) -> Seen<u32> {
    Seen {
        key: Key::new("n", name),
        version: version.to_string(),
        object: Ok(version),
    }
}

fn list(belief: &mut Belief, names: &[&str]) -> Outcome<u32> {
    belief.step::<u32>(Event::Init);
    for name in names {
        belief.step(Event::InitApply(seen(name, 1)));
    }
    belief.step(Event::InitDone)
}

fn names(belief: &Belief) -> BTreeSet<String> {
    belief.keys().map(|key| key.name.to_string()).collect()
}

fn removed(outcome: Outcome<u32>) -> BTreeSet<String> {
    let (Outcome::Listed { removed } | Outcome::Doubted { removed, .. }) = outcome else {
        panic!("{outcome:?} is no end of a list");
    };
    removed.iter().map(|key| key.name.to_string()).collect()
}

#[test]
fn an_empty_first_list_is_asked_for_twice() {
    let mut belief = Belief::new();
    assert!(matches!(
        list(&mut belief, &[]),
        Outcome::Doubted { held: 0, known: 0, .. }
    ));
    assert!(!belief.is_listed());
    assert!(matches!(list(&mut belief, &[]), Outcome::Listed { .. }));
    assert!(belief.is_listed());
    // Once is enough from then on: nothing goes from many to none.
    assert!(matches!(list(&mut belief, &[]), Outcome::Listed { .. }));
}

#[test]
fn an_empty_relist_removes_nothing_until_a_second_one_agrees() {
    let mut belief = Belief::new();
    list(&mut belief, &["a", "b", "c"]);
    let doubted = list(&mut belief, &[]);
    assert!(matches!(&doubted, Outcome::Doubted { removed, held: 3, known: 3 } if removed.is_empty()));
    assert_eq!(belief.len(), 3);
    assert_eq!(removed(list(&mut belief, &[])).len(), 3);
    assert!(belief.is_empty() && !belief.is_doubting());
}

#[test]
fn a_relist_of_less_than_half_waits_and_one_of_half_does_not() {
    let mut belief = Belief::new();
    list(&mut belief, &["a", "b", "c", "d"]);
    assert_eq!(
        removed(list(&mut belief, &["a", "b"])),
        BTreeSet::from(["c", "d"].map(str::to_owned))
    );
    list(&mut belief, &["a", "b", "e", "f", "g"]);
    assert!(matches!(
        list(&mut belief, &["a", "b"]),
        Outcome::Doubted { held: 3, known: 5, .. }
    ));
    // The second list has one of them again.
    assert_eq!(
        removed(list(&mut belief, &["a", "b", "e"])),
        BTreeSet::from(["f", "g"].map(str::to_owned))
    );
    assert_eq!(names(&belief), BTreeSet::from(["a", "b", "e"].map(str::to_owned)));
}

#[test]
fn two_lists_that_miss_different_things_do_not_agree() {
    let mut belief = Belief::new();
    list(&mut belief, &["a", "b", "c", "d", "e"]);
    assert!(removed(list(&mut belief, &["a", "b"])).is_empty());
    // c, d, e were missed before; now a and b are missed, too.
    let second = list(&mut belief, &["f"]);
    assert!(matches!(second, Outcome::Doubted { held: 2, .. }));
    assert_eq!(removed(second), BTreeSet::from(["c", "d", "e"].map(str::to_owned)));
    assert_eq!(names(&belief), BTreeSet::from(["a", "b", "f"].map(str::to_owned)));
}

#[test]
fn a_deletion_is_believed_at_once_and_an_unchanged_object_is_no_change() {
    let mut belief = Belief::new();
    list(&mut belief, &["a", "b"]);
    assert_eq!(belief.step(Event::Apply(seen("a", 1))), Outcome::Nothing);
    assert_eq!(
        belief.step(Event::Apply(seen("a", 2))),
        Outcome::Changed(Change::Set(Key::new("n", "a"), 2))
    );
    assert_eq!(
        belief.step(Event::Delete(seen("a", 3))),
        Outcome::Changed(Change::Remove(Key::new("n", "a")))
    );
    assert_eq!(belief.step(Event::Delete(seen("a", 3))), Outcome::Nothing);
}

#[test]
fn what_does_not_decode_exists() {
    let mut belief = Belief::new();
    list(&mut belief, &["a", "b", "c"]);
    let mut broken = seen("b", 2);
    broken.object = Err("no".to_owned());
    belief.step::<u32>(Event::Init);
    belief.step(Event::InitApply(seen("a", 1)));
    assert_eq!(
        belief.step(Event::InitApply(broken)),
        Outcome::Changed(Change::Malformed(Key::new("n", "b"), "no".to_owned()))
    );
    assert_eq!(removed(belief.step(Event::InitDone)), BTreeSet::from(["c".to_owned()]));
    assert_eq!(names(&belief), BTreeSet::from(["a", "b"].map(str::to_owned)));
}

#[test]
fn a_list_that_breaks_off_counts_for_nothing() {
    let mut belief = Belief::new();
    list(&mut belief, &["a", "b", "c"]);
    belief.step::<u32>(Event::Init);
    belief.step(Event::InitApply(seen("d", 1)));
    assert_eq!(removed(list(&mut belief, &["a", "b", "c", "d"])), BTreeSet::new());
    assert_eq!(belief.len(), 4);
}

#[derive(Clone, Debug)]
enum Act {
    List(BTreeMap<u8, u32>, bool),
    Apply(u8, u32),
    Delete(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let object = || (0_u8..12, 0_u32..3);
    prop_oneof![
        4 => (proptest::collection::btree_map(0_u8..12, 0_u32..3, 0..12), any::<bool>())
            .prop_map(|(objects, completes)| Act::List(objects, completes)),
        2 => object().prop_map(|(name, version)| Act::Apply(name, version)),
        1 => (0_u8..12).prop_map(Act::Delete),
    ]
}

/// What a follower of the outcomes holds.
fn follow(state: &mut BTreeMap<Key, u32>, outcome: Outcome<u32>) {
    match outcome {
        Outcome::Nothing => {}
        Outcome::Changed(Change::Set(key, object)) => drop(state.insert(key, object)),
        Outcome::Changed(Change::Malformed(..)) => panic!("all decode"),
        Outcome::Changed(Change::Remove(key)) => {
            assert!(state.remove(&key).is_some());
        }
        Outcome::Listed { removed } | Outcome::Doubted { removed, .. } => {
            for key in removed {
                assert!(state.remove(&key).is_some());
            }
        }
    }
}

proptest! {
    /// A follower holds at least what the API server holds, never loses the most of it to one list, and holds exactly that
    /// after two equal lists.
    #[test]
    fn one_list_never_takes_the_most_away(acts in proptest::collection::vec(act(), 1..40)) {
        let mut belief = Belief::new();
        let mut state: BTreeMap<Key, u32> = BTreeMap::new();
        let mut last_missed: BTreeSet<Key> = BTreeSet::new();
        for act in acts {
            let before = state.clone();
            match act {
                Act::Apply(name, version) => follow(&mut state, belief.step(Event::Apply(seen(&name.to_string(), version)))),
                Act::Delete(name) => follow(&mut state, belief.step(Event::Delete(seen(&name.to_string(), 0)))),
                Act::List(objects, completes) => {
                    follow(&mut state, belief.step(Event::Init));
                    for (name, version) in &objects {
                        follow(&mut state, belief.step(Event::InitApply(seen(&name.to_string(), *version))));
                    }
                    if completes {
                        follow(&mut state, belief.step(Event::InitDone));
                        let held: BTreeSet<Key> = objects.keys().map(|name| Key::new("n", name.to_string())).collect();
                        let missed: BTreeSet<Key> = before.keys().filter(|key| !held.contains(*key)).cloned().collect();
                        let lost: Vec<&Key> = missed.iter().filter(|key| !state.contains_key(*key)).collect();
                        if lost.len() * 2 > before.len() {
                            prop_assert!(lost.iter().all(|key| last_missed.contains(*key)), "{lost:?}");
                        }
                        prop_assert!(held.iter().all(|key| state.contains_key(key)));
                        last_missed = missed;
                        continue;
                    }
                }
            }
            prop_assert!(before.len() <= state.len() + 1);
        }
        let last: BTreeMap<Key, u32> = [(Key::new("n", "0"), 2)].into();
        for _ in 0..2 {
            follow(&mut state, belief.step(Event::Init));
            follow(&mut state, belief.step(Event::InitApply(seen("0", 2))));
            follow(&mut state, belief.step(Event::InitDone));
        }
        prop_assert_eq!(state, last);
        prop_assert!(belief.is_listed() && !belief.is_doubting());
    }
}
