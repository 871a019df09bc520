"""Which conntrack settings are written."""

from __future__ import annotations

import pytest

from twinstack.proxy.kernel_settings import ConntrackSettings


@pytest.mark.parametrize(
    ("settings", "cores", "expected"),
    [
        (ConntrackSettings(), 4, 0),
        (ConntrackSettings(min=131072), 4, 0),
        (ConntrackSettings(max_per_core=32768, min=131072), 2, 131072),
        (ConntrackSettings(max_per_core=32768, min=131072), 8, 262144),
        (ConntrackSettings(max_per_core=32768, min=131072), 128, 1048576),  # capped
    ],
)
def test_size_of_the_table(settings: ConntrackSettings, cores: int, expected: int) -> None:
    assert settings.most_flows(cores) == expected


def test_only_what_is_asked_for() -> None:
    assert ConntrackSettings().wanted() == {}
    asked = ConntrackSettings(tcp_timeout_established=86400.0, udp_timeout=0.5, tcp_be_liberal=True)
    assert asked.wanted() == {
        "nf_conntrack_tcp_timeout_established": "86400",
        "nf_conntrack_udp_timeout": "1",
        "nf_conntrack_tcp_be_liberal": "1",
    }
