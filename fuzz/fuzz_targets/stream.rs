//! The stream: whatever a controller sends, a proxy does not panic, what is live is what was applied, and no route names a
//! pool that is not there. The input is a row of length-delimited responses.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use propylon_model::{Action, Delta, Resources};
use propylon_wire::{
    Apply, Mirror, Rejection,
    message::{Request, Response},
};
use prost::Message;

#[derive(Default)]
struct Tables(Resources);

impl Apply for Tables {
    fn apply(&mut self, delta: &Delta) -> Vec<Rejection> {
        self.0.apply(delta);
        Vec::new()
    }

    fn committed(&mut self, mirror: &Mirror) {
        assert_eq!(*mirror.resources(), self.0);
        for group in self.0.groups.values() {
            for rule in &group.rules {
                if let Action::Forward(pool) = &rule.action {
                    assert!(self.0.pools.contains_key(pool), "a route names a pool that is not there");
                }
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes::copy_from_slice(data);
    drop(Request::decode(bytes.clone()));
    let (mut mirror, mut tables) = (Mirror::new(), Tables::default());
    drop(mirror.greet("fuzz"));
    while let Ok(response) = Response::decode_length_delimited(&mut bytes) {
        if mirror.receive(response, &mut tables).is_err() {
            drop(mirror.greet("fuzz"));
        }
        if bytes.is_empty() {
            return;
        }
    }
});
