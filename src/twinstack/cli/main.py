"""`twinstack COMMAND`: finds the command's module, reads its flags and runs it.

Only the module of the command that was asked for is imported, so a part of the cluster starts with what it
needs and nothing else.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from twinstack import __version__
from twinstack.cli.commands import COMMANDS, Command, overview

USAGE_ERROR = 2  # the exit code of argparse
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; 1 is a failure that was explained on standard error."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    word = arguments[0] if arguments else "--help"
    if word in ("-h", "--help", "help"):
        print(overview())
        return 0
    if word in ("--version", "version"):
        print(f"twinstack {__version__}")
        return 0
    if " ".join(arguments[:2]) in COMMANDS:  # a command of two words
        word = " ".join(arguments[:2])
    command = COMMANDS.get(word)
    if command is None:
        print(f"twinstack: no command {word!r}{_suggestion(word)}; `twinstack --help` lists them", file=sys.stderr)
        return USAGE_ERROR
    try:
        module = _load(command.module) if argv is None else importlib.import_module(command.module)
        return _run(word, command, module, arguments[len(word.split()) :])
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader went away: nothing more to say
        return 1


def _load(name: str) -> ModuleType:
    """Modules stay, and looking for garbage among them takes a tenth of the time to load them."""
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def _run(word: str, command: Command, module: ModuleType, arguments: list[str]) -> int:
    parser = _Parser(
        prog=f"twinstack {word}", description=module.__doc__, allow_abbrev=False, formatter_class=_HelpFormatter
    )
    module.add_flags(parser)
    if command.component:
        parser.add_argument("-v", "--v", type=int, default=0, metavar="LEVEL", help="log verbosity; 4 and above debug")
    args = parser.parse_args(arguments)
    if command.component:
        from twinstack.cli import logs

        logs.configure(args.v)
        return int(module.run(args))
    try:
        return int(module.run(args))
    except PermissionError as error:
        print(f"twinstack: {error}; run the same command again with sudo", file=sys.stderr)
        return 1
    except Exception as error:
        from twinstack.cluster.errors import ClusterError

        if not isinstance(error, ClusterError):
            raise
        print(f"twinstack: {error}", file=sys.stderr)
        return 1


class _Parser(argparse.ArgumentParser):
    """Says on one line what is wrong with the flags, and what to do."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: {message}{self._meant(message)}; `{self.prog} --help` lists the flags\n")

    def _meant(self, message: str) -> str:
        import difflib

        unknown = message.removeprefix("unrecognized arguments: ").split()
        if unknown and unknown[0] != message.split()[0]:
            close = difflib.get_close_matches(unknown[0].partition("=")[0], self._option_string_actions, n=1)
            return f", did you mean {close[0]}?" if close else ""
        return ""


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the paragraphs of a module's docstring and names the defaults that there are."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.option_strings and action.default not in (None, "", False, argparse.SUPPRESS):
            return f"{action.help} (default: %(default)s)"
        return action.help


def _suggestion(word: str) -> str:
    import difflib

    visible = [name for name, command in COMMANDS.items() if not command.hidden]
    close = difflib.get_close_matches(word, visible, n=1)
    return f", did you mean {close[0]!r}?" if close else ""


if __name__ == "__main__":
    sys.exit(main())
