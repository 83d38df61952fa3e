"""``python -m web``: the service by itself, on the server that it has in production."""

import argparse
import os
import sys
from pathlib import Path

from web.settings import Settings, from_environment_or_exit, table


def main() -> None:
    """Serve until interrupted, or print the settings."""
    parser = argparse.ArgumentParser(
        prog="python -m web",
        description="Serve the Fibonacci sequence over HTTP. Needs nothing else; without REDIS_URL the cache is off.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", default=8000, type=_port, help="port to listen on (default: %(default)s)")
    parser.add_argument("--settings", action="store_true", help="print what the environment may set, and exit")
    arguments = parser.parse_args()
    if arguments.settings:
        print(table())
        return
    settings = from_environment_or_exit()  # here too, for the one line without gunicorn's around it
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    print(f"Try: curl 'http://{host}:{arguments.port}/api/v1/fibonacci?page=1&per_page=5'", flush=True)
    # In place of this process: signals such as Ctrl-C then reach gunicorn with nothing in between.
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *_options(host, arguments.port, settings)])  # noqa: S606 - no shell wanted


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError("must be an integer from 1 to 65535")
    return int(text)


def _options(host: str, port: int, settings: Settings) -> list[str]:
    return [
        f"--bind={host}:{port}",
        f"--pythonpath={Path(__file__).parent.parent}",
        # One for each stream and a few for pages; gunicorn starts one only when all others are busy.
        f"--threads={settings.stream_connections + 4}",
        f"--worker-connections={settings.stream_connections + 1_000}",
        "--limit-request-line=0",  # a long URL gets our answer, a problem, rather than gunicorn's page
        "--no-control-socket",  # nothing to clean up in the user's home
        "--log-level=warning",  # the service's own lines say what matters
        "web:create_development_app()",
    ]


if __name__ == "__main__":
    main()
