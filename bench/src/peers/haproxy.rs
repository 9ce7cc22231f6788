//! `HAProxy`: one thread, hosts by a map file, `http-reuse always`. Its access log goes to standard output, which is
//! a file here: it cannot open a log file itself.

use std::path::Path;

use anyhow::Result;

use super::Site;
use crate::procs::Launch;

pub(super) fn launch(site: &Site<'_>, program: &Path) -> Result<Launch> {
    let map: Vec<String> = site.lab.hosts.iter().map(|host| format!("{host} echo\n")).collect();
    site.write("hosts.map", &map.concat())?;
    let config = site.write("haproxy.cfg", &config(site))?;
    Ok(site.launch("haproxy", program, vec!["-db".into(), "-f".into(), config.into()]))
}

fn config(site: &Site<'_>) -> String {
    let lab = site.lab;
    let (target, format, stream_format) = if lab.access_log {
        (
            "    log stdout format raw local0 info\n",
            "    option httplog\n",
            "    option tcplog\n",
        )
    } else {
        ("", "", "")
    };
    format!(
        "global\n{target}    nbthread 1\n    maxconn {maxconn}\n    tune.ssl.default-dh-param 2048\n    \
         ssl-default-bind-options ssl-min-ver TLSv1.3\n\
         defaults\n    mode http\n    log global\n{format}    http-reuse always\n    option forwardfor\n    \
         timeout client 75s\n    timeout http-keep-alive 75s\n    timeout server 75s\n    timeout connect 5s\n\
         frontend main\n    bind {http}\n    \
         bind {https} ssl crt {bundle} alpn h2,http/1.1 curves X25519\n    \
         http-request set-header X-Real-IP %[src]\n    \
         http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]\n    \
         http-request set-header X-Forwarded-Host %[req.hdr(host)]\n    \
         http-request set-header X-Forwarded-Port %[dst_port]\n    \
         http-request set-header X-Request-ID %[rand,hex]\n    \
         use_backend %[req.hdr(host),field(1,:),lower,map({map})]\n\
         backend echo\n    server echo {backend} pool-max-conn -1 pool-purge-delay 60s\n\
         defaults\n    mode tcp\n    log global\n{stream_format}    timeout client 60s\n    timeout server 60s\n    \
         timeout connect 5s\n\
         listen stream\n    bind {stream}\n    server echo {backend}\n",
        maxconn = (lab.open_files / 2).saturating_sub(500).min(16_000),
        stream = site.stream,
        http = site.http,
        https = site.https,
        bundle = lab.certs.bundle.display(),
        map = site.path_text("hosts.map"),
        backend = lab.backend_addr,
    )
}
