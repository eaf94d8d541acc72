//! The time as a session is given it: one clock to wait by, one for people.

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back while the process runs, counted from whenever. Everything that waits
    /// waits by it.
    pub ms: u64,
    /// The wall clock, in Unix milliseconds. Somebody may set it back: it is only written down, for people.
    pub unix_ms: u64,
}

/// A world with one clock.
impl From<u64> for Now {
    fn from(ms: u64) -> Self {
        Now { ms, unix_ms: ms }
    }
}
