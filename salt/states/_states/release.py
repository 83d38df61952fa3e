"""Keep the last releases of an app for a rollback, and no more."""

import contextlib
import fcntl
import os
import pathlib
import shutil

# The last thing made of a release: one without it was cut off or did not start.
MARKER = "tried"


def pruned(name, current, keep):
    """Remove what is older than the last *keep* releases below the folder *name*, and what never became one.

    The release that the link *current* points to always stays. The last ones are those that served last, which after a
    rollback are not those that were tried last: hence the marker of the current one is made the newest. What locks have
    installed, in ``venvs`` beside that folder, stays as long as a release uses it.
    """
    root, current = pathlib.Path(name), pathlib.Path(current)
    if not root.exists():
        # Before the first apply, under test=True.
        return {"name": name, "result": True, "changes": {}, "comment": "no release yet"}
    releases = sorted(
        (path for path in root.iterdir() if (path / MARKER).exists()),
        key=lambda path: (path / MARKER).stat().st_mtime,
        reverse=True,
    )
    serving = current.resolve()
    if serving in releases[1:] and not __opts__["test"]:
        (serving / MARKER).touch()
    kept = {*releases[:keep], serving}
    removed = sorted(path for path in root.iterdir() if path not in kept)
    # What a lock installs goes with the last release that was made with it.
    installed, used = root.with_name("venvs"), {(path / "venv").resolve() for path in kept}
    removed += sorted(path for path in installed.glob("*") if path.resolve() not in used)
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{len(kept)} kept"}
    if not removed:
        return ret
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"would remove {', '.join(path.name for path in removed)}"}
    with _locked(installed):
        for path in removed:
            # Under another name first: cut off half way, it must not pass for a release.
            doomed = path.with_name(f".{path.name.lstrip('.')}")
            shutil.rmtree(path.rename(doomed))
    return ret | {"changes": {"removed": [path.name for path in removed]}}


@contextlib.contextmanager
def _locked(folder):
    """Wait for what an apply that was cut off still installs below *folder*: it takes this lock, too (formula app)."""
    if not folder.is_dir():
        yield
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)
