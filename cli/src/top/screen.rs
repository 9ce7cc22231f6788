//! The live screen: threads that look, listen and wait for signals, and a loop that draws.

use std::{
    io,
    process::ExitCode,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use propylon_proxy::stats::Stats;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event},
};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    TopArgs,
    draw::draw,
    fetch,
    state::{State, Step},
};
use crate::failure::Failure;

/// What the loop waits for.
enum Happening {
    Answer(Box<Result<Stats, String>>),
    /// The terminal is gone or cannot be read.
    Input(io::Result<Event>),
    Signal,
}

/// Shows the screen until the user quits or a signal comes. The terminal is as before then, also after a panic.
pub(super) fn run(args: &TopArgs, first: Stats) -> Result<ExitCode, Failure> {
    let failed = |source| Failure::System {
        attempt: "use the terminal",
        source,
    };
    let (happenings, happened) = sync_channel(QUEUE);
    // A thread that waits for the loop when it ends is told by this one.
    let (_running, stop) = sync_channel::<()>(0);
    watch_signals(happenings.clone()).map_err(failed)?;
    look(args, happenings.clone(), stop).map_err(failed)?;
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let input = thread::Builder::new().name("input".to_owned());
    let listening = input.spawn(move || while happenings.send(Happening::Input(event::read())).is_ok() {});
    let state = State::new(args.admin.clone(), first);
    let shown = listening.map(drop).and_then(|()| show(&mut terminal, state, &happened));
    let restored = ratatui::try_restore();
    shown.and(restored).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn show(terminal: &mut DefaultTerminal, mut state: State, happened: &Receiver<Happening>) -> io::Result<()> {
    loop {
        terminal.draw(|frame| draw(frame, &mut state))?;
        // Every sender lives as long as the process.
        let Ok(happening) = happened.recv() else {
            return Ok(());
        };
        match happening {
            Happening::Answer(answer) => state.answer(*answer),
            Happening::Input(Ok(Event::Key(key))) if state.key(key) == Step::Quit => return Ok(()),
            // The next drawing asks for the size.
            Happening::Input(Ok(_)) => {}
            Happening::Input(Err(error)) => return Err(error),
            Happening::Signal => return Ok(()),
        }
    }
}

/// Looks at the proxy once per interval.
fn look(args: &TopArgs, happenings: SyncSender<Happening>, stop: Receiver<()>) -> io::Result<()> {
    let (admin, interval): (String, Duration) = (args.admin.clone(), args.interval);
    let watch = move || {
        while stop.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            let answer = fetch(&admin).map_err(|error| error.to_string());
            if happenings.send(Happening::Answer(Box::new(answer))).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("look".to_owned()).spawn(watch).map(drop)
}

/// Tells of SIGTERM, SIGINT (from elsewhere: the terminal sends none now) and SIGHUP.
fn watch_signals(happenings: SyncSender<Happening>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let context = runtime.enter();
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(context);
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        // Where the loop has ended already, so does the process.
        drop(happenings.send(Happening::Signal));
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

/// What may wait for the loop: a key that is held down fills it no further.
const QUEUE: usize = 16;
