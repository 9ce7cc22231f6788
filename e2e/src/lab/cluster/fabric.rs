//! Network namespaces and the one bridge between them, which is also the router.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::{Cluster, namespace_name, run};

/// The last parts of addresses: `10.99.0.N` and `fd00:99::N`.
pub(super) const CONTROL_PLANE: u8 = 1;
const CLIENT: u8 = 100;
const ROUTER: u8 = 254;

/// The namespace of the bridge.
const FABRIC: &str = "fab";

pub(super) fn ipv4(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, last)
}

/// Written with the same digits as the IPv4 address: `fd00:99::13` beside `10.99.0.13`.
pub(super) fn ipv6(last: u8) -> Ipv6Addr {
    let (hundreds, tens, ones) = (u16::from(last / 100), u16::from(last / 10 % 10), u16::from(last % 10));
    Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, hundreds * 0x100 + tens * 0x10 + ones)
}

impl Cluster {
    /// The bridge, and a namespace each for the control plane, the client and the nodes.
    pub(super) fn make_fabric(&self) -> Result<()> {
        self.make_bridge()?;
        self.make_host("cp", CONTROL_PLANE)?;
        self.make_host("cl", CLIENT)?;
        for node in self.nodes() {
            self.make_host(&node.place, node.ipv4.octets()[3])?;
        }
        Ok(())
    }

    /// The places whose routes must know the networks of Pods.
    pub(super) fn places(&self) -> Vec<String> {
        let fixed = ["cp", "cl", FABRIC].map(str::to_owned).into_iter();
        fixed.chain(self.nodes().into_iter().map(|node| node.place)).collect()
    }

    /// Runs lines of `ip` in one namespace.
    pub(super) fn ip(&self, place: &str, lines: &[String]) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &namespace_name(&self.plan.name, place), "-batch", "-"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("running ip (package iproute2)")?;
        let mut input = child.stdin.take().context("ip reads its lines from a pipe")?;
        std::io::Write::write_all(&mut input, lines.join("\n").as_bytes()).context("writing to ip")?;
        drop(input);
        let output = child.wait_with_output().context("waiting for ip")?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ip in {place}: {}: {lines:?}", text.trim());
        Ok(())
    }

    fn make_bridge(&self) -> Result<()> {
        self.make_namespace(FABRIC)?;
        let mut lines = vec![
            "link add br0 type bridge".to_owned(),
            "link set br0 up".to_owned(),
            format!("addr add {}/24 dev br0", ipv4(ROUTER)),
        ];
        if self.plan.dual_stack {
            lines.push(format!("addr add {}/64 dev br0 nodad", ipv6(ROUTER)));
        }
        self.ip(FABRIC, &lines)
    }

    /// A namespace with an interface `eth0` on the bridge.
    fn make_host(&self, place: &str, last: u8) -> Result<()> {
        self.make_namespace(place)?;
        let peer = namespace_name(&self.plan.name, place);
        let cable = [
            format!("link add v-{place} type veth peer name eth0 netns {peer}"),
            format!("link set v-{place} master br0 up"),
        ];
        self.ip(FABRIC, &cable)?;
        let mut lines = vec![
            format!("addr add {}/24 dev eth0", ipv4(last)),
            "link set eth0 up".to_owned(),
            format!("route add default via {}", ipv4(ROUTER)),
        ];
        if self.plan.dual_stack {
            lines.push(format!("addr add {}/64 dev eth0 nodad", ipv6(last)));
            lines.push(format!("route add default via {}", ipv6(ROUTER)));
        }
        self.ip(place, &lines)
    }

    fn make_namespace(&self, place: &str) -> Result<()> {
        run(Command::new("ip").args(["netns", "add", &namespace_name(&self.plan.name, place)]))?;
        self.ip(place, &["link set lo up".to_owned()])?;
        let mut settings = vec!["net/ipv4/ip_forward=1"];
        if self.plan.dual_stack {
            // Without the detection of duplicates addresses can be used at once.
            settings.extend([
                "net/ipv6/conf/all/forwarding=1",
                "net/ipv6/conf/all/accept_dad=0",
                "net/ipv6/conf/default/accept_dad=0",
            ]);
        }
        for setting in settings {
            let (name, value) = setting.split_once('=').context("a setting has a value")?;
            run(self
                .exec(place, "sh")
                .args(["-c", &format!("echo {value} > /proc/sys/{name}")]))?;
        }
        Ok(())
    }
}
