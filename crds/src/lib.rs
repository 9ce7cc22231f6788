//! The custom resources of Propylon, group `propylon.dev`.
