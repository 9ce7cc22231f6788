//! Two backends that say which of them answers, in a network namespace of the measurement's own.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::{env, thread};

use anyhow::{Context, Result};

/// Where the backends listen: the API server takes no endpoint on loopback (documentation range, RFC 5737).
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Set in the process that runs inside of the namespace.
const INSIDE: &str = "PROPYLON_BENCH_NAMESPACE";

/// Becomes this program again in a network namespace with loopback and [`ADDRESS`]; returns when it is there already.
///
/// # Errors
///
/// When the namespace cannot be made: that needs root, or `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`.
pub(crate) fn enter_namespace() -> Result<()> {
    if env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let script = format!("ip link set lo up && ip address add {ADDRESS}/32 dev lo && exec \"$@\"");
    let own = env::current_exe().context("the path of this program")?;
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--", "sh", "-c", &script, "sh"])
        .arg(own)
        .args(env::args_os().skip(1));
    let error = command.env(INSIDE, "1").exec();
    Err(error).context("start unshare (util-linux)")
}

/// Two listeners, `A` and `B`, that serve until the process ends.
#[derive(Debug)]
pub(crate) struct Backends {
    ports: [u16; 2],
}

const LETTERS: [char; 2] = ['A', 'B'];

impl Backends {
    /// Starts both.
    pub(crate) fn start() -> Result<Self> {
        let mut ports = [0; 2];
        for (port, letter) in ports.iter_mut().zip(LETTERS) {
            let listener = TcpListener::bind((ADDRESS, 0)).context("listen for a backend")?;
            *port = listener.local_addr()?.port();
            thread::spawn(move || serve(&listener, letter));
        }
        Ok(Self { ports })
    }

    /// The port of one side (0 or 1; any other is 0).
    pub(crate) fn port(&self, side: usize) -> u16 {
        self.ports.get(side).copied().unwrap_or(self.ports[0])
    }

    /// What one side answers with.
    pub(crate) fn letter(side: usize) -> char {
        LETTERS.get(side).copied().unwrap_or(LETTERS[0])
    }
}

fn serve(listener: &TcpListener, letter: char) {
    for stream in listener.incoming().flatten() {
        // A connection that breaks is the proxy's to replace.
        thread::spawn(move || drop(answer(&stream, letter)));
    }
}

fn answer(stream: &TcpStream, letter: char) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream);
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{letter}");
    let (mut out, mut line) = (stream, String::new());
    while lines.read_line(&mut line)? > 0 {
        if line == "\r\n" {
            out.write_all(response.as_bytes())?;
        }
        line.clear();
    }
    Ok(())
}
