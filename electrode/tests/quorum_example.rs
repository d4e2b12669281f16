//! The example of the crate's front page, on virtual hosts and on loopback.

mod common;
#[path = "../examples/quorum.rs"]
mod quorum;

use common::privileged;
use electrode::fabric::{Fabric, FabricConfig, FabricError};

fn output(fabric: Result<Fabric, FabricError>) -> String {
    let mut out = Vec::new();
    let result = quorum::run(fabric, &mut out);
    let text = String::from_utf8(out).unwrap();
    result.unwrap_or_else(|e| panic!("{e}\n{text}"));
    text
}

#[test]
fn one_event_on_virtual_hosts() {
    if !privileged("one_event_on_virtual_hosts") {
        return;
    }
    let text = output(Fabric::new(FabricConfig { hosts: 4, ..FabricConfig::default() }));
    assert_eq!(text.matches("event:").count(), 1, "{text}");
    assert_eq!(text.matches("holds op 1").count(), 3, "{text}");
    if cfg!(feature = "ebpf") {
        assert!(text.contains("backend ebpf, hook tc"), "{text}");
        assert!(text.contains("clone_sent 3"), "{text}");
        assert_eq!(text.matches("tx_ack 1").count(), 3, "{text}");
    }
}

#[test]
fn sockets_on_loopback_and_the_reason() {
    let text = output(Err(FabricError::Config("not wanted here".into())));
    assert!(text.contains("no virtual hosts: fabric configuration: not wanted here"), "{text}");
    assert!(text.contains("backend udp, hook none"), "{text}");
    let reason = if cfg!(feature = "ebpf") { "is on this host" } else { "no kernel programs" };
    assert!(text.contains(reason), "{text}");
    assert_eq!(text.matches("event:").count(), 1, "{text}");
}
