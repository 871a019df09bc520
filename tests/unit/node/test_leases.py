"""The directory of leases: one file a lease, there as a whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twinstack.ip import Address
from twinstack.node.leases import Holder, Lease, Note, locked

A, B = Holder("web-1", "eth0"), Holder("web_2.x", "net1")
V4, V6 = Address.parse("10.1.0.2"), Address.parse("fd00::2")


def test_a_lease_is_a_file_name(tmp_path: Path) -> None:
    with locked(tmp_path / "net") as leases:
        leases.record(Lease(A, (V6, V4)), {"netns": "/run/netns/a"})
        leases.record(Lease(B, (Address.parse("10.1.0.3"),)), {})
        leases.remember_last([V4])
    assert sorted(os.listdir(tmp_path / "net")) == [
        "lock",
        "web-1:eth0:fd00::2,10.1.0.2",
        "web_2.x:net1:10.1.0.3",
    ]
    with locked(tmp_path / "net") as leases:
        assert leases.get(A) == Lease(A, (V6, V4))
        assert leases.note(A) == {"netns": "/run/netns/a"}
        assert leases.note(Holder("none", "eth0")) == {}
        assert leases.taken == {V4, V6, Address.parse("10.1.0.3")}
        assert leases.last() == [V4]
        leases.forget(A)
        leases.forget(A)
        assert leases.taken == {Address.parse("10.1.0.3")}
    with locked(tmp_path / "net") as leases:
        assert [lease.holder for lease in leases] == [B]


def test_other_files_are_no_leases(tmp_path: Path) -> None:
    for name in ("x", "a:b", "a:b:c", "a:eth0:10.0.0.300", ".new"):
        (tmp_path / name).write_text("")
    (tmp_path / "a:eth0:10.0.0.3").write_text("no note")
    with locked(tmp_path) as leases:
        assert [str(lease) for lease in leases] == ["a:eth0:10.0.0.3"]
        assert leases.note(Holder("a", "eth0")) == {}


def test_what_was_lost_is_found_again_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def recover() -> list[tuple[Lease, Note]]:
        calls.append(1)
        return [(Lease(A, (V4,)), {"link": "tc1"})]

    for _ in range(2):
        with locked(tmp_path / "net", recover) as leases:
            assert leases.note(A) == {"link": "tc1"}
    with locked(tmp_path / "net", recover) as leases:
        leases.forget(A)
    with locked(tmp_path / "net", recover) as leases:
        assert list(leases) == []
    assert calls == [1]


KILLED = """
import os, sys
from pathlib import Path
from twinstack.ip import Address
from twinstack.node.leases import Holder, Lease, locked
for number in range(2, 250):
    with locked(Path(sys.argv[1])) as leases:
        leases.record(Lease(Holder(f"c{number}", "eth0"), (Address.parse(f"10.1.0.{number}"),)), {"n": number})
    os.write(1, b"%d\\n" % number)
"""


def test_a_killed_process_leaves_whole_leases_and_no_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.kill()
        told = 21 + len(process.stdout.read().split())
    with locked(tmp_path) as leases:
        found = {lease.holder.container: leases.note(lease.holder) for lease in leases}
    assert found.keys() >= {f"c{number}" for number in range(2, told + 1)}
    assert all(note == {"n": int(name[1:])} for name, note in found.items())
