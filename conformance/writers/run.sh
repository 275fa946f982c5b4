#!/usr/bin/env bash
# Runs microgpt on packages written by five versions of coremltools. See README.md.
#
#   MICROGPT        binary to check, instead of building one
#   WRITERS_VENVS   folder of the virtual environments           [target/writers-venvs]
#   PYTHON          interpreter that installs uv                 [python3]
#
# Arguments are passed to judge.py, such as --selftest.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Both are relative to the caller's folder, so they are resolved before changing to the repository's root.
microgpt=${MICROGPT:+$(realpath "$MICROGPT")}
venvs=${WRITERS_VENVS:+$(realpath -m "$WRITERS_VENVS")}
cd "$here/../.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
venvs=${venvs:-$target/writers-venvs}
out=$target/writers
mkdir -p "$venvs" "$out"

# The minor versions of Python 3 for which each coremltools has wheels, the preferred one first.
declare -A minors=([5.2.0]="9 8 7" [6.3.0]="9 10 8" [7.2]="9 10 11" [8.3.0]="11 12 10 9" [9.0]="11 12 13 10 9")
versions=(5.2.0 6.3.0 7.2 8.3.0 9.0)

# Prints an interpreter of Python 3.$1: pyenv's, a hosted runner's, the system's, or uv's.
find_python() {
    local minor=$1 candidate
    for candidate in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python \
        "${RUNNER_TOOL_CACHE:-/opt/hostedtoolcache}"/Python/3."$minor".*/*/bin/python \
        "$(command -v "python3.$minor" || true)"; do
        if [[ -x $candidate ]] && "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    if [[ -n $uv ]]; then
        candidate=$("$uv" python find "3.$minor" 2>/dev/null || true)
        [[ -x $candidate ]] && echo "$candidate"
    fi
    return 0
}

# uv installs missing interpreters; it is itself a package of PyPI.
install_uv() {
    if [[ ! -x $venvs/uv/bin/uv ]]; then
        "${PYTHON:-python3}" -m venv "$venvs/uv" && "$venvs/uv/bin/pip" install --quiet --disable-pip-version-check uv
    fi
    if [[ -x $venvs/uv/bin/uv ]]; then uv=$venvs/uv/bin/uv; fi
}

uv=$(command -v uv || true)
missing=()
present=()
for version in "${versions[@]}"; do
    venv=$venvs/$version
    if [[ ! -x $venv/bin/python ]]; then
        python=""
        for minor in ${minors[$version]}; do
            python=$(find_python "$minor")
            [[ -n $python ]] && break
        done
        if [[ -z $python ]]; then
            echo "no Python 3.{${minors[$version]// /,}} here for coremltools $version: installing one with uv" >&2
            [[ -n $uv ]] || install_uv || true
            if [[ -n $uv ]] && "$uv" python install --quiet "3.${minors[$version]%% *}"; then
                python=$(find_python "${minors[$version]%% *}")
            fi
        fi
        if [[ -z $python ]]; then
            echo "SKIPPED: coremltools $version needs Python 3.{${minors[$version]// /,}}" >&2
            missing+=("$version")
            continue
        fi
        "$python" -m venv "$venv"
    fi
    # The copy records the installed requirements. It is written last, so that an interrupted installation is repeated.
    if ! cmp -s "$here/requirements/$version.txt" "$venv/requirements.txt"; then
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
            -r "$here/requirements/$version.txt"
        cp "$here/requirements/$version.txt" "$venv/requirements.txt"
    fi
    present+=("$version")
done
# Problems with old files show only with old versions.
if [[ " ${missing[*]} " == *" 5.2.0 "* && " ${missing[*]} " == *" 6.3.0 "* && " ${missing[*]} " == *" 7.2 "* ]] ||
    ((${#present[@]} < 2)); then
    echo "none of the old versions of coremltools can be installed here. Install Python 3.9, for which there are wheels of" >&2
    echo "all of them: 'pyenv install 3.9', 'uv python install 3.9', or your system's python3.9 with its venv module." >&2
    exit 1
fi

if [[ -z $microgpt ]]; then
    cargo build --release --bin microgpt
    microgpt=$target/release/microgpt
fi

# A package is written again only if its writer changes.
writing=()
for version in "${present[@]}"; do
    stamp=$(cat "$here/models.py" "$here/write.py" "$here/requirements/$version.txt" | cksum)
    if [[ $(cat "$out/$version/stamp" 2>/dev/null) != "$stamp" ]]; then
        rm -rf "${out:?}/$version"
        {
            "$venvs/$version/bin/python" "$here/write.py" "$out/$version" 2>"$out/$version.log" ||
                { cat "$out/$version.log" >&2 && exit 1; }
            echo "$stamp" >"$out/$version/stamp"
        } &
        writing+=($!)
    fi
done
for job in "${writing[@]}"; do wait "$job"; done

newest=${present[${#present[@]} - 1]}
exec "$venvs/$newest/bin/python" "$here/judge.py" --microgpt "$microgpt" "$@" "${present[@]/#/$out/}"
