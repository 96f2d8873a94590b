"""A dead Ray is noticed at once, on real sockets in the place of Ray's."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from behavegpt.errors import OutageError
from behavegpt.study import alive
from behavegpt.study.alive import check_answers, while_ray_lives

STUCK = """
import signal, socket, sys, time
from types import SimpleNamespace
from behavegpt.errors import exit_codes
from behavegpt.study import alive

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
nodes = [{"NodeID": "here", "RayletSocketName": sys.argv[1]}]
context = SimpleNamespace(get_node_id=lambda: "here")
alive.ray = SimpleNamespace(nodes=lambda: nodes, get_runtime_context=lambda: context)
alive.LOOK_EVERY_S = 0.05
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
with exit_codes(resume_with="python job.py"), alive.while_ray_lives():
    listener.close()
    time.sleep(60)
"""
"""A job whose main thread hears no interrupt, as in a call of Ray's that waits for an answer."""


@pytest.fixture
def raylet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Return what listens where Ray's process on this machine would."""
    path = str(tmp_path / "raylet")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    nodes = [{"NodeID": "elsewhere", "RayletSocketName": "/x"}, {"NodeID": "here", "RayletSocketName": path}]
    context = SimpleNamespace(get_node_id=lambda: "here")
    # What is asked of a dead Ray does not come back; that it is left is seen in tests/study/deaths.
    fake = SimpleNamespace(nodes=lambda: nodes, get_runtime_context=lambda: context, shutdown=lambda: None)
    monkeypatch.setattr(alive, "ray", fake)
    monkeypatch.setattr(alive, "LOOK_EVERY_S", 0.05)
    yield listener
    listener.close()


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_a_block_that_waits_for_a_dead_ray_is_left(raylet, handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        threading.Timer(0.2, raylet.close).start()
        began = time.monotonic()
        with pytest.raises(OutageError, match="Ray died under the study"), while_ray_lives():
            time.sleep(30)
        assert time.monotonic() - began < 10
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_job_that_cannot_be_interrupted_is_ended_and_says_how_to_resume(tmp_path):
    command = [sys.executable, "-c", STUCK, str(tmp_path / "raylet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 5
    died = "error: Ray died under the study; start it again, and what is finished is kept"
    assert (done.stdout, done.stderr) == ("", f"{died}; resume with: python job.py\n")


def test_a_block_that_takes_the_interrupt_for_a_wish_is_one_that_was_left(raylet):
    """Tune's handler ends its run and returns, as at Ctrl-C."""
    over = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: over.set())
    try:
        raylet.close()
        with pytest.raises(OutageError), while_ray_lives():
            while not over.wait(0.01):
                pass
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_a_live_ray_raises_is_what_it_was(raylet):
    with pytest.raises(ValueError, match="a bug"), while_ray_lives():
        raise ValueError("a bug")
    with pytest.raises(KeyboardInterrupt), while_ray_lives():
        raise KeyboardInterrupt


def lose(raylet: socket.socket, pause_s: float = 0.0) -> None:
    """Let Ray die under a block, which then says so by itself."""
    with while_ray_lives():
        raylet.close()
        time.sleep(pause_s)
        raise RuntimeError("no connection")


def test_what_a_dead_ray_raises_is_an_outage_in_a_thread_that_cannot_be_interrupted(raylet):
    with ThreadPoolExecutor(1) as pool, pytest.raises(OutageError) as caught:
        pool.submit(lose, raylet).result()
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_interrupt_that_is_on_its_way_when_the_block_ends_is_no_users(raylet, monkeypatch):
    """It comes while the outage is being told, or while the watch is being ended."""
    sent = threading.Event()

    def kill_late(thread: int, number: int) -> None:
        time.sleep(0.3)
        sent.set()
        signal.pthread_kill(thread, number)

    signals = SimpleNamespace(**{name: getattr(signal, name) for name in dir(signal)} | {"pthread_kill": kill_late})
    monkeypatch.setattr(alive, "signal", signals)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(OutageError):
            lose(raylet, 0.2)
        assert sent.is_set()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_nothing_happens_to_a_block_while_ray_lives(raylet):
    threads = threading.active_count()
    with while_ray_lives():
        time.sleep(0.3)
    assert threading.active_count() == threads


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_address_at_which_nobody_listens_is_named(host):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"{host}:{probe.getsockname()[1]}"
        with pytest.raises(OutageError, match=f"^Ray at {address} does not answer .*start it again"):
            check_answers(address)
        probe.listen()
        check_answers(address)


@pytest.mark.parametrize("address", ["", "auto"])
def test_where_no_address_is_given_the_head_that_ray_remembers_is_asked(address, tmp_path, monkeypatch):
    remembered = tmp_path / "ray_current_cluster"
    monkeypatch.setattr(alive, "get_ray_address_file", lambda _: str(remembered))
    check_answers(address)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        remembered.write_text(f"127.0.0.1:{probe.getsockname()[1]}\n")
        with pytest.raises(OutageError, match=f"does not answer .*start it again, or delete {remembered}"):
            check_answers(address)
        probe.listen()
        check_answers(address)


@pytest.mark.parametrize("address", ["local", "ray://127.0.0.1:1"])
def test_an_address_that_is_not_a_hosts_is_left_to_ray(address):
    check_answers(address)
