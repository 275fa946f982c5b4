//! Runs `powermetrics` during some work, and parses its output.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Energy, Power};

/// Milliseconds between two readings.
const INTERVAL: u64 = 250;
/// Readings of the idle machine.
const IDLE_READINGS: usize = 8;
/// Size limit of the meter's output, above what minutes of readings print.
const LIMIT: u64 = 64 << 20;
/// Characters of the meter's output that an error shows.
const SHOWN: usize = 120;

/// Parses the readings that `powermetrics` printed, one after the other. Each has a line for CPU, GPU and
/// Neural Engine, in this order; a chip that lacks the GPU's or the Neural Engine's sensor has no line for it.
pub(crate) fn readings(text: &str) -> Vec<Power> {
    let mut readings: Vec<Power> = Vec::new();
    for line in text.lines() {
        let Some((what, value)) = line.split_once(" Power: ") else { continue };
        let Some(milliwatts) = value.trim().strip_suffix("mW").and_then(|v| v.trim().parse::<f64>().ok())
        else {
            continue;
        };
        if !milliwatts.is_finite() || milliwatts < 0.0 {
            continue;
        }
        match (what.trim(), readings.last_mut()) {
            ("CPU", _) => readings.push(Power { cpu: milliwatts, ..Power::default() }),
            ("GPU", Some(reading)) => reading.gpu = Some(milliwatts),
            ("ANE", Some(reading)) => reading.ane = Some(milliwatts),
            _ => {}
        }
    }
    readings
}

/// Readings of the meter, and what was done during them.
struct Readings {
    powers: Vec<Power>,
    tokens: usize,
    seconds: f64,
}

/// A program that prints a given number of power readings.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    command: Vec<String>,
}

impl Meter {
    /// Returns the meter of this system.
    ///
    /// # Errors
    ///
    /// If there is none; the message is a sentence for the user.
    pub(crate) fn of_system() -> Result<Self, String> {
        if !cfg!(target_os = "macos") {
            return Err("power is read by powermetrics, which is part of macOS".into());
        }
        let ok = |program: &str, arguments: &[&str]| {
            let quiet = |command: &mut Command| {
                command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).output()
            };
            quiet(Command::new(program).args(arguments)).ok().filter(|found| found.status.success())
        };
        let root = ok("id", &["-u"]).is_some_and(|found| found.stdout.starts_with(b"0\n"));
        // `-n`: sudo must not prompt for a password during a measurement.
        let sudo: &[&str] = if root { &[] } else { &["sudo", "-n"] };
        if !root && ok("sudo", &["-n", "true"]).is_none() {
            return Err("only root may run powermetrics: run `sudo -v` first, then this command again".into());
        }
        let powermetrics =
            ["powermetrics", "--samplers", "cpu_power,gpu_power,ane_power", "--buffer-size", "1"];
        Ok(Self { command: sudo.iter().chain(&powermetrics).map(|&part| part.to_owned()).collect() })
    }

    /// Creates a meter that calls `command` in place of `powermetrics`, with `-i MILLISECONDS -n READINGS`.
    #[cfg(test)]
    fn new(command: Vec<String>) -> Self {
        Self { command }
    }

    /// Takes `count` readings while calling `work` repeatedly; each call returns its number of tokens.
    fn read(
        &self,
        count: usize,
        mut work: impl FnMut() -> Result<usize, String>,
    ) -> Result<Readings, String> {
        let name = self.command.join(" ");
        let failed = |error: &dyn fmt::Display| format!("{name}: {error}");
        let (program, arguments) = self.command.split_first().ok_or("no program reads the power")?;
        // Files, because a pipe that nobody reads would fill up.
        let mut printed = tempfile::tempfile().map_err(|e| failed(&e))?;
        let mut complaints = tempfile::tempfile().map_err(|e| failed(&e))?;
        let child = Command::new(program)
            .args(arguments)
            .args(["-i", &INTERVAL.to_string(), "-n", &count.to_string()])
            .stdin(Stdio::null())
            .stdout(printed.try_clone().map_err(|e| failed(&e))?)
            .stderr(complaints.try_clone().map_err(|e| failed(&e))?)
            .spawn()
            .map_err(|e| failed(&e))?;
        let mut child = KilledOnDrop(child);
        let begun = Instant::now();
        // Twice the expected time, and some seconds to start; after that the program hangs.
        let patience = Duration::from_millis(2 * INTERVAL * count as u64) + Duration::from_secs(10);
        let mut tokens = 0;
        while child.0.try_wait().map_err(|e| failed(&e))?.is_none() {
            if begun.elapsed() > patience {
                return Err(failed(&"it does not end"));
            }
            tokens += work()?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let text = written(&mut printed).map_err(|e| failed(&e))?;
        let powers = readings(&text);
        if powers.is_empty() {
            // The cause is on standard error, or on standard output of a custom meter.
            let complaint = written(&mut complaints).map_err(|e| failed(&e))?;
            let first = complaint.lines().chain(text.lines()).find(|line| !line.trim().is_empty());
            let first: String = first.unwrap_or_default().chars().take(SHOWN).collect();
            return Err(failed(&format!("it printed no power, but {first:?}")));
        }
        Ok(Readings { powers, tokens, seconds })
    }

    /// Measures the energy per token. Calls `decode` repeatedly for about `duration`; each call returns the
    /// number of tokens that it decoded.
    ///
    /// # Errors
    ///
    /// If the measurement fails; the message is a sentence for the user.
    pub(crate) fn measure(
        &self,
        duration: Duration,
        mut decode: impl FnMut() -> Result<usize, String>,
    ) -> Result<Energy, String> {
        let idle = self.read(IDLE_READINGS, || {
            std::thread::sleep(Duration::from_millis(20));
            Ok(0)
        })?;
        let count = (duration.as_millis() as u64 / INTERVAL).max(4) as usize;
        let Readings { powers, tokens, seconds } = self.read(count, &mut decode)?;
        let (idle, decoding) = (Power::mean(&idle.powers), Power::mean(&powers));
        let each = seconds / tokens.max(1) as f64;
        Ok(Energy {
            idle,
            decoding,
            readings: powers.len(),
            tokens,
            seconds,
            mj_per_token: decoding.total() * each,
            mj_per_token_above_idle: (decoding.total() - idle.total()).max(0.0) * each,
        })
    }
}

/// Reads everything that a program wrote to a file, up to the limit.
fn written(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A child process that is killed on drop, if possible.
struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        // It has usually ended already. Only root can kill a process of root's; that one ends by itself after
        // its readings, so it is not waited for.
        if self.0.kill().is_ok() {
            let _ = self.0.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by hand in the format that powermetrics prints.
    const PRINTED: &str = "\
Machine model: Mac16,5
*** Sampled system activity (Wed Nov 25 15:14:07 2026 +0000) (252.31ms elapsed) ***

**** Processor usage ****

E-Cluster HW active frequency: 1102 MHz
CPU 0 frequency: 1284 MHz
CPU Power: 100 mW
GPU Power: 20 mW
ANE Power: 300 mW
Combined Power (CPU + GPU + ANE): 420 mW

**** GPU usage ****
GPU Power: 20 mW
*** Sampled system activity (Wed Nov 25 15:14:08 2026 +0000) (250.01ms elapsed) ***
CPU Power: 300 mW
GPU Power: 40 mW
ANE Power: 0 mW
Combined Power (CPU + GPU + ANE): 340 mW
";

    #[test]
    fn readings_are_what_was_printed() {
        let found = readings(PRINTED);
        assert_eq!(
            found,
            [
                Power { cpu: 100.0, gpu: Some(20.0), ane: Some(300.0) },
                Power { cpu: 300.0, gpu: Some(40.0), ane: Some(0.0) }
            ]
        );
        assert_eq!(Power::mean(&found), Power { cpu: 200.0, gpu: Some(30.0), ane: Some(150.0) });
        // A chip without a sensor for its Neural Engine must not be reported as 0 mW.
        let bare = readings("CPU Power: 5 mW\nGPU Power: 1 mW\n");
        assert_eq!(Power::mean(&bare).to_string(), "CPU 5 mW, GPU 1, ANE not reported");
        assert_eq!(readings("GPU Power: 7 mW\nCPU Power: -1 mW\nCPU Power: many mW\n"), []);
    }

    #[cfg(unix)]
    #[test]
    fn a_token_costs_power_times_time() {
        // The idle reading prints 100 mW; with more readings, 500, of which the Neural Engine uses 400.
        let script = "if [ $4 -gt 8 ]; then ane=400; sleep 0.4; else ane=0; fi; echo \"CPU Power: 100 mW\"; \
                      echo \"ANE Power: $ane mW\"";
        let meter = Meter::new(["sh", "-c", script, "meter"].map(str::to_owned).to_vec());
        let work = || {
            std::thread::sleep(Duration::from_millis(10));
            Ok(5)
        };
        let energy = meter.measure(Duration::from_secs(3), work).unwrap();
        assert_eq!((energy.idle.total(), energy.decoding.total(), energy.readings), (100.0, 500.0, 1));
        assert!(energy.tokens > 0 && energy.tokens.is_multiple_of(5));
        let expected = 500.0 * energy.seconds / energy.tokens as f64;
        assert!((energy.mj_per_token - expected).abs() < 1e-9 * expected);
        assert!((energy.mj_per_token_above_idle / energy.mj_per_token - 0.8).abs() < 1e-9);
    }

    #[cfg(unix)]
    #[test]
    fn a_meter_that_measures_nothing_says_why() {
        let meter = |script: &str| Meter::new(["sh", "-c", script].map(str::to_owned).to_vec());
        let silent = meter("echo; echo 'powermetrics must be invoked as the superuser' >&2");
        let reason = silent.measure(Duration::from_secs(1), || Ok(1)).unwrap_err();
        assert!(reason.contains("printed no power") && reason.contains("superuser"), "{reason}");
        let none = Meter::new(vec!["/no/such/meter".into()]);
        assert!(none.measure(Duration::from_secs(1), || Ok(1)).unwrap_err().starts_with("/no/such/meter: "));
        let fails = meter("echo CPU Power: 1 mW; sleep 0.1");
        assert_eq!(fails.read(1, || Err("the model broke".into())).err().unwrap(), "the model broke");
    }

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn elsewhere_there_is_no_meter() {
        assert!(Meter::of_system().unwrap_err().contains("part of macOS"));
    }
}
