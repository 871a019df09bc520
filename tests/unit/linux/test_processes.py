from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

from twinstack.linux.processes import Process, identify, is_alive, open_descriptor, send_signal


def test_a_process_is_its_number_and_its_start() -> None:
    own = identify(os.getpid())
    assert own is not None
    assert is_alive(own)
    recycled = Process(own.pid, own.started - 1)  # had the number before
    assert not is_alive(recycled)
    assert open_descriptor(recycled) is None
    assert not send_signal(recycled, signal.SIGKILL)


def test_a_zombie_does_not_live() -> None:
    with subprocess.Popen([sys.executable, "-IS", "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = identify(child.pid)
        assert process is not None
        descriptor = open_descriptor(process)
        assert descriptor is not None
        assert select.select([descriptor], [], [], 0)[0] == []
        assert send_signal(process, signal.SIGKILL)
        assert select.select([descriptor], [], [], 5)[0] == [descriptor]
        assert not is_alive(process)  # though nobody has waited for it yet
        os.close(descriptor)
    assert identify(child.pid) is None
    assert not send_signal(process, signal.SIGTERM)
