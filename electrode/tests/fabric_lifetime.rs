//! Namespaces and fabrics: where threads and processes end up, and that nothing outlives its owner.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use common::hosts::{fabric, has_interface, interfaces, wait_until};
use common::privileged;
use electrode::fabric::{Fabric, Family, NetNs, netns};
use netlink_sys::protocols::NETLINK_ROUTE;

#[test]
fn threads_and_commands_run_inside() {
    if !privileged("threads_and_commands_run_inside") {
        return;
    }
    let outside = NetNs::current().unwrap().inode().unwrap();
    let namespace = NetNs::new().unwrap();
    let inside = namespace.inode().unwrap();
    assert_ne!(inside, outside);
    assert_eq!(namespace.run(|| NetNs::current().unwrap().inode().unwrap()).unwrap(), inside);
    // By path, as a child would; on a thread of its own, for there is no way back.
    let path = namespace.path();
    let by_path = std::thread::spawn(move || {
        netns::enter_path(&path).unwrap();
        NetNs::current().unwrap().inode().unwrap()
    });
    assert_eq!(by_path.join().unwrap(), inside);
    assert_eq!(NetNs::current().unwrap().inode().unwrap(), outside);

    let output = namespace.command("readlink").arg("/proc/self/ns/net").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), format!("net:[{inside}]"));
    // What is no network namespace is refused.
    assert!(netns::enter_path("/proc/self/ns/mnt".as_ref()).is_err());
}

#[test]
fn a_panic_inside_goes_on_outside() {
    if !privileged("a_panic_inside_goes_on_outside") {
        return;
    }
    let namespace = NetNs::new().unwrap();
    let caught = std::panic::catch_unwind(|| namespace.run(|| panic!("inside")));
    assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "inside");
}

/// A process that would outlive the test by far, but not keep its output open or stay for ever.
fn sleep(namespace: &NetNs) -> Child {
    namespace.command("sleep").arg("120").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_command_dies_with_the_thread_that_started_it() {
    if !privileged("a_command_dies_with_the_thread_that_started_it") {
        return;
    }
    let namespace = NetNs::new().unwrap();
    let start = || sleep(&namespace);
    let mut child = KillOnDrop(std::thread::scope(|scope| scope.spawn(start).join().unwrap()));
    wait_until("the child dies", || !is_running(child.0.id()));
    assert_eq!(child.0.wait().unwrap().signal(), Some(libc::SIGKILL));
}

/// Hears of every change of a link in a namespace.
struct LinkWatch(netlink_sys::Socket);

impl LinkWatch {
    fn new(namespace: &NetNs) -> Self {
        const RTMGRP_LINK: u32 = 1;
        let socket = namespace.run(|| netlink_sys::Socket::new(NETLINK_ROUTE)).unwrap().unwrap();
        let mut socket = socket;
        socket.bind(&netlink_sys::SocketAddr::new(0, RTMGRP_LINK)).unwrap();
        socket.set_non_blocking(true).unwrap();
        Self(socket)
    }

    /// Whether a link of this name was heard of since the last call.
    fn heard_of(&self, name: &str) -> bool {
        let mut heard = false;
        let name = [name.as_bytes(), b"\0"].concat();
        while let Ok((message, _)) = self.0.recv_from_full() {
            heard |= message.windows(name.len()).any(|window| window == name);
        }
        heard
    }
}

#[test]
fn nothing_is_made_in_the_namespace_of_the_caller() {
    if !privileged("nothing_is_made_in_the_namespace_of_the_caller") {
        return;
    }
    let own = NetNs::new().unwrap();
    let watch = LinkWatch::new(&own);
    own.run(|| {
        let fabric = fabric(2, Family::V6);
        let names = |namespace| interfaces(namespace).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        for name in ["switch0", "port0", "port1"] {
            assert!(names(fabric.switch()).iter().any(|n| n == name), "no {name} in the switch");
        }
        for name in ["switch0", "port0", "port1", "eth0"] {
            assert!(!names(&own).iter().any(|n| n == name), "{name} in the namespace of the caller");
            assert!(!watch.heard_of(name), "{name} was in the namespace of the caller for a moment");
        }
        // The watch would have seen it.
        let watch = LinkWatch::new(fabric.switch());
        fabric.set_host_link(1, false).unwrap();
        assert!(watch.heard_of(&fabric.port_name(1)));
    })
    .unwrap();
}

const PLUG: &str = "plug";

/// Puts a cable between the switch and another namespace, which thereby sees when the switch is gone.
fn plug_into(fabric: &Fabric, witness: &NetNs) {
    let plug = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            let cable = rtnetlink::LinkVeth::new(PLUG, "socket").setns_by_fd(witness.as_fd().as_raw_fd());
            handle.link().add(cable.build()).execute().await.unwrap();
        });
    };
    fabric.switch().run(plug).unwrap();
    assert!(has_interface(witness, PLUG));
}

#[test]
fn after_drop_the_kernel_removes_it() {
    if !privileged("after_drop_the_kernel_removes_it") {
        return;
    }
    let witness = NetNs::new().unwrap();
    let fabric = fabric(3, Family::V4);
    plug_into(&fabric, &witness);
    drop(fabric);
    wait_until("the switch goes", || !has_interface(&witness, PLUG));
}

#[test]
fn a_straggler_is_cut_off() {
    if !privileged("a_straggler_is_cut_off") {
        return;
    }
    let fabric = fabric(2, Family::V4);
    // Keeps its namespace alive, as a process in it would.
    let straggler = NetNs::open(&fabric.host(0).netns().path()).unwrap();
    assert!(has_interface(&straggler, "eth0"));
    drop(fabric);
    wait_until("the cable goes", || !has_interface(&straggler, "eth0"));
}

const WITNESS: &str = "ELECTRODE_TEST_WITNESS";
const READY: &str = "READY ";

/// Not a test: the process that `sigkill_leaves_nothing` kills.
#[test]
#[ignore = "started by sigkill_leaves_nothing"]
fn process_with_a_fabric() {
    let Some(witness) = std::env::var_os(WITNESS) else { return };
    let fabric = fabric(3, Family::V4);
    plug_into(&fabric, &NetNs::open(witness.as_ref()).unwrap());
    let mut inmate = sleep(fabric.host(0).netns());
    println!("{READY}{}", inmate.id());
    std::io::stdout().flush().unwrap();
    // Ends, too, when the test that started it dies.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    inmate.kill().unwrap();
    inmate.wait().unwrap();
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // Fails only if it is dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_running(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The state follows the name, which is in parentheses. A zombie has let go of everything.
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    !rest.starts_with(['Z', 'X'])
}

#[test]
fn sigkill_leaves_nothing() {
    if !privileged("sigkill_leaves_nothing") {
        return;
    }
    let witness = NetNs::new().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process_with_a_fabric", "--ignored", "--nocapture"])
        .env(WITNESS, witness.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = KillOnDrop(child);
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let inmate = lines
        .map(|line| line.unwrap())
        .find_map(|line| line.split_once(READY).map(|(_, pid)| pid.trim().parse::<u32>().unwrap()))
        .expect("the child has its fabric");
    assert!(has_interface(&witness, PLUG));
    assert!(is_running(inmate));

    child.0.kill().unwrap();
    assert_eq!(child.0.wait().unwrap().signal(), Some(libc::SIGKILL));
    wait_until("the process in host 0 dies", || !is_running(inmate));
    wait_until("the switch goes", || !has_interface(&witness, PLUG));
}
