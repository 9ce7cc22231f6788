//! The port of the stream: who is let in, and what the leader does for that.

use std::time::Duration;

use anyhow::{Context as _, Result};
use propylon_kit::tasks::StopSignal;
use propylon_wire::Server;
use tokio::net::TcpListener;

use crate::{context::Context, identity::Identity};

/// How often it is looked whether there is an authority, before the first.
const LOOK: Duration = Duration::from_millis(50);

/// Binds the port, and starts to serve it, to follow the certificate authority and, while this replica leads, to keep it.
///
/// # Errors
/// When the address cannot be bound. Retryable once it is free.
pub(crate) async fn start(context: &Context) -> Result<()> {
    let identity = Identity::new(context.config.identity.clone());
    let listener = TcpListener::bind(context.config.stream).await;
    let listener = listener.with_context(|| format!("--stream {}", context.config.stream))?;
    let server = Server::new(context.publisher.clone()).with_issuer(identity.issuer(context.client.clone()));
    let followed = identity.clone();
    context.spawn("authority", |context, mut stop| async move {
        // Both can be cancelled at any time.
        tokio::select! {
            () = followed.follow(context.client) => {}
            () = stop.stopped() => {}
        }
    });
    let awaited = identity.clone();
    context.spawn("authority-ready", |context, stop| ready(context, awaited, stop));
    let kept = identity.clone();
    context.spawn("authority-leader", |context, stop| lead(context, kept, stop));
    context.spawn("stream", |_, mut stop| async move {
        identity.serve(listener, server, stop.stopped()).await;
    });
    Ok(())
}

/// Says so once proxies can connect: with the first authority.
async fn ready(context: Context, identity: Identity, mut stop: StopSignal) {
    while !identity.is_ready() {
        tokio::select! {
            () = stop.stopped() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    context.probe.set_listeners_bound();
}

/// Keeps the authority whenever this replica leads.
async fn lead(mut context: Context, identity: Identity, mut stop: StopSignal) {
    loop {
        // All can be cancelled at any time.
        tokio::select! {
            () = stop.stopped() => return,
            leads = context.is_leader.wait_for(|leads| *leads) => if leads.is_err() {
                return;
            },
        }
        let mut lost = context.is_leader.clone();
        tokio::select! {
            () = stop.stopped() => return,
            () = identity.keep(context.client.clone()) => {}
            lost = lost.wait_for(|leads| !*leads) => if lost.is_err() {
                return;
            },
        }
    }
}
