"""The frame of the three commands: errors become a message and an exit code, never a traceback."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from fedpsyau_model import __version__
from fedpsyau_model.command_tree import CommandTree
from fedpsyau_model.errors import INTERRUPTED, FedPsyAUError
from fedpsyau_model.foreign_text import escaped
from fedpsyau_model.log_lines import FORMAT_VARIABLE, logs_as_json
from fedpsyau_model.processor import let_threads_wait_briefly
from fedpsyau_model.proxies import connect_directly

log = logging.getLogger(__name__)

#: Set to anything to see the traceback of an error.
DEBUG_VARIABLE = "FEDPSYAU_DEBUG"

#: What stays as it is in messages, which quote file names, cells of tables and ends of log files.
_LAYOUT = "\n\t"

#: Entry-point group under which packages bring the sub-commands of ``fedpsyau``.
COMMAND_GROUP = "fedpsyau.commands"


def run_command(command: Callable[[], Any]) -> NoReturn:
    """Run a typer app or function; print a FedPsyAUError as text and exit with its code.

    SIGTERM is treated like Ctrl-C, so that `finally` blocks run and no child process stays behind.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    sys.unraisablehook = _interrupt_again
    let_threads_wait_briefly()
    connect_directly(())
    try:
        command()
    except FedPsyAUError as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        print_error(str(error), type(error).__name__, error.exit_code)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print_error("Stopped before it was done.", "Interrupted", INTERRUPTED)
        sys.exit(INTERRUPTED)
    sys.exit(0)


def print_error(message: str, kind: str, exit_code: int) -> None:
    """Print one paragraph to stderr, the word `error` in red where the terminal has colours.

    kind: name of the error, for logs in JSON.
    """
    if logs_as_json():
        fields = {"event": "error", "error": kind, "exit_code": exit_code}
        log.error(message, extra={"fields": fields})
        return
    typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
    typer.echo(escaped(message, but=_LAYOUT), err=True)


def print_notice(message: str) -> None:
    """Print one paragraph to stderr, the word `notice` in yellow where the terminal has colours."""
    if logs_as_json():
        log.info(message, extra={"fields": {"event": "notice"}})
        return
    typer.secho("notice: ", fg="yellow", err=True, nl=False)
    typer.echo(escaped(message, but=_LAYOUT), err=True)


def print_warning(message: str) -> None:
    """Print one paragraph to stderr, all of it in red where the terminal has colours."""
    if logs_as_json():
        log.warning(message, extra={"fields": {"event": "warning"}})
        return
    typer.secho(f"warning: {message}", fg="red", bold=True, err=True)


def print_result(message: str) -> None:
    """Print to stdout what a long-running command has to say at its end."""
    if logs_as_json():
        log.info(message, extra={"fields": {"event": "result"}})
        return
    typer.echo(message)


def log_format_option() -> Any:
    """Make the option ``--log-format`` of a long-running command."""
    return typer.Option(
        "--log-format",
        help="Lines for people, or JSON lines without paths for a collector: text or json.",
        envvar=FORMAT_VARIABLE,
        show_envvar=False,
    )


def new_app(help_text: str, *, acts_alone: bool = False) -> typer.Typer:
    """Make a typer app with the settings that all our commands share.

    acts_alone: whether it does something without a command's name after its own, in its callback.
    If not, it then prints its help.
    """
    return typer.Typer(
        help=help_text,
        no_args_is_help=not acts_alone,
        invoke_without_command=acts_alone,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


def version_option() -> Any:
    """Make the option ``--version`` of a command."""
    return typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    )


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fedpsyau {__version__}")
        raise typer.Exit


def _interrupt(_signal: int, _frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _interrupt_again(dropped: sys.UnraisableHookArgs) -> None:
    """Repeat an interruption that fell into a finaliser, where Python drops every exception.

    It is sent a moment later, when the finaliser is over; without this, one Ctrl-C in some hundred
    would be lost.
    """
    if dropped.exc_type is KeyboardInterrupt:
        main_thread = threading.main_thread().ident
        assert main_thread is not None
        threading.Timer(0.05, signal.pthread_kill, (main_thread, signal.SIGTERM)).start()
    else:
        sys.__unraisablehook__(dropped)


def main() -> None:
    """Entry point of ``fedpsyau``: everything that happens on one machine."""
    run_command(_build_app())


def _build_app() -> Callable[[], Any]:
    """Put the commands that the packages bring under one name."""
    app = new_app(
        "Recognise micro-expressions, alone or together with other sites, without sharing a clip."
    )

    @app.callback(cls=CommandTree)
    def root(version: bool = version_option()) -> None:
        """Recognise micro-expressions, alone or with other sites, without sharing a clip."""

    tree = typer.main.get_group(app)
    assert isinstance(tree, CommandTree)
    tree.add_packages(COMMAND_GROUP)
    return tree
