"""``fedpsyau settings``: the one table of all settings and defaults, made from the models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fedpsyau_model.command_line import new_app

if TYPE_CHECKING:
    from fedpsyau_model.settings import Settings

app = new_app("List the federation's settings with their defaults.", acts_alone=True)


@app.callback()
def settings(
    markdown: bool = typer.Option(False, help="As a Markdown table, as in docs/settings.md."),
) -> None:
    """List every key of federation.toml with its default and what is allowed."""
    from fedpsyau_model.settings import FederationSettings

    if markdown:
        typer.echo(markdown_table(FederationSettings))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("key", "default", "allowed", "meaning")
    for row in settings_rows(FederationSettings):
        table.add_row(*row)
    Console().print(table)


def markdown_table(model: type[Settings]) -> str:
    """The table of docs/settings.md."""
    from fedpsyau_model.settings import environment_name

    lines = [
        "| key | default | allowed | meaning | environment |",
        "|---|---|---|---|---|",
    ]
    for key, default, allowed, meaning in settings_rows(model):
        allowed = allowed.replace("|", "\\|")
        lines.append(
            f"| `{key}` | `{default}` | {allowed} | {meaning} | `{environment_name(key)}` |"
        )
    return "\n".join(lines)


def settings_rows(model: type[Settings], prefix: str = "") -> list[tuple[str, str, str, str]]:
    """Rows (key, default, allowed, meaning) of a settings model and its sections."""
    from fedpsyau_model.settings import Settings, kebab_case

    properties = model.model_json_schema(by_alias=True)["properties"]
    rows: list[tuple[str, str, str, str]] = []
    for name, field in model.model_fields.items():
        key = kebab_case(name)
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Settings):
            rows += settings_rows(section, f"{prefix}{key}.")
            continue
        shown = "required" if field.is_required() else _shown(field.get_default())
        rows.append((prefix + key, shown, _allowed(properties[key]), field.description or ""))
    return rows


def _shown(default: Any) -> str:
    if default is None:
        return "none"
    return json.dumps(str(default) if isinstance(default, Path) else default)


def _allowed(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_allowed(kind) for kind in schema["anyOf"] if kind.get("type") != "null")
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    bounds = [
        f"{sign} {schema[name]:.15g}"
        for name, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if name in schema
    ]
    kinds = {"boolean": "true, false", "integer": "integer", "number": "number", "array": "list"}
    kind = kinds.get(schema.get("type", ""), "text")
    return " ".join([kind, ", ".join(bounds)]).strip()
