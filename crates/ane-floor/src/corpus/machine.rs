//! The machine of a row.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A machine, as far as the source states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedMachine {
    /// The chip, such as `M4 Max`.
    pub chip: Option<String>,
    /// The operating system, such as `macOS 15`.
    pub os: Option<String>,
}

/// Formats chip and system; what is unknown is omitted.
impl fmt::Display for RecordedMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.chip, &self.os) {
            (Some(chip), Some(os)) => write!(f, "{chip}, {os}"),
            (Some(one), None) | (None, Some(one)) => f.write_str(one),
            (None, None) => f.write_str("an unknown machine"),
        }
    }
}

impl RecordedMachine {
    /// Returns this machine: chip and system on a Mac; nothing on others, which place nothing.
    pub fn this() -> Self {
        if !cfg!(target_os = "macos") {
            return Self { chip: None, os: None };
        }
        let answer = |program: &str, arguments: &[&str]| {
            let output = std::process::Command::new(program).args(arguments).output().ok()?;
            let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
            (output.status.success() && !text.is_empty()).then_some(text)
        };
        let chip = answer("sysctl", &["-n", "machdep.cpu.brand_string"]);
        let version = answer("sw_vers", &["-productVersion"]);
        Self {
            chip: chip.map(|chip| chip.trim_start_matches("Apple ").to_owned()),
            os: version.map(|version| format!("macOS {version}")),
        }
    }
}
