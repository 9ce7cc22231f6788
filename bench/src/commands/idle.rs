//! `idle-memory`: what a keep-alive connection costs that served one GET and then waits.

use std::io::{BufRead, BufReader, Write};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::args::{Client, IdleArgs};
use crate::clients::Outcome;
use crate::lab::Lab;
use crate::peers::{Running, propylon_program, start_all};
use crate::procs::tree_pss;
use crate::report::Table;
use crate::tools;

/// Measures and prints everything. Each kind of connection is measured on proxies started afresh.
///
/// # Errors
///
/// When the system allows too few open files, or Propylon does not serve.
pub(crate) fn run(args: &IdleArgs) -> Result<()> {
    let program = propylon_program(&args.lab)?;
    println!("machine: {}", tools::machine());
    println!(
        "{} connections, memory read after {} s of idleness\n",
        args.connections, args.settle
    );
    let mut table = Table::new(&[
        "proxy",
        "connection",
        "base Pss MiB",
        "bytes per connection",
        "closed meanwhile",
    ]);
    for tls in [false, true] {
        let lab = Lab::new(&args.lab)?;
        if lab.open_files < args.connections as u64 + 1000 {
            bail!(
                "{} open files allowed, too few for {} connections",
                lab.open_files,
                args.connections
            );
        }
        for proxy in start_all(&lab, &args.lab, program.as_deref())? {
            eprintln!("{}: opening {} connections", proxy.name, args.connections);
            match measure(&lab, args, &proxy, tls) {
                Ok((base, bytes, closed)) => table.row(vec![
                    proxy.name.to_owned(),
                    if tls { "TLS" } else { "plain" }.to_owned(),
                    format!("{:.1}", base as f64 / 1_048_576.0),
                    format!("{bytes:.0}"),
                    closed.to_string(),
                ]),
                Err(error) => eprintln!("{}: {error:#}", proxy.name),
            }
        }
    }
    table.print();
    Ok(())
}

/// Pss before, growth per connection, and how many connections the proxy closed.
fn measure(lab: &Lab, args: &IdleArgs, proxy: &Running, tls: bool) -> Result<(u64, f64, u64)> {
    let addr = if tls { proxy.https } else { proxy.http };
    let mut client_args = vec![format!("--addr={addr}"), format!("--connections={}", args.connections)];
    if tls {
        client_args.push(format!("--ca={}", lab.certs.ca.display()));
    }
    let base = tree_pss(proxy.process.pid())?;
    let mut client = lab.start_client(Client::Idle, &client_args)?;
    let measured = hold(&mut client, || {
        std::thread::sleep(Duration::from_secs(args.settle));
        tree_pss(proxy.process.pid())
    });
    let (loaded, outcome) = match measured {
        Ok(both) => both,
        Err(error) => {
            client.kill()?;
            client.wait()?;
            return Err(error);
        }
    };
    client.wait()?;
    let growth = loaded as f64 - base as f64;
    Ok((base, growth / args.connections as f64, outcome.errors))
}

/// Waits for the client's `ready`, does `work`, lets the client go and reads what it saw.
fn hold<T>(client: &mut Child, work: impl FnOnce() -> Result<T>) -> Result<(T, Outcome)> {
    let mut output = BufReader::new(client.stdout.take().context("the client's output")?);
    let mut line = String::new();
    output.read_line(&mut line)?;
    if line.trim() != "ready" {
        bail!("the connections could not be opened");
    }
    let value = work()?;
    let mut input = client.stdin.take().context("the client's input")?;
    input.write_all(b"\n")?;
    line.clear();
    output.read_line(&mut line)?;
    Ok((
        value,
        serde_json::from_str(line.trim()).context("the client printed no outcome")?,
    ))
}
