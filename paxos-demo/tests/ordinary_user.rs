//! Replicas that are an ordinary user's and hold no capabilities: the kernel works for them all the same, and
//! nothing is left of them.
#![cfg(feature = "ebpf")]

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{privileged, program, start, wait_for};
use electrode::fabric::{Fabric, FabricConfig, NetNs};
use electrode::inspect;
use paxos_demo::cli::{BackendChoice, TcChoice};
use paxos_demo::cluster::{Cluster, Spec};
use paxos_demo::config::ClusterConfig;
use paxos_demo::node::NodeStatus;
use paxos_demo::status::RoleName;

/// One test at a time: one that starts a process lends it all descriptors for a moment, and a program that somebody still
/// has open for writing, as `Site::new` has, cannot be executed.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const USER: &str = "nobody";
/// How long the dead are waited for.
const ANSWER: Duration = Duration::from_millis(200);
const NONE: &str = "0000000000000000";

fn nobody() -> u32 {
    nix::unistd::User::from_name(USER).unwrap().expect("every system has it").uid.as_raw()
}

/// A field of the status of each of a process's threads.
fn in_all_threads(pid: u32, field: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let value = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.expect("the field").trim().to_owned()
    };
    tasks.map(|task| value(task.unwrap())).collect()
}

/// An ordinary user's, with nothing in any thread.
fn assert_unprivileged(pid: u32) {
    let uid = nobody().to_string();
    for ids in in_all_threads(pid, "Uid") {
        assert!(ids.split_whitespace().all(|id| id == uid), "{ids}");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        let sets = in_all_threads(pid, set);
        assert!(sets.len() > 1 && sets.iter().all(|set| set == NONE), "{set}: {sets:?}");
    }
    assert!(in_all_threads(pid, "NoNewPrivs").iter().all(|value| value == "1"));
}

/// Those that this kernel has.
fn mechanisms() -> Vec<TcChoice> {
    let tcx = electrode::probe::kernel_version().is_some_and(|version| version >= electrode::probe::TCX);
    if tcx { vec![TcChoice::Tcx, TcChoice::Clsact] } else { vec![TcChoice::Clsact] }
}

fn spec(tc: TcChoice) -> Spec {
    let mut spec = Spec::new(3).unwrap();
    spec.program = program();
    spec.backend = BackendChoice::Ebpf;
    spec.tc = tc;
    spec.user = Some(USER.to_owned());
    spec
}

/// What those of the group say of themselves that are alive.
fn statuses(cluster: &Cluster, alive: usize) -> Vec<NodeStatus> {
    wait_for("all who are alive to answer", || {
        let statuses = cluster.statuses(ANSWER).unwrap();
        let answers: Vec<_> = statuses.into_iter().flatten().collect();
        (answers.len() == alive).then_some(answers)
    })
}

fn verdicts(statuses: &[NodeStatus], name: &str) -> Vec<u64> {
    statuses.iter().map(|status| status.node.verdicts.get(name).copied().unwrap_or(0)).collect()
}

/// Rounds whose quorum the kernel has counted, whether their leader slept and was woken or looked by itself.
fn quorums(statuses: &[NodeStatus]) -> u64 {
    ["pass_quorum", "drop_quorum_quiet"].iter().flat_map(|name| verdicts(statuses, name)).sum()
}

fn leader(cluster: &Cluster) -> Option<usize> {
    let statuses = cluster.statuses(ANSWER).unwrap();
    let leads = statuses.iter().flatten().filter(|status| status.replica.role == RoleName::Leader);
    leads.max_by_key(|status| status.replica.view).map(|status| status.replica.id.index())
}

/// Requests until the kernel has acknowledged for all followers that are alive, and counted a quorum.
fn commit_through_the_kernel(cluster: &Cluster, key: &str, alive: usize) {
    let before = statuses(cluster, alive);
    let mut client = cluster.client().unwrap();
    let mut number = 0u64;
    wait_for("acks and quorums by the kernel", || {
        number += 1;
        let value = number.to_string();
        // A new leader may not have been found yet.
        client.put(key.as_bytes(), value.as_bytes()).ok()?;
        assert_eq!(client.get(key.as_bytes()).ok()?.as_deref(), Some(value.as_bytes()));
        let now = statuses(cluster, alive);
        let acks = verdicts(&now, "tx_ack").into_iter().zip(verdicts(&before, "tx_ack"));
        let followers = acks.filter(|(now, before)| now > before).count();
        (followers >= alive - 1 && quorums(&now) > quorums(&before)).then_some(())
    });
}

fn left_on(netns: &NetNs) -> Vec<String> {
    let attachments = netns.run(|| inspect::attachments().unwrap()).unwrap();
    let qdiscs = netns.command("tc").args(["qdisc", "show"]).output().unwrap();
    let qdiscs = String::from_utf8(qdiscs.stdout).unwrap();
    let clsact = qdiscs.lines().filter(|line| line.contains("clsact")).map(str::to_owned);
    attachments.iter().map(ToString::to_string).chain(clsact).collect()
}

#[test]
fn replicas_of_an_ordinary_user_work_and_leave_nothing() {
    if !privileged("replicas_of_an_ordinary_user_work_and_leave_nothing") {
        return;
    }
    let _alone = alone();
    for tc in mechanisms() {
        let mut cluster = start(spec(tc));
        let pids: Vec<u32> = (0..3).map(|id| cluster.pid(id).unwrap()).collect();
        pids.iter().for_each(|pid| assert_unprivileged(*pid));
        for pid in &pids {
            // Whoever is root to begin with can empty that as well.
            assert!(in_all_threads(*pid, "CapBnd").iter().all(|set| set == NONE));
        }
        let host = |id| cluster.fabric().expect("virtual hosts").host(id).netns().path();
        let hosts: Vec<_> = (0..3).map(|id| NetNs::open(&host(id)).unwrap()).collect();
        for netns in &hosts {
            let (mechanism, shown) = (tc.as_str(), left_on(netns));
            assert!(shown.iter().any(|line| line.contains(mechanism)), "no {mechanism} in {shown:?}");
        }
        commit_through_the_kernel(&cluster, "first", 3);

        // A view change: freeze, drain, a new opening. Both that are left must be in it.
        let dead = wait_for("a leader", || leader(&cluster));
        cluster.kill(dead).unwrap();
        wait_for("nothing is left of the one that was killed", || {
            left_on(&hosts[dead]).is_empty().then_some(())
        });
        wait_for("another leader", || leader(&cluster).filter(|leader| *leader != dead));
        commit_through_the_kernel(&cluster, "second", 2);

        for (id, pid) in pids.iter().enumerate().filter(|(id, _)| *id != dead) {
            assert_unprivileged(*pid);
            // SAFETY: numbers; the process was started here and has not been reaped.
            assert_eq!(unsafe { libc::kill(*pid as i32, libc::SIGTERM) }, 0);
            wait_for("its end", || cluster.has_ended(id).then_some(()));
            assert_eq!(left_on(&hosts[id]), [""; 0], "{tc:?}: after an end in order");
        }
    }
}

/// A program that any user can execute, wherever this one was built, and a data directory.
struct Site {
    fabric: Fabric,
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;

        let fabric = Fabric::new(FabricConfig { hosts: 3, ..FabricConfig::default() }).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::copy(program(), dir.path().join("paxos-demo")).unwrap();
        let addresses = fabric.hosts().iter().map(|host| SocketAddr::new(host.addr(), 7100)).collect();
        ClusterConfig::new(1, addresses).save(&dir.path().join("cluster.toml")).unwrap();
        Self { fabric, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A data directory of this user's.
    fn data_dir(&self, name: &str, uid: u32) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(uid), Some(uid)).unwrap();
        path
    }

    /// `paxos-demo replica` on host 0, by way of `setpriv` with these arguments.
    fn replica(&self, setpriv: &[&str], data_dir: &Path, more: &[&str]) -> Command {
        let mut command = self.fabric.host(0).netns().command("setpriv");
        command.args(setpriv).arg("--").arg(self.path("paxos-demo")).args([
            "replica",
            "--id",
            "0",
            "--bootstrap",
        ]);
        command.args(["--backend", "ebpf"]).arg("--config").arg(self.path("cluster.toml"));
        command.arg("--data-dir").arg(data_dir).args(more).stdin(Stdio::null());
        command
    }

    fn refusal(&self, setpriv: &[&str], data_dir: &Path, more: &[&str]) -> String {
        let Output { status, stderr, .. } = self.replica(setpriv, data_dir, more).output().unwrap();
        assert_eq!(status.code(), Some(1));
        String::from_utf8(stderr).unwrap()
    }
}

/// A replica that has opened its endpoint. Killed if it is still there in the end, whatever the test made of it.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Self {
        let mut running = Self(command.stdout(Stdio::piped()).spawn().unwrap());
        let mut line = String::new();
        let mut output = std::io::BufReader::new(running.0.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        assert!(line.contains("backend ebpf"), "{line}");
        // It says so just before it drops them.
        wait_for("no capabilities", || {
            in_all_threads(running.pid(), "CapPrm").iter().all(|set| set == NONE).then_some(())
        });
        running
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn end_in_order(mut self) {
        // SAFETY: numbers; the process was started here and has not been reaped.
        assert_eq!(unsafe { libc::kill(self.pid() as i32, libc::SIGTERM) }, 0);
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As a service manager starts it: an ordinary user's from the first instruction, with ambient capabilities.
#[test]
fn ambient_capabilities_are_used_and_dropped() {
    if !privileged("ambient_capabilities_are_used_and_dropped") {
        return;
    }
    let _alone = alone();
    let site = Site::new();
    let uid = nobody();
    let as_nobody = [
        "--reuid".to_owned(),
        uid.to_string(),
        "--regid".to_owned(),
        uid.to_string(),
        "--clear-groups".to_owned(),
    ];
    let as_nobody: Vec<&str> = as_nobody.iter().map(String::as_str).collect();
    let with = |capabilities: &'static str| {
        [&as_nobody[..], &["--inh-caps", capabilities, "--ambient-caps", capabilities]].concat()
    };
    for tc in mechanisms().into_iter().map(TcChoice::as_str) {
        let data = site.data_dir(tc, uid);
        let all = with("+bpf,+net_admin,+perfmon");
        let replica = Running::start(site.replica(&all, &data, &["--tc", tc]));
        assert_unprivileged(replica.pid());
        replica.end_in_order();
        assert_eq!(left_on(site.fabric.host(0).netns()), [""; 0], "{tc}");
    }

    // One that is missing is named; without any, too.
    let data = site.data_dir("data", uid);
    let refusal = site.refusal(&with("+bpf,+net_admin"), &data, &[]);
    assert!(refusal.contains("CAP_PERFMON") && !refusal.contains("CAP_NET_ADMIN,"), "{refusal}");
    let refusal = site.refusal(&as_nobody, &data, &[]);
    assert!(refusal.contains("CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"), "{refusal}");
    // Nobody but root becomes somebody else.
    let refusal = site.refusal(&as_nobody, &data, &["--user", "daemon"]);
    assert!(refusal.contains("only root") && refusal.contains(USER), "{refusal}");
}

#[test]
fn a_directory_of_somebody_else_is_refused_at_start() {
    if !privileged("a_directory_of_somebody_else_is_refused_at_start") {
        return;
    }
    let _alone = alone();
    let site = Site::new();
    let roots = site.data_dir("roots", 0);
    let refusal = site.refusal(&[], &roots, &["--user", USER]);
    for part in [USER, "chown", &roots.display().to_string()] {
        assert!(refusal.contains(part), "no {part} in {refusal}");
    }
    let refusal = site.refusal(&[], &roots, &["--user", "no-such-user"]);
    assert!(refusal.contains("no-such-user"), "{refusal}");
    assert_eq!(left_on(site.fabric.host(0).netns()), [""; 0]);
}

/// `--user` of whoever is that user already, in part: nothing is left of who it was.
#[test]
fn an_effective_user_is_made_a_real_one() {
    if !privileged("an_effective_user_is_made_a_real_one") {
        return;
    }
    let _alone = alone();
    let site = Site::new();
    let uid = nobody();
    let data = site.data_dir("data", uid);
    // As a program with the set-user-id bit runs: the real user is root, and root's groups came along.
    let euid = uid.to_string();
    let setpriv = ["--ruid", "0", "--euid", &euid, "--groups", "4,27"];
    let replica = Running::start(site.replica(&setpriv, &data, &["--user", USER]));
    assert_unprivileged(replica.pid());
    for groups in in_all_threads(replica.pid(), "Groups") {
        assert!(groups.split_whitespace().all(|group| group != "4" && group != "27"), "{groups}");
    }
    replica.end_in_order();
}

/// Root gives away what it has just made, and nothing that somebody put in its place.
#[test]
fn what_was_there_before_is_not_given_away() {
    use std::os::unix::fs::{MetadataExt, symlink};

    if !privileged("what_was_there_before_is_not_given_away") {
        return;
    }
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let [made, treasure, link, twin] = ["made", "treasure", "link", "twin"].map(|name| dir.path().join(name));
    let owner = |path: &Path| std::fs::symlink_metadata(path).unwrap().uid();
    std::fs::create_dir(&made).unwrap();
    std::fs::create_dir(&treasure).unwrap();
    symlink(&treasure, &link).unwrap();
    paxos_demo::privileges::give_to(USER, &made).unwrap();
    assert_eq!(owner(&made), nobody());
    // It is not ours any more.
    paxos_demo::privileges::give_to("root", &made).expect_err("somebody else's");
    paxos_demo::privileges::give_to(USER, &link).expect_err("a link");
    std::fs::write(dir.path().join("secret"), "x").unwrap();
    std::fs::hard_link(dir.path().join("secret"), &twin).unwrap();
    paxos_demo::privileges::give_to(USER, &twin).expect_err("another name of a file");
    assert_eq!((owner(&treasure), owner(&link), owner(&twin)), (0, 0, 0));

    // The same for a cluster whose directory somebody else prepared.
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    symlink(&treasure, data.join("replica-0")).unwrap();
    let spec = Spec { data_dir: Some(data.clone()), backend: BackendChoice::Udp, ..spec(TcChoice::Auto) };
    let error = Cluster::start(spec, &paxos_demo::stop::Stop::default()).expect_err("replica 0 may not");
    assert!(error.to_string().contains("chown"), "{error}");
    assert_eq!(owner(&treasure), 0);
    assert_eq!(owner(&data.join("replica-1")), nobody());
}
