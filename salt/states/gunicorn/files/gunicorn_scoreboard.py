# Managed by Salt, formula gunicorn.
"""Who does what in a gunicorn: told by its hooks in shared memory, and read by whoever may read the folder.

A folder under /run holds one file of the master and one of each worker. Every number is a word of eight bytes that has
one writer, so that neither a lock nor a system call is part of a request. What belongs together (a request's path and
its beginning) is written between two steps of a sequence counter: odd means that a writer is at it, and a reader that
finds it odd or changed looks again. So a reader sees each request whole, and each counted once: what a worker that is
gone had counted the master adds to its own sums, in one such step.

The same thread of the master that tells of its workers' health adds workers and takes them away, by the signals that
gunicorn has for it (TTIN, TTOU), sent to itself: nobody else needs a way in.

Standard library only: it runs in whatever environment the app has, and in Debian's Python where it is read.
"""

import collections
import contextlib
import dataclasses
import errno
import functools
import mmap
import os
import pathlib
import signal
import sys
import threading
import time

# Another layout is another number: a reader refuses what it does not know.
MAGIC = 0x0003_6472_616F_6273
WORD = 8

MASTER = (
    "seq", "magic", "pid", "started", "beat", "reloads",
    "requests", "errors", "dropped", "lost", "killed", "timed_out", "replaced",
    "workers", "minimum", "maximum", "busy",
    "changes", "changed", "changed_from", "changed_to", "why",
)  # fmt: skip
MASTER_BYTES = 512
WORKER = ("magic", "pid", "threads", "forked", "state", "heartbeat", "memory")
WORKER_BYTES = 64
REQUEST = ("seq", "began", "requests", "errors", "dropped", "length")
REQUEST_BYTES = 256
TEXT_AT = len(REQUEST) * WORD
TEXT_BYTES = REQUEST_BYTES - TEXT_AT
STARTING, SERVING, LEFT = range(3)
# Tells a share of one in a whole number.
MILLION = 1_000_000

# Of errors of a socket those that gunicorn ignores: the client is gone.
CLIENT_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)

# In a request's WSGI environment: true where the app let go of a reader that did not keep up.
DROPPED = "gunicorn_scoreboard.dropped"

# How often the master looks at its workers, in seconds, and after how long a file without a worker is taken for left
# behind: a worker makes its file before the master has noted it.
TICK = 1.0
ORPHANED = 10.0
# For how long a signal may be on its way: while a reload waits for old workers, gunicorn hears none.
PATIENCE = 60.0
# Looks at something that is being written. It takes a writer microseconds; who is killed in the midst never ends.
LOOKS = 1_000


class TornError(Exception):
    """It was being written each time that it was looked at."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """Between how many workers, and by which share of busy threads, over how many seconds."""

    folder: str
    minimum: int
    maximum: int
    up: float
    up_after: float
    down: float
    down_after: float


# --- words of shared memory -------------------------------------------------------------------------------------------


class Words:
    """A file as numbers, the first of which have *names*; `bytes` is the same as text."""

    def __init__(self, path, names, writable=False):
        descriptor = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
        try:
            self.bytes = mmap.mmap(descriptor, 0, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
        # Without a last word that is cut off.
        self.words = memoryview(self.bytes)[: len(self.bytes) // WORD * WORD].cast("Q")
        self._at = {name: index for index, name in enumerate(names)}
        if len(self.words) < len(names) or self["magic"] != MAGIC or not self._has_its_places():
            self.close()
            raise ValueError(f"{path} is no scoreboard of this version")

    def _has_its_places(self):
        # Only a worker has threads.
        needed = WORKER_BYTES + self["threads"] * REQUEST_BYTES if "threads" in self._at else MASTER_BYTES
        return len(self.bytes) >= needed

    def __getitem__(self, name):
        return self.words[self._at[name]]

    def __setitem__(self, name, value):
        self.words[self._at[name]] = value

    def close(self):
        self.words.release()
        self.bytes.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def create(path, size, words):
    """Make a file of *size* zeros but for its first *words*; it has its name only when it is whole."""
    path = pathlib.Path(path)
    new = path.with_name(f".{path.name}")
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o640)
    try:
        # Whatever the umask is: the folder's group reads it.
        os.fchmod(descriptor, 0o640)
        # Memory that is not there would be a SIGBUS later on.
        os.posix_fallocate(descriptor, 0, size)
        os.pwrite(descriptor, b"".join(word.to_bytes(WORD, sys.byteorder) for word in words), 0)
    except OSError:
        new.unlink()
        raise
    finally:
        os.close(descriptor)
    new.rename(path)


@contextlib.contextmanager
def step(words, at=0):
    """Write within: whoever reads meanwhile looks again."""
    words[at] += 1
    try:
        yield
    finally:
        words[at] += 1


def whole(words, read, at=0):
    """Return what *read* gives at a moment when nobody writes."""
    for _ in range(LOOKS):
        before = words[at]
        if before % 2 == 0:
            found = read()
            if words[at] == before:
                return found
        time.sleep(0)
    raise TornError


# --- in a worker ------------------------------------------------------------------------------------------------------


class Threads(threading.local):
    """Where this thread notes what it does; given out when it does something for the first time."""

    at = None


class OwnBoard:
    """This worker's own file."""

    def __init__(self, folder, worker):
        # At least as many as gunicorn makes.
        self.count = max(worker.cfg.threads, 1)
        self.path = f"{folder}/worker-{os.getpid()}"
        first = (MAGIC, os.getpid(), self.count, time.monotonic_ns(), STARTING, time.monotonic_ns(), 0)
        create(self.path, WORKER_BYTES + self.count * REQUEST_BYTES, first)
        self.file = Words(self.path, WORKER, writable=True)
        self.words, self.bytes = self.file.words, self.file.bytes
        self.threads = Threads()
        self._log = worker.log
        self._left = list(reversed(places(self.file)))

    def place(self):
        """Give this thread a place, counted in words; 0 where there is none left, as never happens."""
        try:
            self.threads.at = self._left.pop()
        except IndexError:
            self._log.error("scoreboard: more than %d threads handle requests, which are not all told of", self.count)
            self.threads.at = 0
        return self.threads.at


board = None


def post_fork(server, worker):
    global board, master
    master = None
    try:
        board = OwnBoard(policy.folder, worker)
    except OSError as error:
        # Better served and not seen than not served.
        board = None
        worker.log.error("scoreboard: this worker is not told of: %s", error)


def post_worker_init(worker):
    if board:
        board.file["state"] = SERVING


def pre_request(worker, request):
    if board is None:
        return
    at = board.threads.at
    if at is None:
        at = board.place()
    if not at:
        return
    words = board.words
    # Never the query: it may hold what is nobody else's affair.
    text = f"{request.method} {request.path}".encode("utf-8", "replace")
    words[at] += 1
    words[at + 1] = time.monotonic_ns()
    words[at + 5] = length = len(text)
    if length > TEXT_BYTES:
        text, length = text[:TEXT_BYTES], TEXT_BYTES
    begin = at * WORD + TEXT_AT
    board.bytes[begin : begin + length] = text
    words[at] += 1


def post_request(worker, request, environ, response):
    if board is None or not (at := board.threads.at):
        return
    words = board.words
    words[at] += 1
    words[at + 1] = 0
    words[at + 2] += 1
    if failed(response):
        words[at + 3] += 1
    if environ.get(DROPPED):
        words[at + 4] += 1
    words[at] += 1


def failed(response):
    """Whether the app has failed: answered so, or raised. Called while what it raised is on its way."""
    if response is None:
        return False  # refused before the app was asked
    error = sys.exc_info()[1]
    # A client that is gone is no failure of the app's; a websocket ends with StopIteration, and has sent no headers.
    if error is None or (isinstance(error, OSError) and error.errno in CLIENT_GONE):
        return response.status is not None and (response.status_code or 0) >= 500
    return response.headers_sent or not isinstance(error, StopIteration)


def worker_exit(server, worker):
    # What is killed does not come here; what crashes does, on its way out.
    reason = sys.exc_info()[1]
    crashes = reason is not None and getattr(reason, "code", 1) not in (None, 0)
    if board and os.getpid() == worker.pid and not crashes:
        board.file["state"] = LEFT


# --- in the master ----------------------------------------------------------------------------------------------------


class Master:
    """The master's own file, and what it has to do beside gunicorn's own work."""

    def __init__(self, server):
        self.server = server
        self.folder = pathlib.Path(policy.folder)
        for path in self.folder.iterdir():
            path.unlink()
        now = time.monotonic_ns()
        create(self.folder / "master", MASTER_BYTES, (0, MAGIC, os.getpid(), now, now))
        self.file = Words(self.folder / "master", MASTER, writable=True)
        self.lock = threading.Lock()
        self.why, self.asked = "", 0.0
        self.samples = collections.deque()
        # Workers that were told to leave, and may take their time.
        self.leaving = set()
        self.reloaded = False
        self.put_workers(server.num_workers)

    def put_workers(self, now, before=None, why=""):
        with self.lock, step(self.file.words):
            self.file["minimum"], self.file["maximum"] = policy.minimum, policy.maximum
            self.file["workers"] = now
            if before is not None:
                self.file["changes"] += 1
                self.file["changed"] = time.monotonic_ns()
                self.file["changed_from"], self.file["changed_to"] = before, now
                text = why.encode()[: MASTER_BYTES - len(MASTER) * WORD]
                self.file["why"] = len(text)
                begin = len(MASTER) * WORD
                self.file.bytes[begin : begin + len(text)] = text

    def bury(self, path, aborted=False):
        """Add what a worker that is gone had counted to the sums, and remove its file."""
        # Two threads may want to: the second one finds no file.
        try:
            with self.lock, Words(path, WORKER) as worker, step(self.file.words):
                for at in places(worker):
                    self.file["requests"] += worker.words[at + 2]
                    self.file["errors"] += worker.words[at + 3]
                    self.file["dropped"] += worker.words[at + 4]
                    self.file["lost"] += bool(worker.words[at + 1])
                self.file["timed_out" if aborted else "replaced" if worker["state"] == LEFT else "killed"] += 1
                path.unlink()
        except ValueError as error:
            self.drop(path, error)

    def drop(self, path, error):
        """Remove a worker's file that is damaged: one that nobody can read would hide all the others for good."""
        self.server.log.error("scoreboard: a worker is no longer told of: %s", error)
        path.unlink(missing_ok=True)

    def tick(self):
        """Look at the workers once, and have their number changed where that is due."""
        workers = dict(self.server.WORKERS)
        wanted = self.server.num_workers
        by_age = sorted(workers, key=lambda pid: workers[pid].age)
        # Gunicorn tells the oldest to leave. From then on they serve nobody new, whatever number is wanted later.
        self.leaving = (self.leaving & {*workers}) | {*by_age[: max(len(by_age) - wanted, 0)]}
        serving = {*workers} - self.leaving
        busy = 0
        now = time.monotonic_ns()
        for path in self.folder.glob("worker-*"):
            try:
                busy += self.look(path, workers, serving, now)
            except FileNotFoundError:
                pass  # gone in the meantime
            except ValueError as error:
                self.drop(path, error)
        with self.lock, step(self.file.words):
            self.file["beat"] = now
            self.file["busy"] = MILLION * busy // max(len(serving) * self.server.cfg.threads, 1)
        if self.reloaded or len(workers) < wanted:
            # What was seen before is of another time: the first look afterwards would be averaged with it.
            self.reloaded = False
            self.samples.clear()
        if serving and len(workers) >= wanted:
            self.scale(now / 1e9, wanted, len(serving), busy / self.server.cfg.threads)

    def look(self, path, workers, serving, now):
        """Note how one worker is; return how many requests it handles, where it is one of those that serve."""
        with Words(path, WORKER, writable=True) as worker:
            pid = worker["pid"]
            if known := workers.get(pid):
                # Closed, once the master knows that it is gone.
                with contextlib.suppress(OSError, ValueError):
                    beat = int(known.tmp.last_update() * 1e9)
                    # Before the first one it is the time of day, which is later than any time since the boot.
                    if beat <= time.monotonic_ns():
                        worker["heartbeat"] = beat
                worker["memory"] = memory(pid)
                return sum(worker.words[at + 1] != 0 for at in places(worker)) if pid in serving else 0
            forgotten = now - worker["forked"] > ORPHANED * 1e9
        if forgotten:
            self.bury(path)
        return 0

    def scale(self, now, wanted, serving, needed):
        """Change the number that is *wanted* where for long enough too many or too few workers were *needed*."""
        if self.why and now < self.asked + PATIENCE:
            return  # the signal is on its way
        change, why = decision(policy, self.samples, now, wanted, serving, needed)
        # While one leaves it is not yet seen how those that are left do.
        if change > 0 or (change and not self.leaving):
            self.samples.clear()
            self.why, self.asked = why, now
            os.kill(os.getpid(), signal.SIGTTIN if change > 0 else signal.SIGTTOU)

    def run(self):
        while True:
            try:
                self.tick()
            except Exception:
                self.server.log.exception("scoreboard: the master's look at its workers failed")
            time.sleep(TICK)


def decision(policy, samples, now, wanted, serving, needed):
    """Return +1, -1 or 0, and why. *samples* is kept by the caller, and emptied after each change.

    There are *serving* workers, fewer than are *wanted* where one that leaves still counts for gunicorn: it may have a
    request that takes its time, and that must not keep others waiting.

    A worker is added when, on the average of *up_after* seconds, the share *up* of all threads was busy, and taken away
    when for *down_after* seconds one worker less would still have been busy by no more than *down*, which is less than
    *up*: what was just added is not at once too much.
    """
    samples.append((now, needed))
    while samples[0][0] < now - max(policy.up_after, policy.down_after) - TICK:
        samples.popleft()

    def average(seconds):
        # Known only when there are samples for as long as that.
        if samples[0][0] > now - seconds:
            return None
        lately = [needed for moment, needed in samples if moment >= now - seconds]
        return sum(lately) / len(lately)

    if wanted < policy.minimum:
        return 1, f"fewer than the least number, {policy.minimum}"
    if wanted > policy.maximum:
        return -1, f"more than the greatest number, {policy.maximum}"
    lately = average(policy.up_after)
    if wanted < policy.maximum and lately is not None and lately >= serving * policy.up:
        return 1, f"{lately / serving:.0%} busy for {policy.up_after:g} s"
    lately = average(policy.down_after)
    if wanted > policy.minimum and lately is not None and lately <= (wanted - 1) * policy.down:
        return -1, f"{lately / serving:.0%} busy for {policy.down_after:g} s"
    return 0, ""


policy = None
master = None


def configure(**settings):
    """What gunicorn's configuration says, each time that it is read."""
    global policy
    policy = Policy(**settings)


def guarded(hook):
    """Whatever becomes of the scoreboard, gunicorn goes on."""

    @functools.wraps(hook)
    def call(server, *rest):
        try:
            hook(server, *rest)
        except Exception:
            server.log.exception("scoreboard: %s failed", hook.__name__)

    return call


def on_starting(server):
    global master
    try:
        master = Master(server)
    except OSError as error:
        server.log.error("scoreboard: this gunicorn is not told of: %s", error)


def when_ready(server):
    if master:
        threading.Thread(target=master.run, daemon=True, name="scoreboard").start()


@guarded
def on_reload(server):
    if master:
        master.file["reloads"] += 1
        master.reloaded = True


@guarded
def nworkers_changed(server, new, old):
    # Called before there is anything, too; and by a reload, which begins with as many as the configuration says.
    if master and new != old:
        why, master.why = master.why, ""
        master.put_workers(new, old, why or "told from outside: a reload or a signal")
    elif master:
        master.put_workers(new)


@guarded
def child_exit(server, worker):
    if master:
        path = master.folder / f"worker-{worker.pid}"
        # One that had no file counted nothing.
        with contextlib.suppress(FileNotFoundError):
            master.bury(path, worker.aborted)


def places(worker):
    """Where each thread of a worker has its words."""
    first, size = WORKER_BYTES // WORD, REQUEST_BYTES // WORD
    return range(first, first + worker["threads"] * size, size)


def memory(pid):
    """Return the bytes that a process has in memory; 0 where it is gone."""
    try:
        pages = pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(pages) * mmap.PAGESIZE


# --- for a reader -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Request:
    """A request that is being handled, and for how many seconds."""

    method: str
    path: str
    age: float


@dataclasses.dataclass(frozen=True)
class Worker:
    """A worker, with its current requests, the oldest first."""

    pid: int
    starting: bool
    age: float
    heartbeat_age: float
    memory: int
    threads: int
    requests: int
    errors: int
    dropped: int
    current: tuple[Request, ...]


@dataclasses.dataclass(frozen=True)
class Board:
    """All of one gunicorn at one moment; times in seconds, sums since the master began."""

    pid: int
    uptime: float
    beat_age: float
    reloads: int
    requests: int
    errors: int
    dropped: int
    lost: int
    killed: int
    timed_out: int
    replaced: int
    target: int
    minimum: int
    maximum: int
    busy: float
    changes: int
    changed_age: float
    changed_from: int
    changed_to: int
    why: str
    workers: tuple[Worker, ...]


def read(folder):
    """Return the `Board` of the gunicorn whose folder this is. FileNotFoundError: there is none."""
    folder = pathlib.Path(folder)
    with Words(folder / "master", MASTER) as master:

        def look():
            workers = []
            for path in sorted(folder.glob("worker-*")):
                # One that goes now is in the sums at the next look.
                with contextlib.suppress(FileNotFoundError), Words(path, WORKER) as worker:
                    workers.append(read_worker(worker))
            numbers = {name: master[name] for name in MASTER}
            begin = len(MASTER) * WORD
            why = master.bytes[begin : begin + min(master["why"], MASTER_BYTES - begin)]
            return numbers, why.decode("utf-8", "replace"), workers

        numbers, why, workers = whole(master.words, look)
    now = time.monotonic_ns()

    def age(name):
        return max(now - numbers[name], 0) / 1e9

    same = {"pid", "reloads", "requests", "errors", "dropped", "lost", "killed", "timed_out", "replaced"}
    same |= {"minimum", "maximum", "changes", "changed_from", "changed_to"}
    facts = {name: numbers[name] for name in same}
    for name in ("requests", "errors", "dropped"):
        facts[name] += sum(getattr(worker, name) for worker in workers)
    return Board(
        **facts,
        uptime=age("started"),
        beat_age=age("beat"),
        target=numbers["workers"],
        busy=numbers["busy"] / MILLION,
        changed_age=age("changed") if numbers["changes"] else 0.0,
        why=why,
        workers=tuple(sorted(workers, key=lambda worker: -worker.age)),
    )


def read_worker(worker):
    now = time.monotonic_ns()
    requests = errors = dropped = 0
    current = []
    for at in places(worker):

        def look(at=at):
            begin = at * WORD + TEXT_AT
            return tuple(worker.words[at + 1 : at + 6]), worker.bytes[begin : begin + TEXT_BYTES]

        try:
            (began, done, failures, drops, length), text = whole(worker.words, look, at)
        except TornError:
            # Killed in the midst: its numbers are right each for itself, and the text is nobody's.
            (began, done, failures, drops, length), text = look()[0], b"? ?"
        requests += done
        errors += failures
        dropped += drops
        if began:
            method, _, path = text[:length].decode("utf-8", "replace").partition(" ")
            current.append(Request(method, path + "…" * (length > TEXT_BYTES), max(now - began, 0) / 1e9))
    return Worker(
        pid=worker["pid"],
        starting=worker["state"] == STARTING,
        age=max(now - worker["forked"], 0) / 1e9,
        heartbeat_age=max(now - worker["heartbeat"], 0) / 1e9,
        memory=worker["memory"],
        threads=worker["threads"],
        requests=requests,
        errors=errors,
        dropped=dropped,
        current=tuple(sorted(current, key=lambda request: -request.age)),
    )
