//! Clock, metrics, access log, admin server, tasks and drain shared by the shells.
