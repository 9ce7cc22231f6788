//! The measuring commands.

pub(crate) mod callgrind;
pub(crate) mod compare;
pub(crate) mod idle;
pub(crate) mod propagation;
pub(crate) mod swap;
pub(crate) mod table;
