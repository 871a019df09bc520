"""Install the CNI plugin: the executable twinstack-cni, for a node's runtime to call.

    twinstack cni install --bin-dir /opt/cni/bin [--socket /run/twinstack-cni/socket]

It replaces an older one at once: a call that is under way ends with the file that it began with. It hands calls to the
service and does nothing else, so most of its time is its interpreter's start: Perl's where there is Perl, as on every
Debian, which is a third of Python's.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.resources import files
from pathlib import Path

from twinstack.node.cni.configuration import NAME

SOCKET = "/run/twinstack-cni/socket"
PERL = Path("/usr/bin/perl")


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bin-dir", required=True, metavar="DIR", help="where the runtime looks for plugins")
    parser.add_argument("--socket", default=SOCKET, metavar="FILE", help="where the service of this node listens")


def run(args: argparse.Namespace) -> int:
    path = install(Path(args.bin_dir), args.socket)
    sys.stdout.write(f"{path}\n")
    return 0


def install(directory: Path, socket: str = SOCKET, perl: Path = PERL) -> Path:
    """Write the executable for this interpreter and a service at `socket`; its path. Raises OSError."""
    language = "perl" if os.access(perl, os.X_OK) else "python"
    text = files("twinstack.node.cni").joinpath(f"executable.{language}").read_text()
    for place, value in (("@PERL@", str(perl)), ("@PYTHON@", sys.executable), ("@SOCKET@", socket)):
        text = text.replace(place, value)
    directory.mkdir(parents=True, exist_ok=True)
    path, new = directory / NAME, directory / f".{NAME}.new"
    new.write_text(text)
    os.chmod(new, 0o755)
    new.rename(path)
    return path
