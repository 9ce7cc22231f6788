//! Manifests: no text makes the way from YAML to the IR panic, and what is compiled does not depend on the order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use propylon_translate::{Memory, Options, World, admit::admit, compile, manifest};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let objects: Vec<_> = manifest::parse(text)
        .into_iter()
        .flatten()
        .filter_map(|object| admit(object).ok())
        .collect();
    let options = Options::default();
    let mut world = World::default();
    for object in &objects {
        world.insert(object.clone());
    }
    let first = compile(&world, &options, &mut Memory::default());
    let mut memory = Memory::default();
    compile(&world, &options, &mut memory);
    let again = compile(&world, &options, &mut memory);
    assert_eq!(first.resources, again.resources, "compiling twice changes nothing");
});
