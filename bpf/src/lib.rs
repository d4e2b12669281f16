//! The generated skeleton and ABI types, nothing else.
