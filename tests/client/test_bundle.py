"""What counts as code in a bundle."""

from __future__ import annotations

import hashlib
import io
import zipfile
from importlib import resources

import pytest
from flwr.cli.build import build_fab_from_disk

from fedpsyau_client.oversight.bundle import COMPONENTS, require_no_code
from fedpsyau_model.errors import BundleRefusedError

FOLDER = resources.files("fedpsyau_server") / "bundle"
PROJECT = (FOLDER / "pyproject.toml").read_text()
OURS = {"pyproject.toml": PROJECT, "LICENSE": "text", ".info/CONTENT": "a list"}


def archive(files: dict[str, str], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as written:
        for name, text in files.items():
            written.writestr(name, text)
    return stream.getvalue()


def test_what_flower_builds_of_ours_is_accepted() -> None:
    with resources.as_file(FOLDER) as folder:
        require_no_code(build_fab_from_disk(folder))


def test_the_components_are_those_that_the_bundle_names() -> None:
    for name, component in COMPONENTS.items():
        assert f'{name} = "{component}"' in PROJECT


def twice() -> bytes:
    stream = io.BytesIO(archive(OURS))
    with zipfile.ZipFile(stream, "a") as written, pytest.warns(UserWarning, match="Duplicate"):
        written.writestr("pyproject.toml", PROJECT)
    return stream.getvalue()


def broken() -> bytes:
    """A file whose packed bytes are not what they were."""
    content = bytearray(archive(OURS))
    start = content.index(b"pyproject.toml") + 14
    content[start : start + 40] = b"\xff" * 40
    return bytes(content)


CODE = "import os; os.system('id')"
BAD = {
    "a module": (archive(OURS | {"evil.py": CODE}), "it holds 'evil.py'"),
    "our own module, to shadow it": (
        archive(OURS | {"fedpsyau_client/app.py": CODE}),
        "'fedpsyau_client/app.py'",
    ),
    "a library": (archive(OURS | {"evil.so": CODE}), "'evil.so'"),
    "a path hook": (archive(OURS | {"evil.pth": CODE}), "'evil.pth'"),
    "data": (archive(OURS | {"weights.pkl": CODE}), "'weights.pkl'"),
    "a way out": (archive(OURS | {"../../../LICENSE": CODE}), "'../../../LICENSE'"),
    "a folder": (archive(OURS | {"src/": ""}), "'src/'"),
    "many": (archive(OURS | {f"m{i}.py": "" for i in range(40)}), "and 35 more"),
    "a name to steer a terminal": (archive(OURS | {"\x1b[2Jx": ""}), r"'\x1b[2Jx'"),
    "no project": (archive({"LICENSE": ""}), "no pyproject.toml"),
    "nothing": (archive({}), "no pyproject.toml"),
    "a file twice": (twice, "twice"),
    "another server app": (
        archive(OURS | {"pyproject.toml": PROJECT.replace("fedpsyau_server", "evil")}),
        "'serverapp': 'evil.app:app'",
    ),
    "another client app": (
        archive(OURS | {"pyproject.toml": PROJECT.replace("fedpsyau_client.app:app", "os:system")}),
        "os:system",
    ),
    "a component more": (
        archive(
            OURS
            | {"pyproject.toml": PROJECT.replace("[tool.flwr.app.config]", "agentapp = 'evil:app'")}
        ),
        "agentapp",
    ),
    "no components": (archive(OURS | {"pyproject.toml": "[project]\n"}), "names no components"),
    "no TOML": (archive(OURS | {"pyproject.toml": "["}), "names no components"),
    "deep TOML": (archive(OURS | {"pyproject.toml": "a = " + "[" * 9999}), "names no components"),
    "a huge file": (archive(OURS | {"LICENSE": "x" * (1 << 20)}), "larger than"),
    "no archive": (b"import os", "cannot be read"),
    "no bytes": (b"", "cannot be read"),
    "half": (archive(OURS)[:-40], "cannot be read"),
    "broken": (broken, "cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_anything_else_is_refused_with_its_hash(case: str) -> None:
    made, words = BAD[case]
    content = made if isinstance(made, bytes) else made()
    with pytest.raises(BundleRefusedError) as error:
        require_no_code(content)
    assert words in str(error.value)
    assert hashlib.sha256(content).hexdigest() in str(error.value)
    assert len(str(error.value)) < 1000
    assert str(error.value).isprintable()
