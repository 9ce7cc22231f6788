//! The route table: compile, merge and tie-break, host and path match.
