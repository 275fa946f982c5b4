//! Error for an operation that MIL does not define.

use std::cmp::Reverse;

use super::all;
use crate::finding::{Fault, Rule};

/// Returns the fault of using the unknown operation `name`, with a suggestion if one is similar.
pub(crate) fn unknown(name: &str) -> Fault {
    let reason = match nearest(name) {
        Some(meant) => format!("unknown operation `{name}`; did you mean `{meant}`?"),
        None => format!("unknown operation `{name}`"),
    };
    Fault::new(Rule::OperationUnknown, reason)
}

/// Returns the operation with the most similar name, if at most a third of its letters differ.
fn nearest(name: &str) -> Option<&'static str> {
    // Names of operations are short; a much longer name has no similar one.
    if name.len() > 64 {
        return None;
    }
    let name = name.to_lowercase();
    // Among equally similar names, prefer the longest common prefix.
    let shared = |op: &str| op.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    let ranked = all().map(|op| (strsim::osa_distance(&name, op.name), Reverse(shared(op.name)), op.name));
    let (distance, _, op) = ranked.min()?;
    (distance <= op.len().div_ceil(3)).then_some(op)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_are_recognized() {
        for (name, meant) in [
            ("relv", "relu"),
            ("Softmax", "softmax"),
            ("matmull", "matmul"),
            ("layernorm", "layer_norm"),
            ("reduce_maen", "reduce_mean"),
            ("conv2d", "conv"),
        ] {
            assert_eq!(nearest(name), Some(meant), "{name}");
        }
        assert_eq!(unknown("relv").to_string(), "unknown operation `relv`; did you mean `relu`?");
    }

    #[test]
    fn nothing_is_guessed_for_other_names() {
        for name in ["", "x", "flash_attention", "com.example.custom", &"relu".repeat(1000)] {
            assert_eq!(nearest(name), None, "{name}");
        }
        assert_eq!(unknown("flash_attention").to_string(), "unknown operation `flash_attention`");
    }
}
