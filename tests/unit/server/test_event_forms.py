"""Events between their two forms."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twinstack.api.schema_table import get_type
from twinstack.server.event_forms import to_core, to_events_v1

CORE, EVENTS = get_type("core.v1.Event").fields, get_type("events.v1.Event").fields


@given(st.sets(st.sampled_from(sorted(CORE))))
def test_every_field_goes_there_and_back(names: set[str]) -> None:
    core = {name: name for name in names} | {"apiVersion": "v1"}
    other = to_events_v1(core)
    assert other.keys() <= EVENTS.keys()
    assert other["apiVersion"] == "events.k8s.io/v1"
    assert to_core(other) == core


def test_both_forms_have_the_same_fields() -> None:
    assert to_events_v1(dict.fromkeys(CORE)).keys() == EVENTS.keys()
