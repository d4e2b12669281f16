//! The oldest Rust that is promised (`rust-version`) is one that every dependency in Cargo.lock builds with.
//!
//! One toolchain cannot test another. What it can tell is told here and by clippy, whose `incompatible_msrv` refuses a
//! function of the standard library that is younger than the promise.

use std::process::Command;

use serde_json::Value;

/// `1.88` and `1.88.0` alike.
fn version(text: &str) -> Vec<u32> {
    let mut parts: Vec<u32> = text.split('.').map(|part| part.parse().expect("a version")).collect();
    parts.resize(3, 0);
    parts
}

#[test]
fn no_dependency_asks_for_a_newer_rust() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1", "--all-features"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let promised = version(env!("CARGO_PKG_RUST_VERSION"));
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "{} packages are not all", packages.len());
    let newer: Vec<_> = packages
        .iter()
        .filter(|p| p["rust_version"].as_str().is_some_and(|asked| version(asked) > promised))
        .map(|p| format!("{} {} asks for {}", p["name"], p["version"], p["rust_version"]))
        .collect();
    assert!(newer.is_empty(), "rust-version is {}, but {newer:#?}", env!("CARGO_PKG_RUST_VERSION"));
}
