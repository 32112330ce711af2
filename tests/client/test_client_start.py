"""What a client does before torch, whose import takes seconds, is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Modules that take longer to load than a site's data and state take to check.
SLOW = {"torch", "flwr", "grpc", "httpx", "cv2", "sklearn", "matplotlib"}


@pytest.mark.parametrize(
    "modules",
    [
        "fedpsyau_client.connection.taking_part, fedpsyau_client.command",
        "fedpsyau_client.connection.supernode",
        "fedpsyau_client.local_training.site_belongings, fedpsyau_client.oversight.audit_log",
    ],
)
def test_the_connection_is_begun_before_anything_slow_is_loaded(modules: str) -> None:
    code = f"import sys, {modules}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not SLOW.intersection(loaded)


def test_the_list_of_commands_loads_nothing_slow() -> None:
    code = (
        "import sys\nfrom fedpsyau_model.command_line import main\nsys.argv[1:] = ['--help']\n"
        "try:\n    main()\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "predict" in finished.stdout
    assert not (SLOW | {"numpy", "pydantic"}).intersection(finished.stderr.split())
