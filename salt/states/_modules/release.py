"""Identify a release of an app: its code and its configuration together."""

import hashlib
import json
import pathlib

from salt.exceptions import CommandExecutionError

# What interpreters and editors leave behind is no part of a release.
IGNORED_PARTS = {"__pycache__", ".git"}


def digest(source, requirements, environment):
    """Return the name of a release: 16 hex digits over all that makes it differ from another.

    *source* is the ``salt://`` folder of the code, *requirements* the ``salt://`` file of its locked dependencies,
    *environment* the mapping of its variables. The operating system counts too, as its Python does the compiling.

    Raises CommandExecutionError, naming the pillar key, where the source holds no file or the lock is missing.

    CLI Example:

    .. code-block:: bash

        salt-call release.digest salt://fibonacci/app salt://fibonacci/requirements.txt '{}'
    """
    # Each template that needs the name asks: within one apply the answer is one, and reading all files takes a while.
    key = f"release.digest:{json.dumps([source, requirements, environment], sort_keys=True)}"
    if key not in __context__:
        __context__[key] = _digest(source, requirements, environment)
    return __context__[key]


def _digest(source, requirements, environment):
    files = _files(source)
    if not files:
        raise CommandExecutionError(f"app:source: no file below {source}")
    return _named(
        ("os", __grains__["osfinger"].encode()),
        ("environment", json.dumps(environment, sort_keys=True).encode()),
        ("requirements", _lock(requirements)),
        *((name, path.read_bytes()) for name, path in files),
    )


def venv(requirements):
    """Return the name of what the ``salt://`` file *requirements* installs here: releases with one lock share it.

    Raises CommandExecutionError, naming the pillar key, where the lock is missing.

    CLI Example:

    .. code-block:: bash

        salt-call release.venv salt://fibonacci/requirements.txt
    """
    return _named(("os", __grains__["osfinger"].encode()), ("requirements", _lock(requirements)))


def _named(*parts):
    """Return 16 hex digits over *parts*, each a name and a content."""
    hashed = hashlib.sha256()
    for name, content in parts:
        for part in (name.encode(), content):
            hashed.update(len(part).to_bytes(8, "big"))
            hashed.update(part)
    return hashed.hexdigest()[:16]


def _lock(requirements):
    lock = __salt__["cp.cache_file"](requirements)
    if not lock:
        raise CommandExecutionError(f"app:requirements: no such file: {requirements}")
    return pathlib.Path(lock).read_bytes()


def _files(source):
    prefix = source.removeprefix("salt://").strip("/") + "/"
    found = []
    for path in sorted(__salt__["cp.list_master"](prefix=prefix)):
        name = path.removeprefix(prefix)
        if not IGNORED_PARTS & set(name.split("/")):
            found.append((name, pathlib.Path(__salt__["cp.cache_file"](f"salt://{path}"))))
    return found


def kept(root):
    """Return what a rollback can go to below *root*: ``{current, switched, kept, os}``.

    *kept* are the releases that served or were tried, the latest first; *switched* is when the link ``current`` moved,
    in seconds since the epoch.

    CLI Example:

    .. code-block:: bash

        salt 'web*' release.kept /opt/app
    """
    current = pathlib.Path(root) / "current"
    return {
        "current": current.resolve().name if current.exists() else None,
        "switched": current.lstat().st_mtime if current.exists() else 0,
        "kept": _kept(root),
        "os": __grains__["osfinger"],
    }


def pinned(root, name):
    """Return *name*, if that release is kept below *root*.

    Raises CommandExecutionError, naming the pillar key, where it is not: what is gone cannot be made again.

    CLI Example:

    .. code-block:: bash

        salt web1 release.pinned /opt/app 0123456789abcdef
    """
    if name not in (names := _kept(root)):
        raise CommandExecutionError(f"app:pinned: no release {name} is kept here (kept: {', '.join(names) or 'none'})")
    return name


def _kept(root):
    # The last thing made of a release (salt/states/app/init.sls): one without it was cut off or did not start.
    markers = [path for path in pathlib.Path(root, "releases").glob("*/tried") if not path.parent.name.startswith(".")]
    return [path.parent.name for path in sorted(markers, key=lambda path: path.stat().st_mtime, reverse=True)]
