#!/bin/sh
# A first run on a Mac: collects everything that needs a Mac into one archive with a page to read.
#
#   scripts/first-run-on-a-mac.sh [options]
#
#   --out FOLDER        where to write everything                          [first-run]
#   --checkpoint CKPT   an existing checkpoint instead of training
#   --steps N           training steps of the scaled preset                [300]
#   --quick             the default variant and those that differ from it in one option, and small sweeps
#   --skip-tests        skip `cargo test --workspace` and `cargo bench`
#   --dry-run           any machine: run the steps that need no Mac, and list the others
#
# The script resumes where it stopped: completed steps are skipped, failed ones are repeated. It needs macOS 15 on Apple silicon, Xcode's
# command line tools, a Rust toolchain, about 30 GB of disk (10 with --quick) and some hours; nobody has timed it. Power is measured if
# `sudo -v` was run before. Nothing is installed, and nothing is sent: you decide whether to send the archive.
set -u

usage() {
  sed -n '2,/^set -u/{/^#/s/^# \{0,1\}//p;}' "$0"
}

out=first-run
checkpoint=
steps=300
quick=
tests=yes
dry=
while [ $# -gt 0 ]; do
  case $1 in
    --out | --checkpoint | --steps)
      if [ $# -lt 2 ]; then
        echo "$1 needs a value" >&2
        exit 2
      fi
      case $1 in
        --out) out=$2 ;;
        --checkpoint) checkpoint=$2 ;;
        --steps) steps=$2 ;;
      esac
      shift
      ;;
    --quick) quick=yes ;;
    --skip-tests) tests= ;;
    --dry-run) dry=yes ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      echo "$1: no such option; --help lists them" >&2
      exit 2
      ;;
  esac
  shift
done
case $steps in
  '' | *[!0-9]* | 0* | ???????*)
    echo "--steps $steps: expected a number from 1 to 999999" >&2
    exit 2
    ;;
esac
while :; do
  case $out in
    ?*/) out=${out%/} ;;
    *) break ;;
  esac
done
case $out in
  '' | / | . | .. | */. | */..)
    echo "--out '$out': give a folder of its own" >&2
    exit 2
    ;;
esac

# The user's paths are relative to the current folder; everything else runs in the repository's root.
here=$(pwd)
case $out in /*) ;; *) out=$here/$out ;; esac
case $checkpoint in '' | /*) ;; *) checkpoint=$here/$checkpoint ;; esac
cd -- "$(dirname -- "$0")/.." >/dev/null || exit 2
if [ -n "$checkpoint" ] && [ ! -f "$checkpoint/config.json" ]; then
  echo "--checkpoint $checkpoint: there is no checkpoint (config.json)" >&2
  exit 2
fi

# 1. The machine.
missing=
need() {
  command -v "$1" >/dev/null 2>&1 || missing="$missing
  $1: $2"
}
need cargo "install Rust from https://rustup.rs"
if [ -z "$dry" ]; then
  if [ "$(uname -s)" != Darwin ]; then
    echo "Core ML exists only on a Mac: run this on one, or use --dry-run to see what it would do" >&2
    exit 2
  fi
  if [ "$(sysctl -n hw.optional.arm64 2>/dev/null)" != 1 ]; then
    missing="$missing
  Apple silicon: an Intel Mac has no Neural Engine"
  elif [ "$(uname -m)" != arm64 ]; then
    missing="$missing
  a shell of this Mac's own: this one is translated by Rosetta (arch -arm64 /bin/zsh)"
  fi
  system=$(sw_vers -productVersion)
  case ${system%%.*} in
    '' | *[!0-9]* | [0-9] | 1[0-4]) missing="$missing
  macOS 15: this is ${system:-not known}, whose Core ML has no states" ;;
  esac
  xcode-select -p >/dev/null 2>&1 || missing="$missing
  Xcode's command line tools: xcode-select --install"
  need swift "part of Xcode's command line tools: xcode-select --install"
fi
if [ -n "$missing" ]; then
  echo "missing:$missing" >&2
  exit 2
fi

mkdir -p "$out/steps" "$out/results" "$out/bundles" || exit 2
system_of() {
  if [ "$(uname -s)" = Darwin ]; then
    sw_vers
    sysctl -n machdep.cpu.brand_string hw.model hw.memsize
    xcodebuild -version 2>/dev/null
    swift --version 2>/dev/null
  else
    uname -srm
  fi
  rustc --version
  git log -1 --format='%H %cs' 2>/dev/null
}
system_of >"$out/system.txt" 2>&1

# An idle Mac would fall asleep during the run.
if [ -z "$dry" ] && command -v caffeinate >/dev/null 2>&1; then
  caffeinate -i -w $$ >/dev/null 2>&1 &
fi

# Results of other sources must not be reused.
revision=$(git rev-parse HEAD 2>/dev/null; git diff HEAD 2>/dev/null | cksum)
if [ -f "$out/steps/REVISION" ] && [ "$(cat "$out/steps/REVISION")" != "$revision" ]; then
  echo "-- the sources have changed: every step is repeated"
  rm -f "$out"/steps/*.state
fi
printf '%s\n' "$revision" >"$out/steps/REVISION"

# sudo forgets the password after some minutes. Refreshing it keeps power readable until the end.
if [ -z "$dry" ] && sudo -n true 2>/dev/null; then
  while kill -0 $$ 2>/dev/null && sudo -n true 2>/dev/null; do sleep 60; done >/dev/null 2>&1 &
  reminder=$!
  trap 'kill $reminder 2>/dev/null' EXIT
else
  echo "-- power is not measured; to measure it, run \`sudo -v\` first"
fi

# A step has a result file (`-` if only its log is kept), a name and a command. State, command and log are kept. A step is skipped if it is
# done, its command and model are the same, and its result exists.
failed=0
model=
: >"$out/steps/ORDER"
begin() {
  into=$1
  step=$out/steps/$2
  printf '%s\n' "$2" >>"$out/steps/ORDER"
  shift 2
  command="$*${model:+ # of $model}"
  if grep -q '^done' "$step.state" 2>/dev/null && [ "$(cat "$step.command")" = "$command" ]; then
    if [ "$into" = - ] || [ -s "$into" ]; then return 1; fi
  fi
  rm -f "$step.state"
  # A result of another command must not be taken for this one's; it is set aside until there is a new one.
  if [ "$into" != - ] && [ -s "$into" ]; then
    mkdir -p "$out/earlier" || exit 2
    mv -f "$into" "$out/earlier/${step##*/}" || exit 2
  fi
  printf '%s\n' "$command" >"$step.command"
  printf '%s\n' "-- ${step##*/}: $command"
}

# Runs the step that was begun. Its result appears atomically.
finish() {
  started=$(date +%s)
  if [ "$into" = - ]; then
    "$@" >"$step.log" 2>&1
    status=$?
  else
    "$@" >"$step.partial" 2>"$step.log"
    status=$?
    # Status 1 is a failed gate, whose result is valid.
    if [ "$status" -le 1 ]; then
      mv "$step.partial" "$into" && rm -f "$out/earlier/${step##*/}"
    else
      rm -f "$step.partial"
    fi
  fi
  took=$(($(date +%s) - started))
  if [ "$status" -eq 0 ]; then
    echo "done, $took s" >"$step.state"
  else
    echo "failed with $status, $took s" >"$step.state"
    failed=$((failed + 1))
    echo "   failed; the end of $step.log:"
    tail -n 3 "$step.log" | sed 's/^/   /'
  fi
  return "$status"
}

# Runs on any machine.
run() {
  begin "$@" || return 0
  shift 2
  finish "$@"
}

# Runs on a Mac; with --dry-run the step is only listed. Failures are reported at the end.
mac() {
  begin "$@" || return 0
  shift 2
  if [ -n "$dry" ]; then
    echo "would-run" >"$step.state"
    : >"$step.log"
    return 0
  fi
  finish "$@" || return 0
}

# 2. Build, and the tests for any machine.
rm -f "$out/steps/build.state" "$out/steps/build-conformance.state"
# Set explicitly, because cargo's own configuration may name another folder.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TARGET_DIR
run - build cargo build --release --bin microgpt || exit 1
run - build-conformance cargo build --release -p ane-runtime --example conformance || exit 1
microgpt=$CARGO_TARGET_DIR/release/microgpt
conformance=$CARGO_TARGET_DIR/release/examples/conformance
if [ -n "$tests" ]; then
  run - tests cargo test --workspace
fi

# 3. A model. Stopped training resumes; with other options it starts again. A finished model stays until the new one is complete.
forget_states() {
  rm -rf "$1"/training/step-*
  [ -f "$1/model.safetensors" ] || rm -rf "$1"
}
train() {
  name=$1
  folder=$out/checkpoints/$1
  shift
  if [ "$(cat "$out/steps/train-$name.command" 2>/dev/null)" != "$microgpt train $* --force --out $folder" ]; then
    forget_states "$folder"
    rm -f "$out/steps/train-$name.state"
  elif [ -n "$(find "$folder/training" -maxdepth 1 -name 'step-*' 2>/dev/null)" ]; then
    echo "-- train-$name resumes"
    if "$microgpt" train --resume "$folder" >"$out/steps/train-$name.log" 2>&1; then
      echo "done, resumed" >"$out/steps/train-$name.state"
    else
      forget_states "$folder"
    fi
  fi
  [ -f "$folder/model.safetensors" ] || rm -f "$out/steps/train-$name.state"
  run - "train-$name" "$microgpt" train "$@" --force --out "$folder"
}
if [ -z "$checkpoint" ]; then
  checkpoint=$out/checkpoints/scaled
  train original --preset original || exit 1
  train scaled --preset scaled --steps "$steps" || exit 1
fi
# The following steps depend on this model.
model=$(cksum <"$checkpoint/model.safetensors") || exit 1
if [ -d "$out/checkpoints/original" ]; then
  run - export-original "$microgpt" export "$out/checkpoints/original" --out "$out/bundles/original" || exit 1
  mkdir -p "$out/results/original"
fi

# 4. Every variant: form of the weights, cache update, projections, norm.
default=int8-per-tensor.one-hot.separate.max-scaled
variants=
for weights in int8-per-tensor int8-per-channel none; do
  for cache in one-hot slice-update host; do
    for projections in separate fused-qkv; do
      for norm in max-scaled safe plain; do
        others=0
        [ "$weights" = int8-per-tensor ] || others=$((others + 1))
        [ "$cache" = one-hot ] || others=$((others + 1))
        [ "$projections" = separate ] || others=$((others + 1))
        [ "$norm" = max-scaled ] || others=$((others + 1))
        if [ -n "$quick" ] && [ "$others" -gt 1 ]; then continue; fi
        variant=$weights.$cache.$projections.$norm
        [ -f "$out/bundles/$variant/bundle.json" ] || rm -f "$out/steps/export-$variant.state"
        run - "export-$variant" "$microgpt" export "$checkpoint" --quantize "$weights" --cache-update "$cache" \
          --projections "$projections" --norm "$norm" --no-verify --out "$out/bundles/$variant" || continue
        mkdir -p "$out/results/$variant"
        variants="$variants $variant"
      done
    done
  done
done
if [ -d "$out/results/original" ]; then variants="$variants original"; fi
for variant in $variants; do
  run "$out/results/$variant/predicted.json" "predict-$variant" "$microgpt" floor "$out/bundles/$variant" --json
done

# 5. Core ML compared with PyTorch's results, and the questions that only it can answer.
for units in cpu cpu-and-ane; do
  mac - "conformance-$units" "$conformance" --engine coreml --compute-units "$units" \
    --json "$out/results/conformance-$units.json"
  mac "$out/results/settle-$units.json" "settle-$units" "$microgpt" settle "$out/bundles/$default" \
    --engine coreml --compute-units "$units" --json
done

# 6. Each variant: parity with mil-cpu, measured placement, speed.
seconds=3
for variant in $variants; do
  bundle=$out/bundles/$variant
  results=$out/results/$variant
  mac "$results/verify.json" "verify-$variant" "$microgpt" verify "$bundle" --engine coreml --json
  mac "$results/floor.json" "floor-$variant" "$microgpt" floor "$bundle" --measure --json \
    --save-plan "$results/plan.json" --html "$results/placement.html" --rows "$out/measured.jsonl"
  # These two are measured in more detail below.
  case $variant in "$default" | original) continue ;; esac
  mac "$results/bench-cpu-and-ane.json" "bench-$variant" "$microgpt" bench "$bundle" --engine coreml \
    --seconds "$seconds" --json
done

# 7. The Neural Engine compared with the CPU and the GPU, with energy where it can be read.
for variant in "$default" original; do
  [ -d "$out/bundles/$variant" ] || continue
  for units in cpu-and-ane cpu cpu-and-gpu; do
    mac "$out/results/$variant/bench-$units.json" "energy-$variant-$units" "$microgpt" bench "$out/bundles/$variant" \
      --engine coreml --compute-units "$units" --seconds "$seconds" --energy --json
  done
  mac "$out/results/$variant/bench-mil-cpu.json" "energy-$variant-mil-cpu" "$microgpt" bench "$out/bundles/$variant" \
    --engine mil-cpu --seconds "$seconds" --energy --json
done
if [ -n "$tests" ]; then
  mac - ane-vs-cpu cargo bench -p microgpt-bench --features criterion --bench ane_vs_cpu
fi

# 8. Where placement flips: by size, tokens per call and form of the weights; and what the ceilings depend on.
discover() {
  name=$1
  shift
  mac - "discover-$name" "$microgpt" floor discover --oracle measured --out "$out/results/discover-$name" "$@"
}
if [ -n "$quick" ]; then
  discover floor --n-layer 1,6 --tokens 1 --quantize int8-per-tensor
else
  discover floor --n-layer 1,2,3,4,5,6 --n-embd 64,128,192,256,320,384,448,512,576,640,704,768 --tokens 1,4,16,64
fi
# About 50 operations per layer: beyond 3,200 of them in a few megabytes, and beyond 1 GB in a hundred.
discover operations --n-layer 40,56,60,62,63,64,65,66,72 --n-embd 64 --tokens 1 --quantize int8-per-tensor --exhaustive
if [ -z "$quick" ]; then
  discover bytes --n-layer 1 --n-embd 4096,4608,5120,6144,8192,9216,10240 --tokens 1 --quantize int8-per-tensor \
    --exhaustive
fi

# 9. The page, and everything except the bundles as one archive.
"$microgpt" field-report "$out" || exit 1
archive=$out.tar.gz
base=./${out##*/}
rows=
if [ -f "$out/measured.jsonl" ]; then rows=$base/measured.jsonl; fi
# Without Finder's metadata copies; `rows` is one name or empty.
COPYFILE_DISABLE=1 tar czf "$archive.partial" -C "${out%/*}/" "$base/index.html" "$base/system.txt" "$base/steps" \
  "$base/results" ${rows:+"$rows"} && mv "$archive.partial" "$archive" || exit 1
echo "-- $out/index.html; to send: $archive"
if [ "$failed" -gt 0 ]; then
  echo "-- $failed steps failed; run this again to repeat them"
  exit 1
fi
