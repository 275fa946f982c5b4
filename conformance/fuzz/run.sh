#!/usr/bin/env bash
# Fuzzes the executor against an oracle in numpy. See ../README.md.
#
#   CONFORMANCE_VENV   virtual environment, created if missing     [target/conformance-venv]
#   PYTHON             interpreter that creates the environment    [python3]
#   FUZZ_RUNNER        the built example `differential`, instead of building it
#
# Arguments are passed to fuzz.py, such as --count 100000 --seed 7. The default is the self test and then the fixed seeds of CI.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${CONFORMANCE_VENV:+$(realpath -m "$CONFORMANCE_VENV")}
runner=${FUZZ_RUNNER:+$(realpath "$FUZZ_RUNNER")}
cd "$here/../.."
venv=${venv:-$PWD/target/conformance-venv}

# The environment is shared with ../run.sh.
if [[ ! -x $venv/bin/python ]]; then
    "${PYTHON:-python3}" -m venv "$venv"
fi
if ! cmp -s conformance/requirements.txt "$venv/conformance-requirements.txt"; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r conformance/requirements.txt
    cp conformance/requirements.txt "$venv/conformance-requirements.txt"
fi

if [[ -z $runner ]]; then
    cargo build --release -p ane-runtime --example differential
    runner=${CARGO_TARGET_DIR:-target}/release/examples/differential
fi

fuzz() { "$venv/bin/python" "$here/fuzz.py" --runner "$runner" --out "${CARGO_TARGET_DIR:-target}/fuzz" "$@"; }

if (($#)); then
    fuzz "$@"
else
    fuzz --selftest
    fuzz --seed 1 --count 12000
fi
