//! Placement laws, each a file: what it says, where it comes from, what stands against it.

mod floor;

pub(crate) use floor::megabytes;
pub use floor::{FLOOR_BYTES, Floor};
