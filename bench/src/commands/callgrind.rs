//! `callgrind`: user instructions per request, which do not depend on what else the machine does.
//!
//! The proxy runs under `valgrind --tool=callgrind`. After warm-up requests the counters are written out and so
//! set to zero; after the counted requests they are written again.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::args::{CallgrindArgs, Client};
use crate::clock::wait_until;
use crate::lab::Lab;
use crate::peers::{Kind, Running, StartOptions, propylon_program, start_peer, start_propylon};
use crate::report::{Table, verdict};
use crate::tools;

/// The greatest number of user instructions per request that is accepted.
const TARGET: f64 = 32_000.0;

/// Measures and prints everything; of the peers only nginx runs well under valgrind.
///
/// # Errors
///
/// When valgrind is missing or Propylon does not serve.
pub(crate) fn run(args: &CallgrindArgs) -> Result<()> {
    tools::require(&["valgrind", "callgrind_control"])?;
    let program = propylon_program(&args.lab)?;
    let lab = Lab::new(&args.lab)?;
    println!("machine: {}", tools::machine());
    println!("valgrind: {}", tools::version(Path::new("valgrind"), "--version"));
    let mut table = Table::new(&["proxy", "kind", "instructions/request", "verdict"]);
    let mut add = |proxy: &Running, options: &StartOptions| -> Result<()> {
        println!("{}: {}", proxy.name, proxy.version);
        for tls in [false, true].into_iter().filter(|tls| args.tls || !tls) {
            let figure = measure(&lab, args, proxy, tls)?;
            let asked = proxy.name == "propylon" && !tls;
            table.row(vec![
                proxy.name.to_owned(),
                if tls { "TLS 1 KiB" } else { "HTTP/1.1 1 KiB" }.to_owned(),
                format!("{figure:.0}"),
                if asked {
                    verdict(Some(figure), TARGET, "")
                } else {
                    String::new()
                },
            ]);
        }
        keep(args, proxy, options)
    };
    if let Some(program) = &program {
        let options = options(&lab, "propylon")?;
        add(&start_propylon(&lab, program, &options)?, &options)?;
    }
    if args.lab.peers.contains(&Kind::Nginx) {
        let options = options(&lab, "nginx")?;
        let nginx = start_peer(&lab, &args.lab, Kind::Nginx, &options);
        match nginx.and_then(|nginx| nginx.map_or(Ok(()), |nginx| add(&nginx, &options))) {
            Ok(()) => {}
            Err(error) => eprintln!("nginx is left out: {error:#}"),
        }
    }
    println!();
    table.print();
    Ok(())
}

fn profile_folder(lab: &Lab, name: &str) -> Result<PathBuf> {
    lab.folder(&format!("callgrind-{name}"))
}

fn options(lab: &Lab, name: &str) -> Result<StartOptions> {
    let mut file = OsString::from("--callgrind-out-file=");
    file.push(profile_folder(lab, name)?.join("profile"));
    let wrapper = ["valgrind", "--tool=callgrind", "--quiet"]
        .into_iter()
        .map(OsString::from)
        .chain([file])
        .collect();
    Ok(StartOptions {
        wrapper,
        single_process: true,
    })
}

/// Copies the profiles out of the temporary folder if asked to.
fn keep(args: &CallgrindArgs, proxy: &Running, options: &StartOptions) -> Result<()> {
    let (Some(target), Some(out)) = (&args.keep, options.wrapper.last()) else {
        return Ok(());
    };
    fs::create_dir_all(target)?;
    let out = out.to_string_lossy();
    let folder = out.split_once('=').and_then(|(_, path)| Path::new(path).parent());
    for entry in fs::read_dir(folder.context("the folder of the profiles")?)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        fs::copy(&path, target.join(format!("{}-{name}", proxy.name)))?;
    }
    Ok(())
}

fn measure(lab: &Lab, args: &CallgrindArgs, proxy: &Running, tls: bool) -> Result<f64> {
    let addr = if tls { proxy.https } else { proxy.http };
    load(lab, args, addr, tls, args.warmup)?;
    dump(lab, proxy)?;
    load(lab, args, addr, tls, args.requests)?;
    Ok(dump(lab, proxy)? as f64 / args.requests as f64)
}

fn load(lab: &Lab, args: &CallgrindArgs, addr: SocketAddr, tls: bool, requests: usize) -> Result<()> {
    let mut client = vec![
        format!("--addr={addr}"),
        format!("--connections={}", args.connections),
        format!("--requests={requests}"),
    ];
    if tls {
        client.push(format!("--ca={}", lab.certs.ca.display()));
    }
    let outcome = lab.run_client(600, Client::Fixed, &client)?;
    if outcome.errors > 0 || outcome.requests != requests as u64 {
        bail!("{} of {requests} requests were answered", outcome.requests);
    }
    Ok(())
}

/// Writes the counters out, which sets them to zero, and gives the instructions since the last time.
fn dump(lab: &Lab, proxy: &Running) -> Result<u64> {
    let folder = profile_folder(lab, proxy.name)?;
    let before = profiles(&folder)?.len();
    let output = Command::new("callgrind_control")
        .arg("-d")
        .arg(proxy.process.pid().to_string())
        .output()?;
    if !output.status.success() {
        bail!("callgrind_control: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut found = None;
    wait_until("the profile", Duration::from_mins(1), || {
        let files = profiles(&folder)?;
        if files.len() > before
            && let Some(newest) = files.last()
        {
            found = totals(&fs::read_to_string(newest)?);
        }
        Ok(found.is_some())
    })?;
    found.context("a profile without totals")
}

/// The numbered profiles in the order they were written.
fn profiles(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path
            .extension()
            .and_then(|number| number.to_str())
            .and_then(|number| number.parse::<u32>().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn totals(text: &str) -> Option<u64> {
    text.lines()
        .rev()
        .find_map(|line| line.strip_prefix("totals: "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_stand_in_the_last_lines_of_a_profile() {
        assert_eq!(totals("events: Ir\nfn=(1)\n1 2\n\ntotals: 123456\n"), Some(123_456));
        assert_eq!(totals("events: Ir\n"), None);
    }
}
