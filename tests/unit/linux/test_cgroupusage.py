"""What a control group's files tell of its use, in both versions."""

from __future__ import annotations

from pathlib import Path

from twinstack.linux.cgroupusage import Usage, usage


def group(directory: Path, **files: str) -> str:
    directory.mkdir()
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)
    return str(directory)


def test_version_two(tmp_path: Path) -> None:
    one = group(
        tmp_path / "one",
        cpu__stat="usage_usec 1500\nuser_usec 1000\n",
        memory__current="5000\n",
        memory__max="max\n",
        memory__stat="anon 3000\ninactive_file 1500\npgfault 7\npgmajfault 2\n",
        pids__current="4\n",
    )
    found = Usage(1_500_000, 5000, 3500, 3000, 7, 2, 0, 4)
    assert usage([one]) == found
    Path(one, "memory.max").write_text("8192\n")
    assert usage([one]) == found._replace(limit=8192)


def test_version_one(tmp_path: Path) -> None:
    groups = [
        group(tmp_path / "cpuacct", cpuacct__usage="123456789\n"),
        group(tmp_path / "cpu", cpu__stat="nr_periods 1\nnr_throttled 0\n"),
        group(
            tmp_path / "memory",
            memory__usage_in_bytes="5000\n",
            memory__limit_in_bytes="9223372036854771712\n",
            memory__stat="inactive_file 1\nrss 1\ntotal_inactive_file 6000\ntotal_rss 3000\ntotal_pgfault 7\n",
        ),
        str(tmp_path / "pids, which is not there"),
    ]
    assert usage(groups) == Usage(cpu=123456789, memory=5000, working_set=0, resident=3000, faults=7)


def test_a_group_that_is_gone(tmp_path: Path) -> None:
    assert usage([str(tmp_path / "gone")]) is None
    assert usage([group(tmp_path / "uncounted", pids__current="1\n")]) is None
