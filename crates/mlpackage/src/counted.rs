//! Counts of things, with the noun in singular or plural.

use std::fmt;

/// Displays `1 layer` or `2 layers`, for a noun whose plural ends in s.
///
/// ```
/// assert_eq!(mlpackage::counted(1, "error").to_string(), "1 error");
/// assert_eq!(mlpackage::counted(0, "error").to_string(), "0 errors");
/// ```
pub fn counted(count: impl TryInto<u64>, noun: &str) -> impl fmt::Display {
    // A count that does not fit is not 1, so any large value selects the plural.
    Counted { count: count.try_into().unwrap_or(u64::MAX), noun }
}

struct Counted<'a> {
    count: u64,
    noun: &'a str,
}

impl fmt::Display for Counted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, noun } = self;
        let plural = if *count == 1 { "" } else { "s" };
        write!(f, "{count} {noun}{plural}")
    }
}
