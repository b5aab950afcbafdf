import os
import signal
import subprocess
import sys
import time
import uuid

import psutil
import pytest

from strokelib import processes

GRANDCHILD = (
    "import subprocess, sys, time; "
    "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True); "
    "print(p.pid, flush=True); time.sleep(600)"
)


def _gone(pid, within_s=60.0):
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def mark():
    return f"test-{uuid.uuid4().hex}"


def test_a_grandchild_in_a_session_of_its_own_ends_with_the_block(mark):
    with processes.guarded(mark) as environment:
        child = subprocess.Popen([sys.executable, "-c", GRANDCHILD], env=environment, stdout=subprocess.PIPE, text=True)
        grandchild = int(child.stdout.readline())
        assert {child.pid, grandchild} <= {p.pid for p in processes.marked(mark)}
    child.wait(10)
    assert _gone(grandchild)


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_everything_ends_when_the_first_process_of_a_run_is_killed(mark, signal_number):
    script = (
        "import subprocess, sys; from strokelib import processes\n"
        f"with processes.guarded({mark!r}) as env:\n"
        f"    subprocess.run([sys.executable, '-c', {GRANDCHILD!r}], env=env)\n"
    )
    first = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    grandchild = int(first.stdout.readline())
    os.kill(first.pid, signal_number)
    first.wait(10)
    assert _gone(grandchild)


def test_a_run_kills_its_own_notebooks_but_not_another_run(mark):
    def sleeper(value):
        environment = os.environ | {processes.MARK: value}
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environment)

    mine, other = sleeper(f"{mark}/00"), sleeper(f"{mark}x/00")
    try:
        end = time.monotonic() + 60
        while len(processes.marked(mark)) < 1 and time.monotonic() < end:
            time.sleep(0.05)
        assert processes.kill_marked(mark) == 1
        mine.wait(10)
        assert _gone(mine.pid)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_peak_memory_sees_an_allocation(mark):
    code = "import time; block = bytearray(200 * 2**20); time.sleep(2.5)"
    with processes.peak_memory(mark, interval_s=0.1) as peak:
        subprocess.run([sys.executable, "-c", code], env=os.environ | {processes.MARK: mark}, check=True)
    assert 190 < peak[0] < 400
