//! What tests on virtual hosts share.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use electrode::fabric::{Fabric, FabricConfig, Family, NetNs};

/// Far beyond what any step takes: a test that waits this long has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A fabric with nothing special about it.
pub fn fabric(hosts: usize, family: Family) -> Fabric {
    Fabric::new(FabricConfig { hosts, family, ..FabricConfig::default() }).expect("a fabric")
}

/// Names of the interfaces in a namespace and the bytes that each has sent.
pub fn interfaces(namespace: &NetNs) -> Vec<(String, u64)> {
    // Not /sys/class/net, which belongs to whoever mounted it.
    let table = namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/dev")).unwrap().unwrap();
    let line = |line: &str| {
        let (name, counters) = line.split_once(':').unwrap();
        let sent = counters.split_whitespace().nth(8).unwrap().parse().unwrap();
        (name.trim().to_string(), sent)
    };
    table.lines().skip(2).map(line).collect()
}

/// Whether a namespace has an interface of this name.
pub fn has_interface(namespace: &NetNs, name: &str) -> bool {
    interfaces(namespace).iter().any(|(n, _)| n == name)
}

/// Waits for what the kernel or another process does in its own time.
pub fn wait_until(what: &str, is_done: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_done() {
        assert!(since.elapsed() < DEADLINE, "{what}: not after {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An XDP program on every port of the switch: what native XDP on the hosts' ends of the cables needs.
#[cfg(feature = "ebpf")]
pub fn pass_stubs(fabric: &Fabric) -> Vec<electrode::PassStub> {
    let attach =
        |i| electrode::attach_pass_stub(&fabric.port_name(i)).unwrap_or_else(|e| panic!("port {i}: {e}"));
    fabric.switch().run(|| (0..fabric.hosts().len()).map(attach).collect()).unwrap()
}

/// CPUs that this process was given, as it started.
pub fn cpus() -> &'static [usize] {
    static CPUS: OnceLock<Vec<usize>> = OnceLock::new();
    CPUS.get_or_init(|| {
        // SAFETY: all-zero is an empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: room for a set, of the size that is stated. The first thread has the process's id.
        let got =
            unsafe { libc::sched_getaffinity(std::process::id() as i32, size_of_val(&set), &raw mut set) };
        assert_eq!(got, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: within the set.
        (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
    })
}

/// Keeps this thread on the process's first CPU, its second, ...: on the only one if there is one.
pub fn pin_to_cpu(which: usize) {
    let cpu = cpus()[which % cpus().len()];
    // SAFETY: all-zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: a CPU that is in the set that was read above.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: a set of the size that is stated.
    let set = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}
