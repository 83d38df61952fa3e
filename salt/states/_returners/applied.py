"""Notes how the last apply of all states ended, for those who watch over the host (measure-salt).

Salt calls a returner for whatever it did (``return: applied`` in the minion's configuration), so that an apply is noted
too that failed while it was rendered. What it notes holds no word of the states': there may be secrets among them.
"""

import json
import os
import pathlib
import time
from typing import Any

NOTE = pathlib.Path("/var/lib/turnkey/applied.json")


def returner(ret: dict[str, Any]) -> None:
    """Note what *ret* says, if it tells of an apply of all states that was no rehearsal."""
    if not _applies_all(ret.get("fun"), ret.get("fun_args") or []):
        return
    told = ret.get("return")
    # A list is what went wrong while it was rendered.
    states = list(told.values()) if isinstance(told, dict) else []
    failed = sum(state.get("result") is False for state in states if isinstance(state, dict))
    ok = bool(states) and not failed and not ret.get("retcode")
    now = time.time()
    _write(
        {
            "time": now,
            "ok": ok,
            "success": now if ok else _before().get("success"),
            "states": len(states),
            "changed": sum(bool(state.get("changes")) for state in states if isinstance(state, dict)),
            "failed": failed,
        }
    )


def _applies_all(function: str | None, arguments: list[Any]) -> bool:
    if function not in ("state.apply", "state.highstate"):
        return False
    said: dict[str, object] = {}
    for argument in arguments:
        if isinstance(argument, dict):
            said.update(argument)
        elif isinstance(argument, str) and "=" in argument:
            name, _, value = argument.partition("=")
            said[name] = value
        else:
            # The names of single states.
            return False
    return str(said.get("test", False)).lower() not in ("true", "1") and not said.get("mods")


def _before() -> dict[str, Any]:
    try:
        noted: dict[str, Any] = json.loads(NOTE.read_text())
        return noted
    except (OSError, ValueError):
        return {}


def _write(note: dict[str, Any]) -> None:
    NOTE.parent.mkdir(parents=True, exist_ok=True)
    # Whatever the umask is: it is read by one who is not root.
    NOTE.parent.chmod(0o755)
    draft = NOTE.with_name(f"{NOTE.name}.{os.getpid()}")
    draft.write_text(json.dumps(note) + "\n")
    draft.chmod(0o644)
    draft.replace(NOTE)
