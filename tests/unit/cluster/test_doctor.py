"""What doctor prints and its exit code, for machines that can and that cannot."""

from __future__ import annotations

import argparse
import json

import pytest

from twinstack.cluster import doctor
from twinstack.cluster.checks import Check
from twinstack.cluster.errors import ClusterError


def fails(error: Exception) -> Check:
    def run() -> str:
        raise error

    return Check("thing", isinstance(error, ClusterError), run, "buy one")


FINE = Check("other", True, lambda: "there", "")


def test_a_required_ability_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", [FINE, fails(ClusterError("gone"))])
    assert doctor.run(argparse.Namespace(output="text")) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["yes other  there", "NO  thing  gone: buy one"]
    assert "cannot run here" in lines[-1]


def test_an_ability_that_is_not_needed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "CHECKS", [FINE, fails(OSError(95, "Operation not supported"))])
    assert doctor.run(argparse.Namespace(output="json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["able"]
    assert report["checks"][1] == {
        "name": "thing",
        "required": False,
        "ok": False,
        "detail": "Operation not supported",
        "advice": "buy one",
    }


def test_advice_of_its_own_wins() -> None:
    assert doctor.examine(fails(ClusterError("gone", "look behind the sofa")))["advice"] == "look behind the sofa"


def test_every_check_says_what_to_do() -> None:
    assert all(check.advice for check in doctor.CHECKS)
    assert len({check.name for check in doctor.CHECKS}) == len(doctor.CHECKS)
