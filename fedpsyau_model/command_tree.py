"""The commands that packages bring under one name, each put together only when it is called.

To put a command together, typer evaluates the type hints of all its options. For the list of
commands that would be a third of the time, and nobody asked for it.
"""

from __future__ import annotations

import importlib.metadata
import inspect
from typing import Any

import click
import typer
from typer.core import TyperGroup

__all__ = ["CommandTree"]


class CommandTree(TyperGroup):
    """A group whose commands are the typer apps of an entry-point group.

    An app with one command becomes that command (``fedpsyau report RUN``), any other a group of
    commands (``fedpsyau data prepare``).
    """

    def add_packages(self, entry_group: str) -> None:
        """Take the apps that installed packages bring under this name of an entry-point group."""
        for entry in sorted(importlib.metadata.entry_points(group=entry_group)):
            self.add_command(_Unopened(entry), entry.name)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Put the command of this name together, or return None if there is none."""
        command = super().get_command(context, name)
        return command.opened() if isinstance(command, _Unopened) else command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command's first sentence, without putting any together."""
        names = self.list_commands(context)
        limit = formatter.width - 6 - max(map(len, names), default=0)
        rows = [(name, self.commands[name].get_short_help_str(limit)) for name in names]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


class _Unopened(click.Command):
    """A package's app, of which not more is known than where it is."""

    def __init__(self, entry: importlib.metadata.EntryPoint) -> None:
        super().__init__(entry.name)
        self._entry = entry

    def opened(self) -> click.Command:
        return typer.main.get_command(self._entry.load())

    def get_short_help_str(self, limit: int = 45) -> str:
        self.help = _help_text(self._entry.load())
        return super().get_short_help_str(limit)


def _help_text(app: typer.Typer) -> str | None:
    """Say what typer would say of an app once it has put it together."""
    commands: list[Any] = app.registered_commands
    if app.registered_callback is None and not app.registered_groups and len(commands) == 1:
        return commands[0].help or inspect.getdoc(commands[0].callback)
    return app.info.help
