//! The one test that a speed decides: eBPF must be faster than kernel UDP, by a floor that is far below what it reaches
//! (README.md). A ratio of runs beside each other, so that a slow machine is slow for both.
#![cfg(feature = "ebpf")]

mod common;

use std::process::Command;

use common::{privileged, program};

/// Ratio of requests a second, 5 replicas, 16 clients, one request a Prepare.
const FLOOR: &str = "1.2";

#[test]
fn ebpf_is_faster_than_sockets() {
    if !privileged("ebpf_is_faster_than_sockets") {
        return;
    }
    let output = Command::new(program())
        .args(["bench", "--replicas", "5", "--clients", "16", "--backends", "udp,ebpf"])
        .args(["--seconds", "1", "--repeat", "3", "--at-least", FLOOR])
        .output()
        .unwrap();
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{text}");
    // For whoever reads the log.
    println!("{text}");
}
