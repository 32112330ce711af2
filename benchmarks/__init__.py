"""Benchmarks: each prints ratios measured in one run, as ``python -m benchmarks.NAME``."""

from fedpsyau_model.processor import let_threads_wait_briefly

# As our commands do before torch is loaded, so that what is measured is what runs.
let_threads_wait_briefly()
