#!/bin/sh
# Measures the probes beside this script with MLComputePlan, and writes their rows for the corpus to measured.jsonl.
# Runs on a Mac with macOS 15; needs the microgpt program in PATH, or the sources named by MICROGPT_ANE.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ "$(uname -s)" != Darwin ]; then
  echo "MLComputePlan is Core ML's: run this on a Mac" >&2
  exit 2
fi
if command -v microgpt >/dev/null 2>&1; then
  exec microgpt floor discover --measure "$here"
fi
: "${MICROGPT_ANE:?put microgpt into PATH, or name the folder of its sources in MICROGPT_ANE}"
cd "$MICROGPT_ANE"
exec cargo run --release -- floor discover --measure "$here"
