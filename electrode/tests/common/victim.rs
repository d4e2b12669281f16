//! An endpoint in a process of its own, which is killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use electrode::Endpoint;
use electrode::config::{Backend, EndpointConfig, Hook, TcMechanism};
use electrode::fabric::{Fabric, netns};
use electrode::types::{OpNumber, ReplicaId, View};

use super::group::members;

/// How its programs are attached.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    Tcx,
    Clsact,
    Xdp,
    XdpGeneric,
}

pub const ATTACHMENTS: [Attachment; 4] =
    [Attachment::Tcx, Attachment::Clsact, Attachment::Xdp, Attachment::XdpGeneric];

/// Those that this kernel has.
pub fn attachments() -> Vec<Attachment> {
    ATTACHMENTS.into_iter().filter(|a| super::tcx() || *a != Attachment::Tcx).collect()
}

impl Attachment {
    /// Whether it takes filters on a clsact qdisc, and so a guard: what leaves meets one wherever there is no tcx.
    pub fn has_guard(self) -> bool {
        self == Self::Clsact || !super::tcx()
    }
}

/// Member `me`, all offloads on.
pub fn config(members: Vec<SocketAddr>, me: usize, attachment: Attachment) -> EndpointConfig {
    let mut config = EndpointConfig::new(members, ReplicaId(me as u8));
    config.backend = Backend::Ebpf;
    (config.log_slots, config.quorum_window) = (64, 64);
    match attachment {
        Attachment::Tcx => config.tc = TcMechanism::Tcx,
        Attachment::Clsact => config.tc = TcMechanism::Clsact,
        Attachment::Xdp => config.hook = Hook::Xdp,
        Attachment::XdpGeneric => config.hook = Hook::XdpGeneric,
    }
    config
}

const NETNS: &str = "ELECTRODE_TEST_NETNS";
const ATTACHMENT: &str = "ELECTRODE_TEST_ATTACHMENT";
const MEMBERS: &str = "ELECTRODE_TEST_MEMBERS";
const ME: &str = "ELECTRODE_TEST_ME";
const READY: &str = "READY";

/// The process that is killed; the test binary calls this in a test named `process_with_an_endpoint` that is ignored.
pub fn run() {
    let Some(path) = std::env::var_os(NETNS) else { return };
    let said = |name| std::env::var(name).unwrap();
    let attachment = ATTACHMENTS.into_iter().find(|a| format!("{a:?}") == said(ATTACHMENT)).unwrap();
    let list = said(MEMBERS).split(',').map(|m| m.parse().unwrap()).collect();
    netns::enter_path(path.as_ref()).unwrap();
    let mut endpoint = Endpoint::open(config(list, said(ME).parse().unwrap(), attachment)).unwrap();
    endpoint.gate().follow(View(0), ReplicaId(0), OpNumber(0)).unwrap();
    println!("{READY}");
    std::io::stdout().flush().unwrap();
    // Until it is killed, or the test that started it is gone.
    std::thread::spawn(|| {
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        std::process::exit(0);
    });
    loop {
        endpoint.elec_poll_message(64, &mut |_| ()).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// That process, with its gate open.
pub struct Victim(Child);

impl Victim {
    /// Starts member `me` of `n` at host `me`.
    pub fn start(fabric: &Fabric, n: usize, me: usize, attachment: Attachment) -> Self {
        let list: Vec<_> = members(fabric, n).iter().map(ToString::to_string).collect();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process_with_an_endpoint", "--ignored", "--nocapture"])
            .env(NETNS, fabric.host(me).netns().path())
            .env(ATTACHMENT, format!("{attachment:?}"))
            .env(MEMBERS, list.join(","))
            .env(ME, me.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Self(child);
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(READY)), "the child has no endpoint");
        child
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Kills its guards first, so that nobody removes what it leaves. It must have one: only with filters it does.
    pub fn kill_guards(&self) {
        let guards = guards_of(self.pid());
        assert!(!guards.is_empty(), "there is no guard that could be killed");
        for guard in guards {
            // SAFETY: numbers; a child of a process that we started and that has not waited for it.
            assert_eq!(unsafe { libc::kill(guard as i32, libc::SIGKILL) }, 0);
            // It is a zombie from when on it does nothing more.
            super::hosts::wait_until("the guard's end", || !guards_of(self.pid()).contains(&guard));
        }
    }

    pub fn kill(mut self) {
        self.0.kill().unwrap();
        assert_eq!(self.0.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Fails only if it is dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The living guards of a process: its children of that name.
pub fn guards_of(pid: u32) -> Vec<u32> {
    guards(pid, false)
}

/// The same, and those that have ended and were not waited for.
pub fn guards_even_dead(pid: u32) -> Vec<u32> {
    guards(pid, true)
}

fn guards(pid: u32, even_dead: bool) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_guard = |id: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // `id (name) state parent ...`
        let Some((name, rest)) = stat.rsplit_once(") ") else { return false };
        let mut rest = rest.split(' ');
        let (state, parent) = (rest.next(), rest.next());
        let counts = even_dead || state != Some("Z");
        name.ends_with("(elec-guard") && counts && parent == Some(&pid.to_string())
    };
    ids.filter(is_guard).collect()
}
