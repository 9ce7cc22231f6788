//! What the route table answers, against plain facts and against matchers written another way.

#[cfg(test)]
mod backend;
#[cfg(test)]
mod build;
#[cfg(test)]
mod explain_facts;
mod facts;
#[cfg(test)]
mod merge_facts;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod reference;
