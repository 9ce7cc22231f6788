//! A backend that decodes, merges slashes and removes dot segments in an order of its own, and how it would match.

use propylon_model::{PathMatch, RouteGroup};

use crate::build::{Answer, pool};

/// One octet as a backend sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Octet {
    /// As written, or decoded and no different for it.
    Plain(u8),
    /// An encoded slash that was kept apart from a slash.
    EncodedSlash,
}

/// What a backend does with an encoded slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slashes {
    Decode,
    Keep,
}

/// Which dot segments a backend knows before it has decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dots {
    Encoded,
    Literal,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Decode,
    Merge,
    RemoveDots,
}

pub(crate) const ORDERS: [[Step; 3]; 6] = [
    [Step::Decode, Step::Merge, Step::RemoveDots],
    [Step::Decode, Step::RemoveDots, Step::Merge],
    [Step::Merge, Step::Decode, Step::RemoveDots],
    [Step::Merge, Step::RemoveDots, Step::Decode],
    [Step::RemoveDots, Step::Decode, Step::Merge],
    [Step::RemoveDots, Step::Merge, Step::Decode],
];

/// What the backend reads in a path.
pub(crate) fn read(path: &str, order: [Step; 3], slashes: Slashes, mut dots: Dots) -> Vec<Octet> {
    let mut octets: Vec<Octet> = path.bytes().map(Octet::Plain).collect();
    for step in order {
        octets = match step {
            Step::Decode => {
                // Nothing is decoded twice.
                dots = Dots::Literal;
                decode(&octets, slashes)
            }
            Step::Merge => merge(&octets),
            Step::RemoveDots => remove_dots(&octets, dots),
        };
    }
    octets
}

/// What the rules, decoded, make of what the backend read; `host` is the text of a pattern that has rules.
pub(crate) fn select(groups: &[RouteGroup], host: &str, read: &[Octet]) -> Answer {
    let groups: Vec<&RouteGroup> = groups.iter().filter(|group| group.host.to_string() == host).collect();
    let mut best: Option<(usize, Answer)> = None;
    for rule in groups.iter().flat_map(|group| &group.rules) {
        let octets = decode(
            &rule.path.path().as_str().bytes().map(Octet::Plain).collect::<Vec<_>>(),
            Slashes::Keep,
        );
        let strength = match &rule.path {
            PathMatch::Exact(_) if octets == read => usize::MAX,
            PathMatch::Prefix(_) if starts_with(&elements(read), &elements(&octets)) => octets.len(),
            _ => continue,
        };
        if best.as_ref().is_none_or(|(best, _)| strength > *best) {
            best = Some((strength, pool(&rule.action)));
        }
    }
    let default_backend = groups
        .iter()
        .find_map(|group| group.default_backend.as_ref())
        .map(|(action, _)| pool(action));
    best.map(|(_, answer)| answer)
        .or(default_backend)
        .unwrap_or(Answer::NoPath)
}

const SLASH: Octet = Octet::Plain(b'/');

fn decode(octets: &[Octet], slashes: Slashes) -> Vec<Octet> {
    let mut decoded = Vec::new();
    let mut rest = octets;
    loop {
        rest = match rest {
            [] => return decoded,
            [Octet::Plain(b'%'), Octet::Plain(high), Octet::Plain(low), after @ ..] => {
                let digits = String::from_utf8(vec![*high, *low]).unwrap();
                decoded.push(match (u8::from_str_radix(&digits, 16).unwrap(), slashes) {
                    (b'/', Slashes::Keep) => Octet::EncodedSlash,
                    (octet, _) => Octet::Plain(octet),
                });
                after
            }
            [octet, after @ ..] => {
                decoded.push(*octet);
                after
            }
        };
    }
}

fn merge(octets: &[Octet]) -> Vec<Octet> {
    let mut merged = octets.to_vec();
    merged.dedup_by(|right, left| *right == SLASH && *left == SLASH);
    merged
}

/// RFC 3986 5.2.4, word by word.
fn remove_dots(octets: &[Octet], dots: Dots) -> Vec<Octet> {
    let mut input = octets.to_vec();
    let mut output: Vec<Octet> = Vec::new();
    while !input.is_empty() {
        let end = input
            .iter()
            .skip(1)
            .position(|octet| *octet == SLASH)
            .map_or(input.len(), |at| at + 1);
        let segment: Vec<Octet> = input.drain(..end).collect();
        let name: Vec<Octet> = match dots {
            Dots::Literal => segment[1..].to_vec(),
            Dots::Encoded => decode(&segment[1..], Slashes::Keep),
        };
        let is_last = input.is_empty();
        match name.as_slice() {
            [Octet::Plain(b'.')] => {}
            [Octet::Plain(b'.'), Octet::Plain(b'.')] => {
                let parent = output.iter().rposition(|octet| *octet == SLASH).unwrap_or(0);
                output.truncate(parent);
            }
            _ => {
                output.extend(segment);
                continue;
            }
        }
        if is_last {
            output.push(SLASH);
        }
    }
    output
}

fn elements(octets: &[Octet]) -> Vec<&[Octet]> {
    octets.split(|octet| *octet == SLASH).collect()
}

fn starts_with(path: &[&[Octet]], rule: &[&[Octet]]) -> bool {
    let rule = rule.strip_suffix(&[[].as_slice()]).unwrap_or(rule);
    path.starts_with(rule)
}
