"""What an OCI runtime is told: configuration, system calls, users; where control groups are."""

from __future__ import annotations

from typing import Any

import pytest

from twinstack.linux import cgroups
from twinstack.linux.capabilities import DEFAULT, NAMES
from twinstack.node.runtime import accounts, seccomp
from twinstack.node.runtime.base import Limits, Propagation, User
from twinstack.node.runtime.specification import Blueprint, Shown, configuration, further_process

PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/:/bin/false\n"
GROUP = "root:x:0:\nwww:x:34:\nlogs:x:40:web,other\n"


def blueprint(**change: Any) -> Blueprint:
    base = Blueprint(["sh"], {"A": "1"}, "/", User(0, 0), DEFAULT, {"pid": "", "uts": "/u"}, [], "groups/x")
    return base._replace(**change)


def test_namespaces_rights_and_hidden_paths() -> None:
    made = configuration(blueprint(no_new_privileges=True, read_only_root=True))
    assert made["linux"]["namespaces"] == [{"type": "pid"}, {"type": "uts", "path": "/u"}]
    assert made["root"] == {"path": "root", "readonly": True}
    assert made["process"]["noNewPrivileges"]
    assert "CAP_CHOWN" in made["process"]["capabilities"]["bounding"]
    assert "ambient" not in made["process"]["capabilities"]
    assert "/proc/kcore" in made["linux"]["maskedPaths"]
    everything = configuration(blueprint(privileged=True, seccomp={"defaultAction": "x"}))["linux"]
    assert not {"maskedPaths", "readonlyPaths", "seccomp"} & everything.keys()
    assert everything["resources"]["devices"] == [{"allow": True, "access": "rwm"}]


def test_limits() -> None:
    found = configuration(blueprint(limits=Limits(1 << 20, 200, 204, 9), swap_limited=True))["linux"]["resources"]
    assert found["memory"] == {"limit": 1 << 20, "swap": 1 << 20}
    assert found["cpu"] == {"shares": 204, "quota": 20000, "period": 100000}
    assert found["pids"] == {"limit": 9}
    assert configuration(blueprint())["linux"]["resources"].keys() == {"devices"}
    assert Limits(1, 2, 3, 4).within(frozenset({"memory", "pids"})) == Limits(memory=1, pids=4)
    assert Limits(1, 2, 3, 4).within(frozenset({"cpu"})) == Limits(cpu=2, shares=3)


def test_whose_processes_the_kernel_kills_first() -> None:
    made = configuration(blueprint(oom_score_adj=-997, user=User(1, 2, (3,))))["process"]
    assert made["oomScoreAdj"] == further_process(made, ["ls"], terminal=False)["oomScoreAdj"] == -997
    assert made["user"] == {"uid": 1, "gid": 2, "additionalGids": [2, 3]}


def test_mounts_come_after_what_covers() -> None:
    made = configuration(blueprint(covers=["/tmp"], shown=[Shown("/a", "/tmp/a", read_only=True)]))
    assert [mount["destination"] for mount in made["mounts"]][-2:] == ["/tmp", "/tmp/a"]
    assert "ro" in made["mounts"][-1]["options"]


def test_what_is_mounted_later_and_below() -> None:
    plain, moving = Shown("/a", "/a"), Shown("/b", "/b", propagation=Propagation.SLAVE)
    fixed = Shown("/c", "/c", read_only=True, recursive_read_only=True)
    made = configuration(blueprint(shown=[plain, moving, fixed]))
    assert [mount["options"] for mount in made["mounts"][-3:]] == [
        ["rbind", "rprivate", "rw"],
        ["rbind", "rslave", "rw"],
        ["rbind", "rprivate", "rro"],
    ]
    assert made["linux"]["rootfsPropagation"] == "rslave"
    both = configuration(blueprint(shown=[moving, Shown("/d", "/d", propagation=Propagation.SHARED)]))
    assert both["linux"]["rootfsPropagation"] == "rshared"
    assert "rootfsPropagation" not in configuration(blueprint(shown=[plain]))["linux"]


def test_one_more_program_on_a_terminal() -> None:
    first = configuration(blueprint())["process"]
    assert "TERM=xterm" in further_process(first, ["ls"], terminal=True)["env"]
    assert further_process(first, ["ls"], terminal=False)["env"] == first["env"]
    on_terminal = configuration(blueprint(terminal=True))["process"]
    assert "TERM=xterm" not in further_process(on_terminal, ["ls"], terminal=False)["env"]


def test_system_calls_follow_capabilities() -> None:
    few, all_ = (seccomp.default_profile(caps, "x86_64") for caps in (DEFAULT, frozenset(NAMES)))
    assert {"chroot", "arch_prctl", "read"} <= set(few["syscalls"][0]["names"])
    assert not {"mount", "setns", "bpf", "clone"} & set(few["syscalls"][0]["names"])
    assert few["syscalls"][-1] == {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    assert {"mount", "clone3", "reboot"} <= set(all_["syscalls"][0]["names"])
    assert "arch_prctl" not in seccomp.default_profile(DEFAULT, "aarch64")["syscalls"][0]["names"]


@pytest.mark.parametrize(
    ("named", "user", "group", "groups", "found"),
    [
        ("", None, None, (), User(0, 0)),
        ("web", None, None, (), User(33, 34, (40,))),
        ("web:root", None, None, (), User(33, 0, (40,))),
        ("7:8", None, None, (), User(7, 8)),
        ("web", 1000, None, (5,), User(1000, 0, (5,))),
        ("", 33, None, (34, 41), User(33, 34, (40, 41))),
        ("", 33, 1, (), User(33, 1, (40,))),
    ],
)
def test_users(named: str, user: int | None, group: int | None, groups: tuple[int, ...], found: User) -> None:
    assert accounts.resolve(named, user, group, groups, PASSWD, GROUP) == found
    strict = accounts.resolve(named, user, group, groups, PASSWD, GROUP, strict=True)
    assert strict == found._replace(groups=tuple(n for n in groups if n != found.group))
    assert strict.all_groups[0] == found.group  # the kernel is given it, too


def test_users_that_an_image_does_not_have() -> None:
    with pytest.raises(ValueError, match="unable to find user nobody: no matching entries in passwd file"):
        accounts.resolve("nobody", None, None, (), PASSWD, GROUP)
    with pytest.raises(ValueError, match="unable to find group x"):
        accounts.resolve("web:x", None, None, (), PASSWD, GROUP)


def test_own_groups_in_both_versions() -> None:
    table = (
        "30 25 0:26 / /c/memory rw - cgroup cgroup rw,memory\n31 25 0:27 /pod /c/cpu rw - cgroup cgroup rw,cpu\n"
        "32 25 0:28 / /c/unified rw - cgroup2 cgroup2 rw\n"
    )
    own = "4:memory:/a/b\n1:cpu:/pod/x\n0::/\n9:pids:/\n"
    assert cgroups.own_groups(own, table) == {"memory": "/c/memory/a/b", "cpu": "/c/cpu/x", "": "/c/unified"}
