//! One thing a session, for a while: bounded in number and in bytes, and dropped when nobody asks for it.

use std::collections::BTreeMap;

/// What is kept has a size.
pub(super) trait Size {
    /// Bytes that count against [`Limits::bytes`].
    fn size(&self) -> usize;
}

/// How much is kept.
#[derive(Debug)]
pub(super) struct Limits {
    pub entries: usize,
    /// Of all entries together. One alone may be larger.
    pub bytes: usize,
    /// After so much silence of its session one is dropped.
    pub idle_ns: u64,
}

#[derive(Debug)]
struct Entry<T> {
    request: u64,
    value: T,
    used_at: u64,
}

/// At most one value a session, of one of its requests. Whoever was silent for the longest time makes room.
#[derive(Debug)]
pub(super) struct Kept<T> {
    /// Ordered, so that the same history drops the same entries wherever it is replayed.
    by_client: BTreeMap<u64, Entry<T>>,
    bytes: usize,
    limits: Limits,
}

impl<T: Size> Kept<T> {
    pub fn new(limits: Limits) -> Self {
        Self { by_client: BTreeMap::new(), bytes: 0, limits }
    }

    /// Keeps a value in place of the one that the session had.
    pub fn insert(&mut self, now: u64, client: u64, request: u64, value: T) {
        self.remove(client);
        while self.by_client.len() >= self.limits.entries {
            self.drop_idle(client);
        }
        self.make_room(client, value.size());
        self.bytes += value.size();
        self.by_client.insert(client, Entry { request, value, used_at: now });
    }

    /// The request whose value the session has.
    pub fn request(&self, client: u64) -> Option<u64> {
        self.by_client.get(&client).map(|entry| entry.request)
    }

    /// The value of this very request.
    pub fn get(&mut self, now: u64, client: u64, request: u64) -> Option<&T> {
        let entry = self.by_client.get_mut(&client).filter(|entry| entry.request == request)?;
        entry.used_at = now;
        Some(&entry.value)
    }

    /// Lets the value grow by up to `more` bytes, for which others may have to go.
    pub fn grow<R>(&mut self, client: u64, more: usize, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.make_room(client, more);
        let entry = self.by_client.get_mut(&client)?;
        let before = entry.value.size();
        let result = change(&mut entry.value);
        self.bytes = self.bytes - before + entry.value.size();
        Some(result)
    }

    pub fn remove(&mut self, client: u64) -> Option<T> {
        let removed = self.by_client.remove(&client)?;
        self.bytes -= removed.value.size();
        Some(removed.value)
    }

    /// Drops those whose sessions were silent for long.
    pub fn expire(&mut self, now: u64) {
        let Self { by_client, bytes, limits } = self;
        by_client.retain(|_, entry| {
            let keep = now < entry.used_at.saturating_add(limits.idle_ns);
            *bytes -= if keep { 0 } else { entry.value.size() };
            keep
        });
    }

    pub fn len(&self) -> usize {
        self.by_client.len()
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        assert_eq!(self.bytes, self.values().map(Size::size).sum::<usize>());
        self.bytes
    }

    #[cfg(test)]
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.by_client.values().map(|entry| &entry.value)
    }

    fn make_room(&mut self, client: u64, more: usize) {
        while self.bytes + more > self.limits.bytes && self.drop_idle(client) {}
    }

    fn drop_idle(&mut self, but: u64) -> bool {
        let others = self.by_client.iter().filter(|(client, _)| **client != but);
        let idle = others.min_by_key(|(_, entry)| entry.used_at).map(|(client, _)| *client);
        idle.is_some_and(|idle| self.remove(idle).is_some())
    }
}
