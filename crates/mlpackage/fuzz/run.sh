#!/usr/bin/env bash
# Fuzzes every reader of the crate, beginning with packages that coremltools wrote.
#
#   run.sh [SECONDS]      for each target [600]
#
# Needs cargo-fuzz (`cargo install cargo-fuzz`) and a C++ compiler. A stable toolchain suffices: no sanitizer
# is used, because the crate's only unsafe code maps files. A panic is a finding, and so is an input that
# takes more than a second, or more memory than twice its size plus 64 MB.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-600}
fixtures=tests/fixtures
model=Data/com.apple.CoreML/model.mlmodel
weights=Data/com.apple.CoreML/weights/weight.bin

for target in manifest model blob package; do
    mkdir -p "fuzz/corpus/$target"
done
for package in "$fixtures"/*.mlpackage; do
    name=$(basename "$package" .mlpackage)
    cp "$package/Manifest.json" "fuzz/corpus/manifest/$name"
    cp "$package/$model" "fuzz/corpus/model/$name"
    if [[ -f $package/$weights ]]; then
        cp "$package/$weights" "fuzz/corpus/blob/$name"
    fi
    # Three lengths of two bytes each, then the three files.
    files=("$package/Manifest.json" "$package/$model")
    if [[ -f $package/$weights ]]; then files+=("$package/$weights"); fi
    mapfile -t sizes < <(stat -c %s "${files[@]}")
    sizes+=(0)
    if ((sizes[0] < 65536 && sizes[1] < 65536 && sizes[2] < 65536)); then
        for n in "${sizes[@]:0:3}"; do
            # shellcheck disable=SC2059
            printf "\\x$(printf %02x $((n & 255)))\\x$(printf %02x $((n >> 8)))"
        done >"fuzz/corpus/package/$name"
        cat "${files[@]}" >>"fuzz/corpus/package/$name"
    fi
done

for target in manifest model blob package; do
    echo "== $target"
    cargo fuzz run --sanitizer none "$target" -- \
        -max_total_time="$seconds" -timeout=1 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 2>&1 |
        grep -E "^stat::|SUMMARY|panicked|ERROR|Test unit written|ALARM|allocated for" || true
    if compgen -G "fuzz/artifacts/$target/*" >/dev/null; then
        echo "findings in fuzz/artifacts/$target" >&2
        exit 1
    fi
done
