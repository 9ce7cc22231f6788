//! UDP ports of Services: a session per client, with a socket of its own towards an endpoint.
//!
//! What it is: an [`Engine`] per worker. Datagrams of clients are taken many at a time (`recvmmsg`, `UDP_GRO`) and handed on
//! through the connected socket of their session; the sockets of all sessions are watched by one epoll instance, and what
//! endpoints send is handed back many at a time (`sendmmsg`, `UDP_SEGMENT`). No task, timer or buffer belongs to a session.
//!
//! What it is not: reliable. A datagram that finds a full queue, no endpoint or no free session is dropped and counted.
//!
//! The kernel chooses the worker of a client by the addresses of both sides; that holds as long as the number of sockets
//! of the listener does not change.

mod buffers;
mod engine;
mod listener;
mod replies;
mod send;
mod session;
mod socket;

pub(super) use self::{engine::Engine, listener::begin};
