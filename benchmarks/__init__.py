"""Benchmarks: each prints ratios measured in one run, as ``python -m benchmarks.NAME``."""

import os

# As our commands say it before torch is loaded, so that what is measured is what runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
