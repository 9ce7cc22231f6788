//! A server that does what a script says, for backends that misbehave.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use socket2::SockRef;

use crate::wait::PATIENCE;

/// One thing that a scripted server does on a connection. After the last one it closes the connection.
#[derive(Clone, Debug)]
pub enum Step {
    /// Keeps the connection open, reading and dropping what comes, until the client closes.
    Hold,
    /// Waits.
    Pause(Duration),
    /// Reads exactly so many bytes.
    Read(usize),
    /// Reads until these bytes have come.
    ReadUntil(Vec<u8>),
    /// Reads a request head, up to and with its empty line.
    ReadHead,
    /// Resets the connection (RST) rather than close it.
    Reset,
    /// Sends bytes.
    Write(Vec<u8>),
}

impl Step {
    /// Sends text.
    pub fn write(text: &str) -> Self {
        Self::Write(text.as_bytes().to_vec())
    }
}

/// A running scripted server. It accepts no more connections when this is dropped.
pub struct ScriptedServer {
    /// Where it listens: 127.0.0.1, a port that the kernel chose.
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    stopped: Arc<AtomicBool>,
}

impl ScriptedServer {
    /// What was read on each connection so far, in the order of acceptance.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the accept loop; when that fails, the loop has ended already.
        drop(TcpStream::connect(self.address));
    }
}

/// Starts a server that plays the first script on its first connection, the second on its second, and the last one on
/// all that follow. Without a script every connection is closed at once.
///
/// # Errors
/// When no port or thread is left.
pub fn scripted_server(scripts: Vec<Vec<Step>>) -> io::Result<ScriptedServer> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let received = Arc::new(Mutex::new(Vec::new()));
    let stopped = Arc::new(AtomicBool::new(false));
    let server = ScriptedServer {
        address,
        received: Arc::clone(&received),
        stopped: Arc::clone(&stopped),
    };
    thread::Builder::new().name("scripted".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            if stopped.load(Ordering::Relaxed) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let number = {
                let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
                received.push(Vec::new());
                received.len() - 1
            };
            let script = scripts
                .get(number)
                .or_else(|| scripts.last())
                .cloned()
                .unwrap_or_default();
            let received = Arc::clone(&received);
            thread::spawn(move || {
                let mut player = Player {
                    stream,
                    number,
                    received,
                    unread: Vec::new(),
                };
                // An error is the client's going away.
                drop(script.iter().try_for_each(|step| player.play(step)));
            });
        }
    })?;
    Ok(server)
}

struct Player {
    stream: TcpStream,
    number: usize,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Read from the socket, not yet used up by a step.
    unread: Vec<u8>,
}

impl Player {
    fn play(&mut self, step: &Step) -> io::Result<()> {
        self.stream.set_read_timeout(Some(PATIENCE))?;
        match step {
            Step::Hold => loop {
                self.fill()?;
                self.unread.clear();
            },
            Step::Pause(pause) => {
                thread::sleep(*pause);
                Ok(())
            }
            Step::Read(count) => {
                while self.unread.len() < *count {
                    self.fill()?;
                }
                self.unread.drain(..count);
                Ok(())
            }
            Step::ReadUntil(mark) => self.read_until(mark),
            Step::ReadHead => self.read_until(b"\r\n\r\n"),
            Step::Reset => {
                SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Step::Write(bytes) => self.stream.write_all(bytes),
        }
    }

    fn read_until(&mut self, mark: &[u8]) -> io::Result<()> {
        loop {
            if let Some(start) = self.unread.windows(mark.len()).position(|window| window == mark) {
                self.unread.drain(..start + mark.len());
                return Ok(());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 * 1024];
        let count = self.stream.read(&mut piece)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.unread.extend(piece.iter().take(count));
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(received) = received.get_mut(self.number) {
            received.extend(piece.iter().take(count));
        }
        Ok(())
    }
}
