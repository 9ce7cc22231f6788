use std::collections::HashMap;

use super::*;
use crate::balance::statistics::{chi_square, critical};

fn endpoints(count: u8) -> Vec<(SocketAddr, u16)> {
    (0..count).map(|last| (([10, 1, 2, last], 8080).into(), 1)).collect()
}

fn keys() -> impl Iterator<Item = u64> {
    (0..10_000_u64).map(|number| hash::bytes(format!("key-{number}").as_bytes(), 0))
}

fn address_of(table: &Maglev, list: &[(SocketAddr, u16)], key: u64) -> SocketAddr {
    list[table.get(key).unwrap()].0
}

#[test]
fn sizes_are_prime() {
    for size in [SMALL, LARGE] {
        assert!((2..=size.isqrt()).all(|divisor| !size.is_multiple_of(divisor)));
    }
}

#[test]
fn slots_are_shared_evenly() {
    let list = endpoints(100);
    let (shares, total) = Maglev::new(&list).shares(100);
    assert_eq!(shares.iter().sum::<u32>(), total);
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(most - least <= 1, "{least} {most}");
}

#[test]
fn keys_are_spread_evenly() {
    let table = Maglev::new(&endpoints(100));
    let mut counts = vec![0_u64; 100];
    keys().for_each(|key| counts[table.get(key).unwrap()] += 1);
    assert!(chi_square(&counts, &[100.0; 100]) < critical(99));
}

#[test]
fn weights_are_shares_of_the_slots() {
    let mut list = endpoints(10);
    list[3].1 = 5;
    list[7].1 = 20;
    let (shares, total) = Maglev::new(&list).shares(10);
    for (index, share) in shares.iter().enumerate() {
        let wanted = f64::from(total) * f64::from(list[index].1) / 33.0;
        assert!(
            (f64::from(*share) - wanted).abs() < wanted * 0.01 + 20.0,
            "{index}: {share} {wanted}"
        );
    }
}

/// The measure of the design: one of 100 goes, at most 5 % of the keys whose endpoint stays may move. Every third of
/// the hundred is removed in turn.
#[test]
fn few_keys_move_when_one_of_a_hundred_goes() {
    let list = endpoints(100);
    let before = Maglev::new(&list);
    let mut worst = 0.0_f64;
    for gone in (0..100).step_by(3) {
        let mut rest = list.clone();
        let removed = rest.remove(gone).0;
        let after = Maglev::new(&rest);
        let (mut stayed, mut moved) = (0_u32, 0_u32);
        for key in keys() {
            let owner = address_of(&before, &list, key);
            if owner != removed {
                stayed += 1;
                moved += u32::from(address_of(&after, &rest, key) != owner);
            }
        }
        worst = worst.max(f64::from(moved) / f64::from(stayed));
    }
    println!("at most {:.2} % of the keys whose endpoint stays moved", worst * 100.0);
    assert!(worst <= 0.05, "{worst}");
}

#[test]
fn keys_of_the_one_that_goes_are_spread_over_the_others() {
    let list = endpoints(100);
    let (before, after) = (Maglev::new(&list), Maglev::new(&list[1..]));
    let mut heirs: HashMap<SocketAddr, u32> = HashMap::new();
    let orphans: Vec<u64> = (0..200_000_u64)
        .map(hash::next)
        .filter(|key| before.get(*key) == Some(0))
        .collect();
    for key in &orphans {
        *heirs.entry(address_of(&after, &list[1..], *key)).or_default() += 1;
    }
    assert!(heirs.len() > 90, "{} heirs of {} keys", heirs.len(), orphans.len());
}

#[test]
fn one_that_is_not_usable_loses_its_keys_and_no_other_moves() {
    let table = Maglev::new(&endpoints(20));
    let mut heirs = [0_u32; 20];
    for key in keys() {
        let (owner, found) = (
            table.get(key).unwrap(),
            table.find(key, 20, |index| index != 4).unwrap(),
        );
        if owner == 4 {
            heirs[found] += 1;
        } else {
            assert_eq!(owner, found);
        }
    }
    assert_eq!(heirs[4], 0);
    assert_eq!(heirs.iter().filter(|count| **count > 0).count(), 19, "{heirs:?}");
}

#[test]
fn the_order_of_the_list_does_not_matter() {
    let list = endpoints(50);
    let mut other = list.clone();
    fastrand::Rng::with_seed(3).shuffle(&mut other);
    let (one, two) = (Maglev::new(&list), Maglev::new(&other));
    assert!(keys().all(|key| address_of(&one, &list, key) == address_of(&two, &other, key)));
}

#[test]
fn few_endpoints_and_none() {
    let none = Maglev::new(&[]);
    assert_eq!(none.get(1), None);
    assert_eq!(none.find(1, 0, |_| true), None);
    let one = Maglev::new(&endpoints(1));
    assert!(keys().all(|key| one.get(key) == Some(0)));
    assert_eq!(one.find(5, 1, |_| false), None);
    let two = Maglev::new(&endpoints(2));
    assert!(keys().all(|key| two.find(key, 2, |index| index == 1) == Some(1)));
}
