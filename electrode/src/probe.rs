//! What this machine can do.
/// Whether the running kernel is at least this version.
pub(crate) fn kernel_at_least(major: u32, minor: u32) -> bool {
    kernel_version().is_some_and(|v| v >= (major, minor))
}

/// Version of the running kernel.
pub fn kernel_version() -> Option<(u32, u32)> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// What keeps this process from the kernel fast path; `None`: nothing that can be told without trying.
pub(crate) fn missing() -> Option<crate::Error> {
    None
}
