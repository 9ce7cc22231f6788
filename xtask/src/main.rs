//! Repository chores: purity check, generated reference pages.
fn main() {}
