//! What goes wrong in floating point without an error.

use std::fmt;

use serde::Serialize;

/// The first operation that made something of its operands which the type of its result cannot hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hazard {
    /// What it made.
    pub kind: HazardKind,
    /// Type of the operation, such as `mul`.
    pub op: String,
    /// Name of its result.
    pub result: String,
    /// Which call of the state it was, from 0.
    pub call: usize,
    /// The range of each of its operands.
    pub operands: Vec<OperandRange>,
}

/// What an operation made of its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HazardKind {
    /// An infinity, of finite operands.
    Infinity,
    /// A NaN, of operands without one.
    NotANumber,
    /// Zero, of a constant that is not: an epsilon, a scale or a mask below half of fp16's smallest number, 2^-25. An epsilon
    /// that is MIL's own default for the operation does not count.
    VanishedConstant,
    /// Zero everywhere, of operands that give something else: they are too small for the type of the result. Results of one
    /// element do not count, as one probability among many may well be zero.
    Vanished,
}

/// Smallest and largest element of an operand.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperandRange {
    /// Name of the parameter.
    pub param: &'static str,
    /// Smallest element; infinity if there is none.
    pub min: f32,
    /// Largest element; -infinity if there is none.
    pub max: f32,
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            HazardKind::Infinity => "made an infinity of finite operands",
            HazardKind::NotANumber => "made a NaN",
            HazardKind::VanishedConstant => "lost a constant that is not zero but rounds to it",
            HazardKind::Vanished => "gave nothing but zeros, as what it computed is too small for its type,",
        };
        write!(f, "{} -> %{} {what} in call {}:", self.op, self.result, self.call)?;
        for (i, OperandRange { param, min, max }) in self.operands.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma} {param} in [{min}, {max}]")?;
        }
        Ok(())
    }
}
