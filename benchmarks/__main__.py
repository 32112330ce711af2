"""``python -m benchmarks [NAME ...]``: run benchmarks of this folder, one after the other.

All of them, or those named. The figures that have a limit go into the table of docs/performance.md;
rows of what did not run stay. Modules whose names begin with an underscore are parts of benchmarks.
"""

from __future__ import annotations

import argparse
import pkgutil
import subprocess
import sys
from pathlib import Path

import benchmarks
from benchmarks._measured_table import Measurement, machine, now, printed_figures, update

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def main() -> int:
    """Run and write the table after each; the exit code is that of the first that failed."""
    names = sorted(each.name for each in pkgutil.iter_modules(benchmarks.__path__))
    public = [name for name in names if not name.startswith("_")]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(public)}; or all")
    wanted = parser.parse_args().names or public
    if unknown := set(wanted).difference(public):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are: {public}")
    failed = 0
    for name in wanted:
        print(f"== {name}", flush=True)
        when = now()
        code, output = _run(name)
        failed = failed or code
        figures = printed_figures(output)
        update(PAGE, {key: Measurement(value, when) for key, value in figures.items()}, machine())
    return failed


def _run(name: str) -> tuple[int, str]:
    """Run one benchmark, its output shown as it comes; returns its exit code and that output."""
    command = [sys.executable, "-u", "-m", f"benchmarks.{name}"]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return process.returncode, "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
