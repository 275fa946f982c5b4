#!/usr/bin/env python3
"""Plants one fault at a time in the engine mil-cpu and in its worker pool, and checks that the tests find it.

    python3 run.py [NAME ...]        all, or only the given names

Each fault changes one line in a copy of the workspace, and the copy's tests must then fail: the engine's (`TESTS`) for a fault in a
kernel, and the models that loom explores for a fault in the pool. Exits with 1 if a fault is not found, or cannot be planted because
its line no longer exists. Needs only Python and cargo; the copy builds into `target/mutants` and `target/races/loom`.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
SOURCE = "crates/ane-runtime/src/mil_cpu"
TESTS = ["conformance", "operations", "engine", "differential", "near_fusions", "layers"]

# Name, file, correct line, faulty line.
FAULTS = [
    ("axis off by one", "kernels/activation.rs",
     'Lines::new(shape.dims(), &[node.axis("axis", &shape, -1)?])',
     'Lines::new(shape.dims(), &[(node.axis("axis", &shape, -1)? + 1) % shape.rank()])'),
    ("wrong broadcast", "kernels/strided.rs", "if i < missing || from[i - missing] == 1 { 0 }", "if i < missing { 0 }"),
    ("swapped operands", "kernels/elementwise.rs", '"sub" => (|x, y| x - y,', '"sub" => (|x, y| y - x,'),
    ("dropped scale", "compressed.rs", "self.scale[block] * (number", "self.scale[0] * (number"),
    ("dropped zero point", "compressed.rs", "(number - self.offset.as_ref().map_or(0.0, |o| o[block]))", "number"),
    ("stale state", "run_plan.rs", "kernels::Operand::Words(words) => target.copy_from_slice(words),", "kernels::Operand::Words(_) => {}"),
    ("state read after it was written", "allocate.rs", "reads.retain(|&(state, at, last)| is_written(state, &ir.steps[at..last]));",
     "reads.retain(|&(state, at, last)| is_written(state, &ir.steps[at..last]) && false);"),
    ("dropped bias", "kernels/linear.rs", "out[o] = dot(row, x) + bias;", "out[o] = dot(row, x) + 0.0 * bias;"),
    ("mask not added", "kernels/attention.rs", "Some((word, false)) => scores[j] += f32::from_bits(word),", "Some((_, false)) => {}"),
    ("padding on the wrong side", "kernels/conv.rs", 'if kind == "same_lower" { total.div_ceil(2) } else { total / 2 }', "total.div_ceil(2)"),
    ("window off by one", "kernels/pooling.rs", "for i in window.taps_on(2, at[2]) {", "for i in window.taps_on(2, at[2]).skip(1) {"),
    ("variance of a sample", "kernels/normalization.rs", "let variance = lines.sum(x, start, |v| (v - mean) * (v - mean)) / n;",
     "let variance = lines.sum(x, start, |v| (v - mean) * (v - mean)) / (n - 1.0);"),
    ("negative index not counted from the end", "kernels/gather.rs", "i64::from(index) + extent as i64", "-i64::from(index)"),
    ("inverse permutation", "kernels/reshape.rs", "perm.iter().map(|&p| x.axis(p)", "perm.iter().rev().map(|&p| x.axis(p)"),
    ("transposed product", "kernels/linear.rs", "let factor = if tx { x[k * rows + i] } else { x[i * inner + k] };", "let factor = x[i * inner + k];"),
    ("last element of the table", "compressed.rs", "self.values[(block * self.entries + index as usize) * self.vector + component]",
     "self.values[(block * self.entries + (index as usize).min(self.entries - 2)) * self.vector + component]"),
    ("bits counted from the chunk before", "compressed.rs", "number += usize::from(set);", "number += usize::from(set && at > start);"),
    ("begin of the box ignored", "kernels/slice.rs", "place.start += range.begin * step;", "place.start += 0 * range.begin * step;"),
    ("buffer freed while it is read", "allocate.rs", "if last_use[value] <= at\n", "if last_use[value] <= at + 1\n"),
    ("fp16 results not rounded", "plan.rs", "DType::Fp16 if numerics == Numerics::F16 => Self::Half,",
     "DType::Fp16 if numerics == Numerics::F16 => Self::Single,"),
    ("scale of the scores", "kernels/attention.rs", "let scale = 1.0 / (e as f32).sqrt();", "let scale = 1.0 / e as f32;"),
    ("loop that ends where it should go on", "interpreter.rs", "known.words().first().is_none_or(|word| *word == 0)",
     "known.words().first().is_none_or(|word| *word != 0)"),
    # Guards of shortcuts that were once narrower than the assumptions of the shortcut.
    ("stride of one place", "kernels/conv.rs", "if pointwise && groups == 1 && window.places() == 1 {", "if window.taps() == 1 && groups == 1 && window.places() == 1 {"),
    ("groups of one place", "kernels/conv.rs", "if pointwise && groups == 1 && window.places() == 1 {", "if pointwise && window.places() == 1 {"),
    ("padding of a plane", "kernels/conv.rs", "self.taps() == 1 && self.stride == [1; 3] && self.before == [0; 3] && self.input == self.output",
     "self.taps() == 1 && self.input == self.output"),
    ("tap on padding everywhere", "kernels/conv.rs", "before.saturating_sub(offset).div_ceil(stride).min(end);", "before.saturating_sub(offset).div_ceil(stride);"),
    ("weight of the first sequence", "kernels/conv.rs", "if !Call::share(calls, 1) {", "if false && !Call::share(calls, 1) {"),
    ("integers read as floats", "fusion/projection.rs", "filter(|c| c.kernel.is_matrix_product())?", 'filter(|c| ["conv", "linear"].contains(&c.op.as_str()))?'),
    ("residual that broadcasts", "fusion/projection.rs", "other.filter(|_| same_size)", "other.filter(|_| same_size || true)"),
    ("factor along another axis", "fusion/norm.rs", "if !squared || !rows.meet(graph, product, row, factor) {", "if !squared {"),
    ("epsilon of the root's own", "fusion/norm.rs", "if f64::from(own.abs()) * rows.len as f64 > NEGLIGIBLE {", "if f64::from(own.abs()) * NEGLIGIBLE > 1.0 {"),
    ("unit along another axis", "fusion/norm.rs", "!= unit || !rows.meet(graph, division, x, unit) {", "!= unit {"),
    ("epsilon that f32 cannot hold", "fusion/norm.rs", "|| !epsilon.is_finite()", ""),
    ("softmax of halves", "fusion/attention.rs", 'softmax.shape("x")?.dims() != rows || ', ""),
    ("keep along another axis", "fusion/attention.rs", "        && kept.shape_of(keep)?.dims() == [1, 1, context, 1]\n", ""),
    ("overhang out of the divisor", "kernels/pooling.rs", "_ if exclude => Pool::AverageOfElements,", '_ if exclude || node.op == "avg_pool" => Pool::AverageOfElements,'),
    ("nearest neighbour by f32", "kernels/resize.rs", "(true, Grid::Asymmetric) => i * from / to,", "(true, Grid::Asymmetric) => point as usize,"),
    ("gates of an LSTM in PyTorch's order", "kernels/recurrent.rs", "input * cell.of(sum(3))", "input * cell.of(sum(2))"),
    ("peephole of the cell as it was", "kernels/recurrent.rs", "let output = gate.of(sum(2) + peephole(2, j) * *c);",
     "let output = gate.of(sum(2) + peephole(2, j) * new);"),
    ("reverse results turned back", "kernels/recurrent.rs", "(true, _) => step,", "(true, _) => at,"),
    ("reset gate after the product", "kernels/recurrent.rs", "*kept = if reset_after { reset } else { reset * h[i] };", "*kept = if reset_after { reset } else { h[i] };"),
    ("update gate the other way round", "kernels/recurrent.rs", "*h = (1.0 - update) * new + update * *h;", "*h = update * new + (1.0 - update) * *h;"),
    ("states of one direction for both", "kernels/recurrent.rs", "(b * directions + number) * hidden..(b * directions + number + 1) * hidden",
     "b * directions * hidden..(b * directions + 1) * hidden"),
    ("last of equal scores first", "kernels/detection.rs", "order.sort_by(|a, b|", "order.reverse(); order.sort_by(|a, b|"),
    ("suppression across classes", "kernels/detection.rs", "(!self.by_class || best[*other].0 == best[n].0) && box_", "box_"),
    ("union that counts the overlap twice", "kernels/detection.rs", "both / (self.area() + other.area() - both)", "both / (self.area() + other.area())"),
    ("no box where none has the score", "kernels/detection.rs", "if taken.is_empty() {", "if false {"),
    ("box of one pixel less", "kernels/detection.rs", "let pixels = last + 1.0;", "let pixels = last;"),
    ("padding inside the last pixel", "kernels/detection.rs", "let inside = at >= 0.0 && at <= (size - 1) as f64;", "let inside = at >= 0.0 && at < (size - 1) as f64;"),
    ("width and height of a box swapped", "kernels/detection.rs", "if self.width_first { ([b, d], [a, c])", "if !self.width_first { ([b, d], [a, c])"),
    ("one matrix for all images", "kernels/resize.rs", "if several { plane / channels * 6 } else { 0 }", "0"),
    ("list that keeps its first length", "lists.rs", "self.length = length;", "self.length = self.length.max(1);"),
    ("last of equal probabilities", "kernels/classifier.rs", "if *probability > found", "if *probability >= found"),
]  # fmt: skip


# The same for the pool in `WORKERS`.
WORKERS = "crates/ane-runtime/src/workers"
POOL_FAULTS = [
    ("look at the gate before counting in", "gate.rs", "self.0.fetch_add(1, Acquire) & OPEN > 0",
     "{ let open = self.0.load(Acquire) & OPEN > 0; self.0.fetch_add(1, Acquire); open }"),
    ("gate that does not wait", "gate.rs", "while self.0.load(Acquire) > 0 {", "while false && self.0.load(Acquire) > 0 {"),
    ("gate that stays open", "gate.rs", "self.0.fetch_and(!OPEN, Relaxed);", "self.0.fetch_and(usize::MAX, Relaxed);"),
    ("gate opened without release", "gate.rs", "self.0.fetch_or(OPEN, Release);", "self.0.fetch_or(OPEN, Relaxed);"),
    ("gate entered without acquire", "gate.rs", "self.0.fetch_add(1, Acquire)", "self.0.fetch_add(1, Relaxed)"),
    ("gate left without release", "gate.rs", "self.0.fetch_sub(1, Release);", "self.0.fetch_sub(1, Relaxed);"),
    ("gate closed without acquire", "gate.rs", "while self.0.load(Acquire) > 0 {", "while self.0.load(Relaxed) > 0 {"),
    ("worker that enters without looking", "mod.rs", "if self.gate.enter() {", "if self.gate.enter() || true {"),
    ("sleepers that are not looked for", "bell.rs", "self.state.fetch_add(JOB, Release) & ASLEEP > 0", "self.state.fetch_add(JOB, Release) & ASLEEP > ASLEEP"),
    ("look for sleepers before counting the job", "bell.rs", "if self.state.fetch_add(JOB, Release) & ASLEEP > 0 {",
     "let before = self.state.load(Acquire); self.state.fetch_add(JOB, Release); if before & ASLEEP > 0 {"),
    ("look for a job before counting in as a sleeper", "bell.rs", "let mut now = self.state.fetch_add(1, Acquire) & !ASLEEP;",
     "let mut now = self.state.load(Acquire) & !ASLEEP; self.state.fetch_add(1, Acquire);"),
    ("notification without the lock", "bell.rs", "let _lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);\n        self.wake", "self.wake"),
    ("one worker woken", "bell.rs", "self.wake.notify_all();", "self.wake.notify_one();"),
    ("bell rung without release", "bell.rs", "self.state.fetch_add(JOB, Release)", "self.state.fetch_add(JOB, Relaxed)"),
    ("bell heard without acquire", "bell.rs", "now = self.state.load(Acquire) & !ASLEEP;\n        }\n        if", "now = self.state.load(Relaxed) & !ASLEEP;\n        }\n        if"),
    ("stop that wakes nobody", "bell.rs", "self.state.fetch_or(STOP, Release);\n        self.wake_all();", "self.state.fetch_or(STOP, Release);"),
    ("job opened before it is written", "mod.rs", "shared.taken.iter()", "shared.gate.open(); shared.taken.iter()"),
    ("parts that are not dealt anew", "mod.rs", "taken.0.store(0, Relaxed)", "drop(taken)"),
    ("part taken twice", "mod.rs", "taken[owner].0.fetch_add(1, Relaxed)",
     "{ let n = taken[owner].0.load(Relaxed); taken[owner].0.store(n + 1, Relaxed); n }"),
    ("panic of a worker lost", "mod.rs", "self.panicked.store(true, Relaxed);", ""),
    ("panic reported twice", "mod.rs", "shared.panicked.store(false, Relaxed);", ""),
    ("pool dropped before its workers have ended", "mod.rs", "let _ = thread.join();", "drop(thread);"),
    ("two callers at once", "mod.rs", "let guard = match self.busy.try_lock() {", "let guard = match Box::leak(Box::new(Mutex::new(()))).try_lock() {"),
]  # fmt: skip

class Suite:
    """Faults in the files of one folder, and the command that must find each of them."""

    def __init__(self, source: str, faults: list, tests: list[str], **environment: str) -> None:
        self.source, self.faults = source, faults
        self.command = ["cargo", "test", "--quiet", "--package", "ane-runtime", *tests]
        self.environment = os.environ | {"RUST_BACKTRACE": "0"} | environment

    def run(self, copy: Path) -> subprocess.CompletedProcess:
        # A fault in the pool can end a model in the middle of a panic's message, so the output need not be UTF-8.
        return subprocess.run(self.command, cwd=copy, env=self.environment, capture_output=True, text=True, errors="replace")


ENGINE = Suite(SOURCE, FAULTS, ["--test", "integration", "--", *(f"{t}::" for t in TESTS)], CARGO_TARGET_DIR=str(ROOT / "target/mutants"))
# As `scripts/check-races` builds the models, so that both share what they build.
OPT_LEVELS = {'package."*"': 0, "package.loom": 3, "package.generator": 3}
PROFILE = [a for name, level in OPT_LEVELS.items() for a in ("--config", f"profile.dev.{name}.opt-level={level}")]
POOL = Suite(
    WORKERS, POOL_FAULTS, [*PROFILE, "--lib", "workers::models"],
    CARGO_TARGET_DIR=str(ROOT / "target/races/loom"), RUSTFLAGS="--cfg loom", CARGO_PROFILE_DEV_OPT_LEVEL="0",
)  # fmt: skip


def main() -> int:
    wanted = sys.argv[1:]
    missed, planted = [], 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "workspace"
        files = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in files.splitlines():
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                # Copied with new modification times, or cargo would reuse the builds of an earlier run, its last fault included.
                shutil.copy(ROOT / name, copy / name)
        for suite in [ENGINE, POOL]:
            faults = [f for f in suite.faults if not wanted or f[0] in wanted]
            if faults and suite.run(copy).returncode:
                print("the tests fail without any fault")
                return 1
            planted += len(faults)
            for name, file, line, fault in faults:
                path = copy / suite.source / file
                text = path.read_text()
                if text.count(line) == 0:
                    print(f"{name}: {file} has no line {line!r}")
                    missed.append(name)
                    continue
                path.write_text(text.replace(line, fault, 1))
                result = suite.run(copy)
                path.write_text(text)
                output = result.stdout + result.stderr
                if "error[" in output or "could not compile" in output:
                    print(f"{name}: does not compile\n{output[-2000:]}")
                    missed.append(name)
                elif result.returncode == 0:
                    print(f"{name}: NOT FOUND", flush=True)
                    missed.append(name)
                else:
                    # cargo lists the names of failed tests after "failures:", indented, one per line. loom's panic about threads
                    # that all wait aborts the process before that, and names the test's thread.
                    names = re.findall(r"^    (?:\w+::)*(\w+)$", output, re.MULTILINE)
                    names = names or re.findall(r"^thread '(?:\w+::)*(\w+)' .*panicked", output, re.MULTILINE)
                    failed = sorted(set(names))
                    print(f"{name}: found by {', '.join(failed) or 'the suite'}", flush=True)
    print(f"{planted - len(missed)} of {planted} faults found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
