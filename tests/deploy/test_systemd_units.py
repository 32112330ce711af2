"""The units, judged by systemd itself."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
COMMANDS = ("fedpsyau-client", "fedpsyau-serve")

#: What `systemd-analyze security` may find at most, of 100: "OK" begins at 50, "safe" below 20.
EXPOSURE = 20

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as on a machine where the commands are installed, in a folder of this test's."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for command in COMMANDS:
        (programs / command).touch(mode=0o755)
    for unit in UNITS.glob("*.service"):
        text = unit.read_text().replace("ExecStart=/opt/fedpsyau/bin", f"ExecStart={programs}")
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def analyse(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "unit", ["fedpsyau-client@dfme_c1.service", "fedpsyau-server@pilot.service"]
)
def test_systemd_finds_nothing_wrong(installed: Path, unit: str) -> None:
    template = installed / re.sub("@.*[.]", "@.", unit)
    template.rename(installed / unit)
    found = analyse("verify", "--man=no", installed / unit)
    ours = [line for line in found.stderr.splitlines() if "fedpsyau" in line]
    assert (found.returncode, ours) == (0, []), found.stderr


def test_systemd_does_find_what_is_wrong(installed: Path) -> None:
    unit = installed / "fedpsyau-client@dfme_c1.service"
    text = (installed / "fedpsyau-client@.service").read_text()
    unit.write_text(text.replace("ProtectSystem=strict", "ProtectSystem=quite"))
    assert "quite" in analyse("verify", "--man=no", unit).stderr


@pytest.mark.parametrize("unit", ["fedpsyau-client@.service", "fedpsyau-server@.service"])
def test_the_services_may_do_little(unit: str) -> None:
    judged = analyse("security", "--offline=true", f"--threshold={EXPOSURE}", UNITS / unit)
    if "unrecognized option" in judged.stderr:
        pytest.skip("this systemd cannot judge a file")
    assert judged.returncode == 0, judged.stdout.splitlines()[-1:]
