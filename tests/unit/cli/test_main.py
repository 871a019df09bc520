"""The command line answers without importing what it does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

from twinstack import __version__
from twinstack.cli.commands import COMMANDS
from twinstack.cli.main import main


def test_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name, command in COMMANDS.items() if not command.hidden)
    assert "supervise" not in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"twinstack {__version__}\n"


def test_unknown_command_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stauts"]) == 2
    assert capsys.readouterr().err == (
        "twinstack: no command 'stauts', did you mean 'status'?; `twinstack --help` lists them\n"
    )


@pytest.mark.parametrize("word", ["up", "down", "status", "kubeconfig", "node-exec"])
def test_help_of_a_command(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([word, "--help"])
    assert exit_.value.code == 0
    assert f"usage: twinstack {word}" in capsys.readouterr().out


def test_help_of_one_command_imports_no_other() -> None:
    code = (
        "import sys\n"
        "from twinstack.cli.main import main\n"
        "try: main(['up', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = ('asyncio', 'uvloop', 'cryptography', 'yaml', 'msgspec', 'logging')\n"
        "parts = ('server', 'controllers', 'scheduler', 'node', 'proxy')\n"
        "unwanted = (*heavy, *(f'twinstack.{part}' for part in parts))\n"
        "print(sorted(m for m in sys.modules if m.startswith(unwanted)))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.splitlines()[-1] == "[]"
