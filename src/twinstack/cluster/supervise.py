"""The process that watches over a cluster's parts; `twinstack up` starts it."""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import logging
import os
import resource
import sys

from twinstack.cluster.parts import cluster_parts, program
from twinstack.cluster.state import paths
from twinstack.cluster.supervisor import Supervisor
from twinstack.cluster.watcher import GO

log = logging.getLogger(__name__)

_PR_SET_CHILD_SUBREAPER = 36
_OPEN_FILES = 65536


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="the cluster")


def run(args: argparse.Namespace) -> int:
    """Waits for the word on standard input, then runs until it is told to stop."""
    own = paths(args.name)
    lock = os.open(own.run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.error("another supervisor watches over %s", args.name)
        return 1
    _adopt_orphans()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_OPEN_FILES, hard), hard))
    if sys.stdin.buffer.readline() != GO:
        log.error("`twinstack up` ended before the cluster was prepared")
        return 1
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")  # glibc would reserve an arena a thread in every part
    os.chdir("/")
    Supervisor(
        lambda: cluster_parts(own.required(), own),
        program=program(),
        records=own.processes,
        logs=own.logs,
        address=own.supervisor,
    ).run()
    os.close(lock)
    return 0


def _adopt_orphans() -> None:
    """Become the parent of what parts leave behind, so that an ended process never stays as a zombie."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"become the parent of orphans: {os.strerror(code)}")
