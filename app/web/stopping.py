"""Whether gunicorn has told this worker process to stop: long-lived connections have to know, and it tells nobody."""

import os
import signal
import threading
import time
from typing import Any

# How soon a stop is noticed by a thread that waits for its client, in seconds.
LOOK_EVERY = 0.2


class ServerStop:
    """The stop of the process that asks: by SIGTERM (reload, stop), SIGINT, SIGQUIT or gunicorn's max_requests alike.

    All of these set ``alive`` of gunicorn's worker to False, which is found through the signal handler that it has
    installed. That works in any thread and under ``--preload`` too, where no code of the app's runs in the worker's
    main thread after gunicorn has set its handlers, so that none could be put before them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: Any = None
        self._descriptor = -1

    def watch(self) -> None:
        """Begin to watch; to be called by each request, so that it happens in the process that serves."""
        with self._lock:
            if self._descriptor >= 0:
                return
            self._descriptor = os.eventfd(0)
            worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
            if hasattr(worker, "alive"):  # else the server is no gunicorn: connections end with the process
                self._worker = worker
                threading.Thread(target=self._wait, name="server-stop", daemon=True).start()

    def is_set(self) -> bool:
        """Tell whether the process has been told to stop."""
        return self._worker is not None and not self._worker.alive

    def fileno(self) -> int:
        """Return a file descriptor that becomes readable at the stop, and stays so: to wait for it among others."""
        return self._descriptor

    def _wait(self) -> None:
        while self._worker.alive:
            time.sleep(LOOK_EVERY)
        os.eventfd_write(self._descriptor, 1)
