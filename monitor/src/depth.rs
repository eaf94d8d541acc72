//! The two depths of a comparison: keys only, or values as well.

/// One value for each depth.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByDepth<T> {
    /// For comparisons of keys.
    pub keys: T,
    /// For deep comparisons: of values, too.
    pub values: T,
}

impl<T> ByDepth<T> {
    /// The value for one depth.
    pub fn of(&self, deep: bool) -> &T {
        if deep { &self.values } else { &self.keys }
    }

    /// The same, to be changed.
    pub fn of_mut(&mut self, deep: bool) -> &mut T {
        if deep { &mut self.values } else { &mut self.keys }
    }
}
