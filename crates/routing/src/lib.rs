//! The route table: compile, merge and tie-break, host and path match.
//!
//! What it is: [`Compiler`] makes an immutable [`RouteTable`] of the route groups of the IR and rebuilds only the hosts
//! that a change touches; [`merge`] decides which of the rules of one host win, for the table and for the reports.
//!
//! What it is not: it knows no pool, endpoint or request; a route carries whatever target the caller makes for it.
//!
//! Start from [`RouteTable`].

pub mod explain;

mod compiler;
mod host_map;
mod host_table;
mod index;
mod merge;

mod route;
mod table;

pub use compiler::Compiler;
pub use merge::{Conflict, Merged, Winner, conflicts, merge};
pub use route::{Claim, Route};
pub use table::{Found, RouteTable};
