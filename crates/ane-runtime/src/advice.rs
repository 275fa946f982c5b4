//! Hints for Core ML errors.
//!
//! Core ML's messages name no cause. This table collects what others found out about them: a pattern of the
//! message, and a remedy. Errors always carry the message itself, which is `localizedDescription`; the errors
//! underneath it stay in Core ML's own log.

/// A pattern of error messages, and its remedy.
struct Hint {
    /// Substrings in lower case; any of them matches.
    patterns: &'static [&'static str],
    advice: &'static str,
}

/// The first match wins.
const KNOWN: &[Hint] = &[
    Hint {
        // The sign is missing in some reports (swift-chat #31).
        patterns: &["error code: -14", "error code: 14"],
        advice: "known to happen for programs of more than about 3,200 operations and for weights beyond 1 GB: export several \
                 smaller shards; and for stateful models on the Neural Engine (coremltools #2325): a run with the compute units `cpu` \
                 shows whether that is the cause",
    },
    Hint {
        patterns: &["mlstate requires"],
        advice: "states need macOS 15: export with the cache update `host`, or run on the engine mil-cpu",
    },
    Hint {
        patterns: &["macos 26"],
        advice: "this system has no 8-bit arrays: give the package inputs and outputs of fp16, fp32 or int32",
    },
    Hint {
        patterns: &["error in declaring network", "declaring network or setting up"],
        advice: "known to happen for weight files of 2^31 bytes and more (coremltools #1807): split the model into shards",
    },
    Hint {
        patterns: &["aneccompile", "_anecompiler", "milcompileforane", "anecf error", "model to ane"],
        advice: "the Neural Engine's compiler failed: states whose dimensions are not multiples of 32 are known to fail (coremltools \
                 #2631), and so are axes longer than 16,384 before M4; `microgpt floor` names both",
    },
    Hint {
        patterns: &["error code: -1.", "error code: -4", "error code: -5", "error code: -7"],
        advice: "the plan could not be built for these compute units: a run with the compute units `cpu` shows whether Core ML accepts the program itself",
    },
    Hint {
        patterns: &["no space left", "disk is full", "nscocoaerrordomain code=640"],
        advice: "compiling needs space for several copies of the weights in the temporary folder and in the cache",
    },
    Hint {
        patterns: &["operation not permitted", "permission denied", "don’t have permission"],
        advice: "Core ML compiles into the user's temporary folder and its cache: is this process sandboxed?",
    },
];

/// Returns the hint for a Core ML error message, if there is one.
///
/// The message must not contain codes that only a binding produces, such as the -14 that the crate `coreml`
/// uses for everything about states.
pub fn advice(message: &str) -> Option<&'static str> {
    let message = message.to_lowercase();
    KNOWN.iter().find(|known| known.patterns.iter().any(|p| message.contains(p))).map(|known| known.advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages from public bug reports.
    #[test]
    fn known_messages_have_advice() {
        let plan = |code: &str| {
            format!(
                "Failed to build the model execution plan using a model architecture file '/a/m.mlmodelc/model.mil' \
                 with error code: {code}."
            )
        };
        for code in ["-14", "14"] {
            let advice = advice(&plan(code)).unwrap();
            assert!(advice.contains("3,200 operations") && advice.contains("#2325"), "{advice}");
        }
        assert!(advice(&plan("-4")).unwrap().contains("could not be built"));
        let ane = "E5RT: MILCompileForANE error: failed to compile ANE model using ANEF. Error=_ANECompiler : ANECCompile() FAILED (11)";
        assert!(advice(ane).unwrap().contains("#2631"));
        assert!(advice("MLState requires macOS 15.0+").unwrap().contains("macOS 15"));
        assert!(advice("Int8 MLMultiArray values require macOS 26.0+").unwrap().contains("8-bit"));
        assert!(advice("Error in declaring network.").unwrap().contains("2^31"));
    }

    #[test]
    fn others_have_none() {
        assert_eq!(advice("Unable to compute the prediction using ML Program."), None);
        // This code is the binding's, not Core ML's.
        assert_eq!(advice("the buffer was lost (code -14)"), None);
    }
}
