//! What is said of an operation that Core ML does not have.

use std::cmp::Reverse;

use super::all;
use crate::finding::{Fault, Rule};

/// The fault of using the operation `name`, with the name that was probably meant.
pub(crate) fn unknown(name: &str) -> Fault {
    let reason = match nearest(name) {
        Some(meant) => format!("unknown operation `{name}`; did you mean `{meant}`?"),
        None => format!("unknown operation `{name}`"),
    };
    Fault::new(Rule::OperationUnknown, reason)
}

/// The operation whose name is nearest to `name`, if no more than every third letter differs.
fn nearest(name: &str) -> Option<&'static str> {
    // Names are short; what is much longer than any of them is compared with none.
    if name.len() > 64 {
        return None;
    }
    let name = name.to_lowercase();
    // Of several as near, that which begins alike.
    let shared = |op: &str| op.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    let ranked = all().map(|op| (strsim::osa_distance(&name, op.name), Reverse(shared(op.name)), op.name));
    let (distance, _, op) = ranked.min()?;
    (distance <= op.len().div_ceil(3)).then_some(op)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_are_recognised() {
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
