"""Which store the flags name."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from twinstack.server import storage
from twinstack.server.flags import FlagError
from twinstack.store.etcd.store import EtcdStore
from twinstack.store.sqlite import SQLiteStore


def read(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    storage.add_flags(parser)
    args = parser.parse_args(flags)
    storage.check(args)
    return args


def test_one_of_two_stores() -> None:
    assert isinstance(storage.make_store(read("--sqlite=x.db")), SQLiteStore)
    assert isinstance(storage.make_store(read("--etcd-servers=http://127.0.0.1:2379")), EtcdStore)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--etcd-servers or --sqlite must be specified"),
        (("--sqlite=x", "--etcd-servers=http://a"), "exclude each other"),
        (("--etcd-servers=https://a", "--etcd-certfile=x"), "must be specified together"),
        (("--etcd-servers=a", "--etcd-prefix=/"), "--etcd-prefix '/': write a path"),
        (("--etcd-servers=a", "--etcd-compaction-interval=5"), "--etcd-compaction-interval: not a duration: '5'"),
        (("--etcd-servers=a", "--endpoint-reconciler-type=master-count"), "this server knows lease and none"),
    ],
)
def test_flags_that_cannot_be(flags: tuple[str, ...], message: str) -> None:
    with pytest.raises(FlagError, match=message):
        read(*flags)


def test_what_cannot_be_an_endpoint_or_read() -> None:
    with pytest.raises(FlagError, match="--etcd-servers: 'unix:///run/etcd' is no URL of an etcd member"):
        storage.make_store(read("--etcd-servers=unix:///run/etcd"))
    with pytest.raises(FileNotFoundError):
        storage.make_store(read("--etcd-servers=https://a", "--etcd-cafile=/nowhere/ca.crt"))


def test_only_the_store_that_is_asked_for_is_loaded() -> None:
    code = (
        "import argparse, sys; from twinstack.server import storage\n"
        "parser = argparse.ArgumentParser(); storage.add_flags(parser)\n"
        "storage.make_store(parser.parse_args(sys.argv[1:]))\n"
        "print('sqlite3' in sys.modules, 'twinstack.store.etcd.http2' in sys.modules)"
    )
    for flag, loaded in (("--sqlite=x", "True False"), ("--etcd-servers=http://a", "False True")):
        found = subprocess.run([sys.executable, "-c", code, flag], capture_output=True, text=True, check=True)
        assert found.stdout.strip() == loaded
