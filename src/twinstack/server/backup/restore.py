"""Make a server's store from a backup.

    twinstack server restore state.backup --sqlite PATH

The server must not run. What PATH holds is moved aside, not removed. Clients that watched the server before are told
to list again (410 Expired) and see what the backup holds: revisions of the restored store are higher than any before.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from twinstack.store import StoreError
from twinstack.store.backups import restore


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("backup", metavar="FILE", type=Path, help="made by `twinstack server backup`")
    parser.add_argument("--sqlite", required=True, metavar="PATH", type=Path, help="file of the server's store")


def run(args: argparse.Namespace) -> int:
    try:
        restored = restore(args.backup, args.sqlite)
    except StoreError as error:
        sys.stderr.write(f"twinstack: {error}\n")
        return 1
    sys.stdout.write(f"{args.sqlite}: {restored.contents.records} records; revisions go on after {restored.revision}\n")
    if restored.replaced is not None:
        sys.stdout.write(f"what was there before is {restored.replaced}\n")
    return 0
