"""A site builds priors from its own clips and trains with them; nobody else learns of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Federation, run

from fedpsyau_client.own_priors.priors_file import read_priors_file
from fedpsyau_priors import published_priors

pytestmark = pytest.mark.e2e

CONFIG = """
[network]
priors = "site"
[training]
epochs = 1
[rounds]
rounds = 2
"""


@pytest.mark.slow
def test_a_sites_own_priors_guide_its_model_and_stay_there(
    tmp_path: Path, twin: Path, new_federation: Callable[..., Federation]
) -> None:
    own = tmp_path / "own"
    arguments = ("--from", twin / "dfme_c1", "--smoothing", 0.5, "--name", "the secret priors")
    built = run("fedpsyau", "priors", "build", *arguments, "--out", own)
    assert built.returncode == 0, built.stderr
    priors = read_priors_file(own / "priors.json").priors()
    federation = new_federation()
    federation.start_server(CONFIG, "--sites", "dfme_c1,dfme_c2")
    federation.start_site("dfme_c1", "--priors", own / "priors.json")
    federation.start_site("dfme_c2")
    codes = federation.wait_for_all()
    assert set(codes.values()) == {0}, {name: federation.log(name) for name in codes}
    assert federation.rounds()[-1]["answered"] == ["dfme_c1", "dfme_c2"]
    assert "given none with --priors" in federation.log("dfme_c2")
    used = {
        site: json.loads((federation.folder / "state" / site / "personal.json").read_text())[
            "priors"
        ]
        for site in ("dfme_c1", "dfme_c2")
    }
    assert used["dfme_c1"] == {"name": "the secret priors", "sha256": priors.fingerprint()}
    assert used["dfme_c2"]["sha256"] == published_priors().fingerprint()
    assert run("fedpsyau", "report", federation.run_folder).returncode == 0
    server_files = [path for path in federation.run_folder.rglob("*") if path.is_file()]
    assert any(path.name == "sites.json" for path in server_files)
    for path in server_files:
        content = path.read_bytes()
        for secret in ("the secret priors", priors.fingerprint()[:12]):
            assert secret.encode() not in content, path
