//! Numeric hazards: floating-point problems that cause no error.

use std::fmt;

use serde::Serialize;

/// The first operation of its kind whose result exceeds the limits of its type: an overflow, a NaN, or an
/// underflow to zero.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hazard {
    /// What happened.
    pub kind: HazardKind,
    /// Type of the operation, such as `mul`.
    pub op: String,
    /// Name of the operation's result.
    pub result: String,
    /// Index of the call with this state, from 0.
    pub call: usize,
    /// The range of each operand.
    pub operands: Vec<OperandRange>,
}

/// The kind of a [`Hazard`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HazardKind {
    /// Finite operands produced an infinity.
    Infinity,
    /// Operands without a NaN produced one.
    NotANumber,
    /// A nonzero constant rounded to zero: an epsilon, a scale or a mask below 2^-25, half of fp16's smallest
    /// number. An epsilon that is MIL's own default for the operation does not count.
    VanishedConstant,
    /// A result is zero everywhere, although its operands should produce something else: the values are too
    /// small for the type of the result. Results of one element do not count, because a single probability
    /// among many may well be zero.
    Vanished,
}

/// The smallest and the largest element of an operand.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperandRange {
    /// Name of the parameter.
    pub param: &'static str,
    /// The smallest element; infinity if the operand has no elements.
    pub min: f32,
    /// The largest element; -infinity if the operand has no elements.
    pub max: f32,
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            HazardKind::Infinity => "produced an infinity from finite operands",
            HazardKind::NotANumber => "produced a NaN",
            HazardKind::VanishedConstant => "rounded a nonzero constant to zero",
            HazardKind::Vanished => "underflowed to nothing but zeros",
        };
        write!(f, "{} -> %{} {what} in call {}:", self.op, self.result, self.call)?;
        for (i, OperandRange { param, min, max }) in self.operands.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma} {param} in [{min}, {max}]")?;
        }
        Ok(())
    }
}
