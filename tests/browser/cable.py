"""Ways to the service."""

import contextlib
import socket
import subprocess
import threading
import time
from types import TracebackType
from urllib.parse import urlsplit


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def listening(port: int, process: subprocess.Popen[bytes], limit: float = 60) -> bool:
    """Wait until *process* listens; tell whether it does."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return True
    return False


class Cable:
    """A TCP connection to the service that goes through here, so that a test can cut it or hold it."""

    def __init__(self, base_url: str) -> None:
        target = urlsplit(base_url)
        self._target = (target.hostname, target.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._left: int | None = None
        self._then = self._unplug
        self._end = threading.Event()
        self.plugged = True
        self.origin = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "Cable":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End every connection."""
        with self._lock:
            ended, self._open = self._open, set()
        for end in ended:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def cut_after(self, length: int) -> None:
        """Unplug it once *length* more bytes have come from the service, however fast they come."""
        self._left, self._then = length, self._unplug

    def hold_after(self, length: int) -> None:
        """Let nothing more through once *length* more bytes have come from the service, yet leave it plugged."""
        self._left, self._then = length, self._hold

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed: that is the end
            while True:
                client, _ = self._listener.accept()
                if not self.plugged:
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                with self._lock:
                    self._open |= {client, server}
                for way in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._carry, args=way, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):  # cut
            while data := source.recv(65_536):
                sink.sendall(data)
                if is_answer:
                    self._count(len(data))
            sink.shutdown(socket.SHUT_WR)

    def _count(self, length: int) -> None:
        with self._lock:
            if self._left is None:
                return
            self._left -= length
            if self._left > 0:
                return
            self._left = None
        self._then()

    def _unplug(self) -> None:
        self.plugged = False
        self.cut()

    def _hold(self) -> None:
        self._end.wait()
