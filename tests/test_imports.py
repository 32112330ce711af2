"""The direction of imports (design section 2), enforced by reading every module's source.

`fedpsyau_experiments` -> `fedpsyau_server`, `fedpsyau_client` -> `fedpsyau_model` ->
`fedpsyau_priors`; Flower only in server and client; PyTorch never loaded by what only prints help.
"""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PACKAGES = {
    "fedpsyau_priors": ROOT / "priors" / "fedpsyau_priors",
    "fedpsyau_model": ROOT / "fedpsyau_model",
    "fedpsyau_client": ROOT / "client" / "fedpsyau_client",
    "fedpsyau_server": ROOT / "server" / "fedpsyau_server",
    "fedpsyau_experiments": ROOT / "experiments" / "fedpsyau_experiments",
}

#: What each package must not import, at module level or anywhere deeper.
FORBIDDEN = {
    "fedpsyau_priors": {
        *("fedpsyau_model", "fedpsyau_client", "fedpsyau_server", "fedpsyau_experiments"),
        *("flwr", "torch"),
    },
    "fedpsyau_model": {"fedpsyau_client", "fedpsyau_server", "fedpsyau_experiments", "flwr"},
    "fedpsyau_client": {"fedpsyau_server", "fedpsyau_experiments"},
    "fedpsyau_server": {"fedpsyau_client", "fedpsyau_experiments"},
    "fedpsyau_experiments": {"flwr"},
}


def imported_names(source):
    """Yield (line, dotted name) of every absolute import, also of ``import_module("name")``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, node.module
        elif isinstance(node, ast.Call) and node.args:
            function = node.func
            name = getattr(function, "attr", getattr(function, "id", ""))
            target = node.args[0]
            if name in ("import_module", "__import__") and isinstance(target, ast.Constant):
                yield node.lineno, str(target.value)


def violations(folder, forbidden):
    """Lines ``file:line imports name`` for every forbidden import under `folder`."""
    return [
        f"{file.relative_to(folder.parent)}:{line} imports {name}"
        for file in sorted(folder.rglob("*.py"))
        for line, name in imported_names(file.read_text(encoding="utf-8"))
        if name.split(".")[0] in forbidden
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package):
    assert list(PACKAGES[package].glob("*.py"))
    assert violations(PACKAGES[package], FORBIDDEN[package]) == []


@pytest.mark.parametrize(
    "planted",
    [
        "import flwr",
        "import numpy, flwr.app as app",
        "from flwr.app import Context",
        "def later():\n    from flwr import app",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import flwr",
        "import importlib\nimportlib.import_module('flwr.app')",
        "__import__('flwr')",
    ],
)
def test_the_checker_finds_a_planted_violation(tmp_path, planted):
    (tmp_path / "package" / "deeper").mkdir(parents=True)
    (tmp_path / "package" / "deeper" / "module.py").write_text(planted)
    found = violations(tmp_path / "package", {"flwr"})
    assert len(found) == 1
    assert "package/deeper/module.py:" in found[0]


@pytest.mark.parametrize(
    "innocent",
    ["import flwrish", "from . import flwr", "flwr = 'import flwr'  # import flwr", "f('flwr')"],
)
def test_the_checker_accuses_nobody_else(tmp_path, innocent):
    (tmp_path / "module.py").write_text(innocent)
    assert violations(tmp_path, {"flwr"}) == []


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def command_modules():
    """Every module that a console script or a sub-command of ``fedpsyau`` loads to print help."""
    commands = project()["entry-points"]["fedpsyau.commands"]
    targets = {*project()["scripts"].values(), *commands.values()}
    return sorted(target.partition(":")[0] for target in targets)


def source_of(module):
    package, *rest = module.split(".")
    path = PACKAGES[package].joinpath(*rest)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def is_loaded_after(program, module="torch"):
    program += f"\nimport sys\nsys.exit(int({module!r} in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode in (0, 1), result.stderr
    assert "Traceback" not in result.stderr, result.stderr
    return bool(result.returncode)


@pytest.mark.parametrize("module", command_modules())
def test_loading_a_command_does_not_load_torch(module):
    if not source_of(module).exists():
        pytest.skip(f"{module} is not written yet")
    assert not is_loaded_after(f"import {module}")


@pytest.mark.parametrize("module", ["torch", "numpy", "pydantic"])
def test_help_loads_nothing_heavy(module):
    program = (
        "import sys\n"
        "from fedpsyau_model.command_line import main\n"
        "sys.argv = ['fedpsyau', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )
    assert not is_loaded_after(program, module)


def test_asking_a_server_for_its_health_does_not_load_torch():
    assert not is_loaded_after(
        "import sys; sys.argv = ['fedpsyau-server', 'health', '--address', '127.0.0.1:1']\n"
        "from fedpsyau_server.command import app\n"
        "try: app()\nexcept SystemExit as end: assert end.code == 1"
    )


def test_the_torch_check_can_fail():
    assert is_loaded_after("import torch")
