//! A terminal for programs that need one.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::Path,
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use propylon_testkit::wait::{self, PATIENCE};
use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

/// A program in a terminal of its own. It is killed when this is dropped.
pub struct Terminal {
    keyboard: File,
    shown: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Terminal {
    /// Starts a program in a terminal of 120 columns and 30 rows.
    ///
    /// # Panics
    /// When there is no terminal, or the program cannot be started.
    pub fn start(program: &Path, arguments: &[&str]) -> Self {
        let (keyboard, screen) = open().expect("a terminal can be made");
        let copy = || screen.try_clone().expect("a descriptor can be copied");
        let child = Command::new(program)
            .args(arguments)
            .env("TERM", "xterm-256color")
            .stdin(copy())
            .stdout(copy())
            .stderr(copy())
            .spawn()
            .expect("the program can be started");
        drop(screen);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut output, sink) = (
            keyboard.try_clone().expect("a descriptor can be copied"),
            Arc::clone(&shown),
        );
        // It ends with an error when the program has closed its side.
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut chunk) {
                let seen = chunk.get(..length).unwrap_or_default();
                sink.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(seen);
            }
        });
        Self { keyboard, shown, child }
    }

    /// Types.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal is there");
    }

    /// Everything that was written to the terminal so far.
    pub fn shown(&self) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// What a reader sees now: programs write only what changed, wherever it stands.
    pub fn screen(&self) -> String {
        screen_of(&self.shown())
    }

    /// Waits until a line of the screen contains this text.
    ///
    /// # Panics
    /// When it does not come.
    pub fn until_seen(&self, text: &str) {
        let found = wait::until(PATIENCE, || self.screen().contains(text));
        assert!(found.is_some(), "no {text:?} on the screen:\n{}", self.screen());
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the program is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        kill_process(pid, signal).expect("the program runs");
    }

    /// Waits for the end of the program.
    ///
    /// # Panics
    /// When it does not end.
    pub fn end(&mut self) -> ExitStatus {
        let ended = wait::some(Duration::from_secs(20), || self.child.try_wait().ok().flatten());
        ended.unwrap_or_else(|| panic!("it does not end: {:?}", self.shown())).0
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The screen after these bytes: text where the cursor was put (ECMA-48 CUP); everything else changes no text.
fn screen_of(written: &str) -> String {
    let mut rows = vec![vec![' '; COLUMNS]; ROWS];
    let (mut row, mut column) = (0, 0);
    let mut rest = written.chars();
    while let Some(character) = rest.next() {
        match character {
            '\u{1b}' => {
                let mut sequence = String::new();
                // The bracket of the introducer, then parameters up to the letter that ends them.
                rest.next();
                for part in rest.by_ref() {
                    sequence.push(part);
                    if part.is_ascii_alphabetic() {
                        break;
                    }
                }
                if let Some(position) = sequence.strip_suffix('H') {
                    let mut numbers = position.split(';').map(|number| number.parse::<usize>().unwrap_or(1));
                    row = numbers.next().unwrap_or(1).saturating_sub(1);
                    column = numbers.next().unwrap_or(1).saturating_sub(1);
                }
            }
            '\n' => row += 1,
            '\r' => column = 0,
            _ => {
                if let Some(cell) = rows.get_mut(row).and_then(|cells| cells.get_mut(column)) {
                    *cell = character;
                }
                column += 1;
            }
        }
    }
    let lines = rows
        .iter()
        .map(|cells| cells.iter().collect::<String>().trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// The two sides of a new terminal.
fn open() -> io::Result<(File, File)> {
    let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&keyboard)?;
    unlockpt(&keyboard)?;
    let name = ptsname(&keyboard, Vec::new())?;
    let path = name.into_string().map_err(io::Error::other)?;
    let screen = OpenOptions::new().read(true).write(true).open(path)?;
    tcsetwinsize(
        &screen,
        Winsize {
            ws_row: 30,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )?;
    Ok((keyboard.into(), screen))
}

const ROWS: usize = 30;
const COLUMNS: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_is_what_was_written_last_where_it_was_written() {
        let screen = screen_of("\u{1b}[?1049h\u{1b}[2;3Habc\u{1b}[1m\u{1b}[2;4HX\u{1b}[1;1Htop\r\nz");
        assert_eq!(screen.lines().take(2).collect::<Vec<_>>(), ["top", "z aXc"]);
    }
}
