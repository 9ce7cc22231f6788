//! The controller of Propylon.
