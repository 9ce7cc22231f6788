//! The files in `crds/yaml` are what the types say.

use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn the_committed_definitions_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    #[expect(clippy::disallowed_methods, reason = "the switch of a test, not configuration")]
    let update = std::env::var("UPDATE_GOLDEN").is_ok();
    let mut names = BTreeSet::new();
    for (name, text) in propylon_crds::definitions() {
        if update {
            fs::write(folder.join(&name), &text).unwrap();
        }
        let committed = fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(
            committed == text,
            "{name} differs: UPDATE_GOLDEN=1 cargo test -p propylon-crds writes it anew"
        );
        names.insert(name);
    }
    let found: BTreeSet<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(found, names, "a file of no type");
}
