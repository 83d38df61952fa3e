"""The service against its own description: schemathesis asks whatever that allows, and what it does not.

``API_BASE_URL=https://host pytest tests/unit/web/test_schemathesis.py`` asks an installation instead, through all that
is in front of it: one with limits like SETTINGS, if jobs of any size are not to be calculated, and one whose door does
not count whoever runs this. REQUESTS_CA_BUNDLE names the file of an issuer that only that site trusts.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from service import RedisServer, Worker
from test_server import free_port, running

HERE = Path(__file__).parent

# Jobs of milliseconds, and bounds near enough to be met. The backlog is not what is tested here.
SETTINGS: dict[str, object] = {
    "inline_limit": 10_000,
    "job_max_index": 20_000,
    "job_max_bytes": 2**20,
    "job_backlog": 100_000,
    "redis_timeout": 5.0,  # a busy machine is no fault of the service
}

# An answer takes milliseconds; more examples find more, in proportion to the time.
EXAMPLES = "40"

SERVER = ["gunicorn", "--no-control-socket", "--worker-class=gthread", "--threads=16", "--limit-request-line=0"]


@pytest.fixture
def base_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give the URL of the service: one with Redis and a worker that are started here, or $API_BASE_URL."""
    if given := os.environ.get("API_BASE_URL"):
        yield given.rstrip("/")
        return
    redis: RedisServer = request.getfixturevalue("redis_server")
    settings = {f"FIBONACCI_{name.upper()}": str(value) for name, value in SETTINGS.items()}
    worker = Worker(tmp_path / "worker.log", redis.url, SETTINGS, "--concurrency", "2")
    try:
        port = free_port()
        command = [*SERVER, f"--bind=127.0.0.1:{port}", "web:create_development_app()"]
        with running(command, port, tmp_path / "web.log", settings | {"REDIS_URL": redis.url}):
            yield f"http://127.0.0.1:{port}"
    finally:
        worker.kill()


@pytest.mark.timeout(300)
def test_service_does_what_it_says_and_nothing_else(base_url: str, tmp_path: Path) -> None:
    # From a file: what is at the address that it is loaded from would not be asked for.
    description = tmp_path / "openapi.json"
    document = requests.get(f"{base_url}/api/v1/openapi.json", timeout=30).json()
    description.write_text(json.dumps(document), encoding="utf-8")
    binary = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    assert binary, "schemathesis is missing from the virtual environment"
    command = [binary, "--config-file", str(HERE / "schemathesis.toml"), "run", str(description), "--url", base_url]
    command += ["--mode", "all", "--max-examples", EXAMPLES, "--no-color"]
    command += ["--report", "ndjson", "--report-ndjson-path", str(tmp_path / "events.ndjson")]
    if "API_BASE_URL" in os.environ:
        command += ["--exclude-tag", "internal"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    # Every operation was asked, and in every phase: a run that tests nothing ends well too.
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    asked = [each for each in operations if "API_BASE_URL" not in os.environ or "internal" not in each["tags"]]
    assert f"Tested: {len(asked)}" in done.stdout, done.stdout
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in done.stdout, done.stdout
