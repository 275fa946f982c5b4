"""The executor, as a process that runs packages one after another in all its arithmetics."""

import json
import queue
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

VARIANTS = ("f32", "f16", "fast", "unfused")


@dataclass
class Outcome:
    """The result of a package in a variant: outputs named `CALL.OUTPUT`, or the error."""

    outputs: dict[str, np.ndarray]
    error: str | None
    # Number of steps of each kind in the plan of `fast`.
    steps: dict[str, int] = field(default_factory=dict)


class Runner:
    """`examples/differential.rs`. It is restarted if it dies or does not answer, which counts as an error of the package."""

    def __init__(self, program: Path, seconds: float = 60):
        self.program, self.seconds = program, seconds
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([str(self.program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answers: queue.Queue = queue.Queue()
        threading.Thread(target=self.listen, args=(self.process, self.answers), daemon=True).start()

    @staticmethod
    def listen(process, answers) -> None:
        for line in process.stdout:
            answers.put(line)
        answers.put(None)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, folder: Path) -> dict:
        """The answer for a folder, or the cause of the process's death."""
        try:
            self.process.stdin.write(f"{folder}\n")
            self.process.stdin.flush()
            answer = self.answers.get(timeout=self.seconds)
        except queue.Empty:
            answer, death = None, f"no answer for {self.seconds} s"
        except BrokenPipeError:
            answer, death = None, "died"
        else:
            death = "died"
        if answer is None:
            self.stop()
            code = self.process.returncode
            self.start()
            return {"package": f"crash: the process {death} (status {code})"}
        return json.loads(answer)

    def run(self, folder: Path) -> dict[str, Outcome]:
        """The results of each variant."""
        answer = self.ask(folder)
        if "package" in answer:
            return {variant: Outcome({}, answer["package"]) for variant in VARIANTS}
        found = {}
        for variant, error in answer["variants"].items():
            outputs = {} if error else load_file(str(folder / f"{variant}.safetensors"))
            found[variant] = Outcome(outputs, error, answer["steps"] if variant == "fast" else {})
        return found
