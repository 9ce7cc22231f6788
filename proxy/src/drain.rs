//! The order in which a proxy stops (`reliability.md` B5): announce, stop accepting, finish, end.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::sleep;

use crate::{
    sockets::Door,
    worker::{Shared, Stage},
};

/// Walks through the stages; workers follow within one sweep and end by themselves when they have nothing left.
///
/// Where another process has taken over, the door is closed already, and `accept_grace` is the time in which kept
/// connections are asked with their next response to go to that process, before idle ones are closed.
pub(crate) async fn drain(shared: &Shared, accept_grace: Duration) {
    enter(shared, Stage::Announced);
    tracing::info!(grace = ?accept_grace, "draining: readiness fails, new connections are still served");
    sleep(accept_grace).await;
    enter(shared, Stage::Closing);
    close_door(shared);
    tracing::info!(timeout = ?shared.config.drain_timeout, "draining: listeners closed, requests in flight finish");
    sleep(shared.config.drain_timeout).await;
    enter(shared, Stage::Aborting);
    tracing::warn!(
        connections = shared.connections.load(Ordering::Relaxed),
        "the drain deadline passed; ending what is left"
    );
}

/// Listeners take no more; the workers empty their queues and drop their sockets.
fn close_door(shared: &Shared) {
    // Before the workers are told: the last descriptor to go is then a worker's, after its queue is empty.
    shared.sockets.close();
    shared.door.send_replace(Door::Closed);
}

fn enter(shared: &Shared, stage: Stage) {
    shared.stage.fetch_max(stage as u8, Ordering::AcqRel);
}
