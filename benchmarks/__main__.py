"""``python -m benchmarks``: run every benchmark of this folder, one after the other.

Modules whose names begin with an underscore are parts of benchmarks.
"""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import benchmarks


def main() -> int:
    """Run all; the exit code is that of the first that failed."""
    failed = 0
    for module in sorted(each.name for each in pkgutil.iter_modules(benchmarks.__path__)):
        if not module.startswith("_"):
            print(f"== {module}", flush=True)
            code = subprocess.run([sys.executable, "-m", f"benchmarks.{module}"], check=False)
            failed = failed or code.returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
