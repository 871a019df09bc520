"""Failures that a person can act on."""

from __future__ import annotations


class ClusterError(Exception):
    """What went wrong, and what to do about it: one line for both."""

    def __init__(self, problem: str, advice: str = "") -> None:
        super().__init__(f"{problem}; {advice}" if advice else problem)
        self.problem = problem
        self.advice = advice
