//! Black-box tests of the built binaries with real clients.
