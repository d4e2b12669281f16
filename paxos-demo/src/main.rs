//! Flags only.
fn main() {}
