"""How long it takes to look again: a second run of everything, and --help.

ZOO=folder python benchmarks/warm.py      three minutes on 2 cores, nearly all of it the first run; exits 1 if a target is missed
Both are processes of their own, with the imports of Python.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

import common

MODELS = ("packaged/all-MiniLM-L6-v2", "wordllama/256", "st/minishlab/potion-base-8M")
SECOND, HELP = 10.0, 0.4
ROUNDS = 5


def seconds(*words: str) -> tuple[float, str]:
    """The seconds of one call of the command line, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "harness", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - began, done.stderr


def main() -> int:
    common.use_zoo()
    with tempfile.TemporaryDirectory() as folder:
        words = ["eval", str(common.scifact()), "--store", f"{folder}/store", "--out", f"{folder}/out"]
        words += [word for model in MODELS for word in ("--model", model)]
        first, _ = seconds(*words)
        second, said = seconds(*words)
        embedded = any("to embed" in line or "documents:" in line for line in said.splitlines())
    helped = min(seconds("--help")[0] for _ in range(ROUNDS))
    rows = [
        f"| first run, {len(MODELS)} models and floors on scifact | {first:.1f} | |",
        f"| second run{', which embedded' if embedded else ', nothing embedded'} | {second:.1f} | {SECOND:g} |",
        f"| bakeoff --help, the least of {ROUNDS} | {helped:.2f} | {HELP} |",
    ]
    common.report("warm", ["| what | seconds | at most |", "| --- | --- | --- |", *rows])
    return int(second > SECOND or embedded or helped > HELP)


if __name__ == "__main__":
    sys.exit(main())
