"""Is Ray still there? Whoever asks a dead Ray waits for a minute, or for ever; so it is asked of this machine's kernel.

In: Ray's address, and the block that needs it. Out: the block's end as an OutageError when Ray dies under it.
"""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray._common.utils import get_ray_address_file

from behavegpt.errors import OutageError, abandon

LOOK_EVERY_S = 2.0
INTERRUPTS = 5
"""One a look at a block whose Ray has died; who has not left it by then sits in a call into Ray."""
LAST_LOOKS = 15
"""Half of the minute after which Ray ends the process itself: to take leave of a dead Ray took 10 to 28 s."""
DIED = "Ray died under the study; start it again, and what is finished is kept"


def check_answers(address: str) -> None:
    """Ask whether anybody listens at host:port, since Ray itself would try for ever.

    Args:
        address: Of RAY_ADDRESS; where it names none, that of the head which was started last on this machine is asked,
            which Ray goes to without looking whether it still runs.

    Raises:
        OutageError: Nobody does.
    """
    remedy = "start it again"
    if address in ("", "auto"):
        remembered = Path(get_ray_address_file(None))
        address = remembered.read_text(encoding="utf-8").strip() if remembered.is_file() else ""
        remedy += f", or delete {remembered}, which names it, and a cluster of its own is started"
    host, colon, port = address.rpartition(":")
    if not colon or "/" in address:
        return  # none is given, or it is not a host's
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise OutageError(f"Ray at {address} does not answer ({error.strerror or error}); {remedy}") from error


@contextmanager
def while_ray_lives() -> Iterator[None]:
    """Leave the block when Ray's process on this machine dies: whoever asks a dead Ray waits for a minute, or for ever.

    A job that cannot be interrupted, since a call into Ray does not come back, is ended with an outage's exit code.

    Raises:
        OutageError: It died, and this process is no longer connected to it; whatever the block raises then.
    """
    node = ray.get_runtime_context().get_node_id()
    [raylet] = [str(n["RayletSocketName"]) for n in ray.nodes() if n["NodeID"] == node]
    watch = _Watch(raylet, threading.get_ident())
    # Only the main thread can be interrupted; in another one Ray's own errors must do.
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=watch.look, daemon=True)
    if main:
        if not callable(before):  # a shell's background jobs ignore Ctrl-C
            signal.signal(signal.SIGINT, signal.default_int_handler)
        thread.start()
    try:
        try:
            yield
            if watch.lost.is_set():
                raise KeyboardInterrupt  # Tune took it for a wish, and came back
        finally:
            watch.leave()
    except (Exception, KeyboardInterrupt) as error:
        watch.leave()  # again, where it was interrupted
        if watch.lost.is_set() or not _listens(raylet):
            # Else Tune asks it to forget what it was told when Python exits, for a minute, and Ray ends the process.
            ray.shutdown()
            raise OutageError(DIED) from error
        raise
    finally:
        watch.over.set()
        if main:
            thread.join()
            signal.signal(signal.SIGINT, before)


class _Watch:
    """Looks whether Ray's process is there, and interrupts the thread that waits for it once it is not."""

    def __init__(self, raylet: str, caller: int) -> None:
        self._raylet, self._caller = raylet, caller
        self._leaving = threading.Lock()
        self._left = threading.Event()
        self.lost = threading.Event()
        """Ray is dead."""
        self.over = threading.Event()
        """Nobody needs to look any more."""

    def look(self) -> None:
        """Look until it is over; end the process when its thread cannot be interrupted, or takes leave for too long."""
        while _listens(self._raylet):
            if self.over.wait(LOOK_EVERY_S):
                return
        self.lost.set()
        for looks in range(LAST_LOOKS):
            with self._leaving:
                if not self._left.is_set():
                    if looks == INTERRUPTS:
                        break
                    # Tune takes the first one for a wish, and the second one as it is.
                    signal.pthread_kill(self._caller, signal.SIGINT)
            if self.over.wait(LOOK_EVERY_S):
                return
        abandon(DIED)

    def leave(self) -> None:
        """Ask for no more interrupts; one that is on its way comes here."""
        with self._leaving:
            self._left.set()


def _listens(path: str) -> bool:
    """Return whether a process of this machine listens on the socket."""
    return any(line.split()[-1] == path for line in Path("/proc/net/unix").read_text().splitlines())
