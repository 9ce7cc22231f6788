//! Kubernetes objects to the intermediate representation, with a report per object.
