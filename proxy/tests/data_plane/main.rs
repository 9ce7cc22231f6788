//! The data plane in this process, fed with resources made by hand.

#[cfg(test)]
mod balancing;
#[cfg(test)]
mod common;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod external_name;
#[cfg(test)]
mod health_checks;
#[cfg(test)]
mod hot_swap;
#[cfg(test)]
mod l4;
mod l4_balancing;
#[cfg(test)]
mod l4_passthrough;
#[cfg(test)]
mod l4_tcp;
#[cfg(test)]
mod l4_udp;
#[cfg(test)]
mod serve;
#[cfg(test)]
mod stats;
