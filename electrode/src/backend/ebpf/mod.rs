//! The kernel fast path.
mod layout;
mod memory;
mod object;
