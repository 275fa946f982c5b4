#!/usr/bin/env bash
# Checks with coremltools what `microgpt export` writes. See README.md.
#
#   CONFORMANCE_VENV   virtual environment, created if missing     [target/conformance-venv]
#   MICROGPT           binary to check, instead of building one
#   PYTHON             interpreter that creates the environment    [python3]
#
# Arguments are passed to check.py, such as --selftest.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Both are relative to the caller's folder, so they are resolved before changing to the repository's root.
microgpt=${MICROGPT:+$(realpath "$MICROGPT")}
venv=${CONFORMANCE_VENV:+$(realpath -m "$CONFORMANCE_VENV")}
cd "$here/.."
venv=${venv:-$PWD/target/conformance-venv}

if [[ ! -x $venv/bin/python ]]; then
    "${PYTHON:-python3}" -m venv "$venv"
fi
# The copy records the installed requirements. It is written last, so that an interrupted installation is repeated.
if ! cmp -s "$here/requirements.txt" "$venv/conformance-requirements.txt"; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/conformance-requirements.txt"
fi

if [[ -z $microgpt ]]; then
    cargo build --release --bin microgpt
    microgpt=${CARGO_TARGET_DIR:-target}/release/microgpt
fi

if [[ $* != *--selftest* ]]; then
    # The registry must equal what coremltools reports today.
    registry=crates/mlpackage/tests/registry
    for what in operations defaults documented; do
        flag=--$what
        [[ $what == operations ]] && flag=
        "$venv/bin/python" "$registry/make.py" $flag 2>/dev/null | cmp - "$registry/$what.json"
    done
    cargo test --quiet -p mlpackage --test integration every_operation::
    "$venv/bin/python" "$here/operations.py" "${CARGO_TARGET_DIR:-target}/tmp/every_operation"
    "$venv/bin/python" "$here/reports.py" --microgpt "$microgpt"
fi

exec "$venv/bin/python" "$here/check.py" --microgpt "$microgpt" --work "${CARGO_TARGET_DIR:-target}/conformance" "$@"
