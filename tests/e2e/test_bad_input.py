"""Bad input: one paragraph that says what to do, the documented exit code, nothing half-written."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from processes import SCRIPTS, clean_environment, run
from safetensors.numpy import load_file, save_file

from fedpsyau_model.child_process import free_port

pytestmark = pytest.mark.e2e

PARTITION = "dfme_c1"


@pytest.fixture
def data(twin: Path, tmp_path: Path) -> Path:
    """A copy of one partition, to be spoiled."""
    shutil.copytree(twin / PARTITION, tmp_path / "data" / PARTITION)
    return tmp_path / "data"


def join(data: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Start a site with `data`; the server is one that nobody runs."""
    return run(
        "fedpsyau-client",
        *("--partition", PARTITION, "--data", data, "--state", data.parent / "state"),
        *("--superlink", f"127.0.0.1:{free_port()}", "--connect-seconds", 2, *arguments),
    )


def expect(finished: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One error paragraph with `words`, `code`, and no traceback."""
    assert finished.returncode == code, finished.stderr
    assert "Traceback" not in finished.stderr + finished.stdout
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, finished.stderr
    for word in words:
        assert word in errors[0]


def test_missing_data_folder(tmp_path: Path) -> None:
    expect(join(tmp_path / "nowhere"), 10, "nowhere", "fedpsyau data synth")
    assert not (tmp_path / "state").exists()


def test_missing_partition(data: Path) -> None:
    (data / PARTITION).rename(data / "dfme_c2")
    expect(join(data), 10, PARTITION, "dfme_c2")


def test_partition_of_another_name(data: Path, twin: Path) -> None:
    shutil.rmtree(data / PARTITION)
    shutil.copytree(twin / "casme3_c1", data / PARTITION)
    expect(join(data), 20, "casme3_c1", PARTITION)


def test_truncated_features(data: Path) -> None:
    file = data / PARTITION / "features.safetensors"
    size = file.stat().st_size
    with file.open("r+b") as stream:
        stream.truncate(size // 2)
    expect(join(data), 11, "features.safetensors", "truncated", str(size), str(size // 2))


def test_edited_features(data: Path) -> None:
    file = data / PARTITION / "features.safetensors"
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    file.write_bytes(content)
    expect(join(data), 11, "features.safetensors", "checksum")


def test_nan_in_features(data: Path) -> None:
    """NaN under a checksum that fits: a preparation went wrong."""
    import hashlib

    folder = data / PARTITION
    tensors = {
        name: np.array(tensor)
        for name, tensor in load_file(folder / "features.safetensors").items()
    }
    tensors["flow"][2, 0, 3, 3] = np.nan
    save_file(tensors, folder / "features.safetensors")
    manifest = json.loads((folder / "manifest.json").read_text())
    content = (folder / "features.safetensors").read_bytes()
    manifest["files"]["features"] |= {
        "sha256": hashlib.sha256(content).hexdigest(),
        "size-bytes": len(content),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    expect(join(data), 11, "NaN")


def test_manifest_of_another_schema_version(data: Path) -> None:
    file = data / PARTITION / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["schema-version"] = 99
    file.write_text(json.dumps(manifest))
    expect(join(data), 12, "99", "1")


def test_manifest_that_is_no_json(data: Path) -> None:
    (data / PARTITION / "manifest.json").write_text("{")
    expect(join(data), 11, "manifest.json")


def test_unreachable_server(data: Path) -> None:
    expect(join(data), 31, "127.0.0.1", "fedpsyau-server")


def test_server_off_loopback(data: Path) -> None:
    expect(join(data, "--superlink", "192.0.2.1:9092"), 32, "192.0.2.1:9092", "TLS")


def test_listening_off_loopback(tmp_path: Path) -> None:
    finished = run("fedpsyau-server", "--listen", "0.0.0.0:9092", "--runs", tmp_path / "runs")
    expect(finished, 32, "0.0.0.0:9092", "TLS")
    assert not (tmp_path / "runs").exists()


def test_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        finished = run("fedpsyau-server", "--listen", address, "--runs", tmp_path / "runs")
    expect(finished, 30, address, "--listen")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[strategy]\ntheta = 1.5\n", ("strategy.theta", "1.5", "less than or equal to 1")),
        ("[training]\nepochs = 'two'\n", ("training.epochs", "'two'", "integer")),
        ("[strategy]\nname = 'fedsgd'\n", ("strategy.name", "'fedsgd'", "'fedavg'")),
        ("[training]\nepoch = 2\n", ("training.epoch = 2", "training.epochs")),
        ("seed = True\n", ("TOML", "lower case")),
    ],
)
def test_wrong_value_in_a_config(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    config = tmp_path / "federation.toml"
    config.write_text(text)
    finished = run("fedpsyau-server", "--config", config, "--runs", tmp_path / "runs")
    expect(finished, 3, "federation.toml", *words)
    assert not (tmp_path / "runs").exists()


def test_missing_config(tmp_path: Path) -> None:
    finished = run("fedpsyau-server", "--config", tmp_path / "none.toml")
    expect(finished, 3, "none.toml")


def test_wrong_device(data: Path) -> None:
    expect(join(data, "--device", "gpu"), 3, "device", "'gpu'", "cuda:N")


def test_report_of_no_run(tmp_path: Path) -> None:
    expect(run("fedpsyau", "report", tmp_path), 41, "config.json")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_synth_leaves_nothing_half_written(tmp_path: Path, stop: int) -> None:
    out = tmp_path / "data"
    process = subprocess.Popen(
        [str(SCRIPTS / "fedpsyau"), "data", "synth", "--out", str(out), "--scale", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    deadline = time.monotonic() + 60
    while not any(tmp_path.rglob("*.partial*")) and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it was interrupted"
        time.sleep(0.005)
    process.send_signal(stop)
    _, errors = process.communicate(timeout=30)
    if stop == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
        assert not any(tmp_path.rglob("*.partial*"))
    # Whatever bears a partition's name is whole, and the next start makes the rest.
    again = run("fedpsyau", "data", "synth", "--out", out, "--scale", 0.02, "--overwrite")
    assert again.returncode == 0, again.stderr
    assert not any(tmp_path.rglob("*.partial*"))
    assert len(list(out.glob("*/manifest.json"))) == 7
