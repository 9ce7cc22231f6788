//! Taking over from the process before, and being taken over.

use std::{io, sync::PoisonError, time::Duration};

use tokio::time::timeout;

use super::{ProxyHandle, StartError};
use crate::{
    config::Config,
    control::Command,
    sockets::{Door, Sockets},
    takeover::{self, Desk, Predecessor, TakeoverError},
};

/// The sockets to begin with, and who waits for this process, where a process runs at `--takeover`.
///
/// # Errors
/// [`StartError::Takeover`] when the path cannot be used or a process there does not hand over.
pub(super) fn inherit(config: &Config) -> Result<(Sockets, Option<Predecessor>), StartError> {
    let Some(path) = &config.takeover else {
        return Ok((Sockets::default(), None));
    };
    let given = takeover::ask(path).map_err(|source| StartError::Takeover {
        path: path.clone(),
        source,
    })?;
    Ok(match given {
        Some((predecessor, held)) => {
            tracing::info!(
                sockets = held.len(),
                "received the listening sockets of the running process"
            );
            (Sockets::new(held), Some(predecessor))
        }
        None => (Sockets::default(), None),
    })
}

impl ProxyHandle {
    /// To be called once the tables are live: begins to accept. With `--takeover`, tells the process before to stop, and
    /// waits for the process after. A second call changes nothing.
    ///
    /// Blocks for at most 15 s; must not be called within a runtime.
    ///
    /// # Errors
    /// [`StartError::Takeover`] when the workers do not begin, or the path cannot be replaced. The process before serves on
    /// then; this one has accepted nothing and should end.
    pub fn take_over(&self) -> Result<(), StartError> {
        let Some(path) = &self.shared.config.takeover else {
            self.open_door();
            return Ok(());
        };
        let failed = |source| StartError::Takeover {
            path: path.clone(),
            source,
        };
        let unusable = |error: io::Error| failed(TakeoverError::Path(error));
        let mut mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        if mark.is_some() {
            return Ok(());
        }
        self.wait_for_workers().map_err(failed)?;
        // Before the other one is told: what can fail, fails here.
        let desk = Desk::prepare(path).map_err(unusable)?;
        let sockets = &self.shared.sockets;
        sockets.drop_inherited();
        let predecessor = self.predecessor.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.open_door();
        if let Some(predecessor) = predecessor {
            predecessor.ready(sockets.places());
        }
        *mark = Some(desk.open().map_err(unusable)?);
        if self.commands.try_send(Command::Desk(desk)).is_err() {
            tracing::error!("the control thread has ended; no process can take over");
        }
        Ok(())
    }

    /// Waits until another process has taken over; this one drains then, as if [`ProxyHandle::drain`] had been called.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is held.
    pub async fn taken_over(&self) {
        self.shared.until_handed_over().await;
    }

    fn open_door(&self) {
        // Not where it is closed already: the process drains then.
        self.shared.door.send_if_modified(|door| {
            let waits = *door == Door::Waiting;
            if waits {
                *door = Door::Open;
            }
            waits
        });
        self.probe.set_listeners_bound();
    }

    fn wait_for_workers(&self) -> Result<(), TakeoverError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(TakeoverError::Path)?;
        let expected = self.shared.config.workers;
        let mut listening = self.shared.workers_listening.subscribe();
        let ready = runtime.block_on(async {
            let all = listening.wait_for(|count| *count >= expected);
            matches!(timeout(WORKERS, all).await, Ok(Ok(_)))
        });
        if ready { Ok(()) } else { Err(TakeoverError::Workers) }
    }
}

/// How long the workers may take to begin.
const WORKERS: Duration = Duration::from_secs(10);
