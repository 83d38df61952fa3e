"""``python -m fibonacci`` as its users run it: a process, its streams and its exit status."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fibonacci
from fibonacci import LARGEST_INDEX, digits, total_digits
from oracle import by_loop, by_matrix, text_of

APP = Path(fibonacci.__file__).parent.parent
COMMAND = [sys.executable, "-m", "fibonacci"]

# Generous: a busy machine is not a wrong result.
DEADLINE = 60

# Minutes of calculation: what waits for its end has failed.
ENDLESS = ["--start", str(LARGEST_INDEX), "--count", "1"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=APP, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def start(*arguments: str, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*COMMAND, *arguments], cwd=APP, stdout=stdout, stderr=stderr)


def printed(*arguments: str) -> str:
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_number_alone_prints_the_first_terms_one_a_line() -> None:
    assert printed("10") == "0\n1\n1\n2\n3\n5\n8\n13\n21\n34\n"


def test_start_and_count_choose_the_terms() -> None:
    assert printed("--start", "98", "--count", "3").split() == [str(term) for term in by_loop(101)[98:]]
    assert printed("3", "--start", "98") == printed("--start", "98", "--count", "3")


def test_terms_beyond_the_digit_limit_of_python_are_printed() -> None:
    assert printed("1", "--start", "20578").encode() == text_of(by_matrix(20_578)) + b"\n"


def test_json_is_one_document_with_terms_as_strings() -> None:
    terms = [str(term) for term in by_loop(110)[100:]]
    assert json.loads(printed("--start", "100", "10", "--format", "json")) == {
        "start": 100,
        "count": 10,
        "terms": terms,
    }
    assert json.loads(printed("0", "--format", "json")) == {"start": 0, "count": 0, "terms": []}


def test_ndjson_is_a_document_a_line() -> None:
    lines = printed("--start", "1000", "3", "--format", "ndjson").splitlines()
    terms = by_loop(1_003)[1_000:]
    assert [json.loads(line) for line in lines] == [
        {"n": n, "digits": len(str(term)), "value": str(term)} for n, term in enumerate(terms, 1_000)
    ]


@pytest.mark.parametrize("form", ["text", "ndjson"])
def test_no_terms_print_nothing(form: str) -> None:
    assert printed("0", "--format", form) == ""


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "give the number of terms once"),
        (["1", "--count", "1"], "give the number of terms once"),
        (["1.5"], f"COUNT must be an integer from 0 to {LARGEST_INDEX + 1}"),
        (["--count=-1"], f"COUNT must be an integer from 0 to {LARGEST_INDEX + 1}"),
        (["--count", "٣"], f"COUNT must be an integer from 0 to {LARGEST_INDEX + 1}"),
        (["1", "--start", "9" * 5_000], f"--start must be an integer from 0 to {LARGEST_INDEX}"),
        (["1", "--start", str(LARGEST_INDEX + 1)], f"--start must be an integer from 0 to {LARGEST_INDEX}"),
        (["3", "--start", str(LARGEST_INDEX - 1)], "COUNT must be an integer from 0 to 2"),
        (["1", "--format", "xml"], "invalid choice: 'xml'"),
        (["1", "--sta", "5"], "unrecognized arguments"),
    ],
)
def test_wrong_arguments_end_with_2_and_name_the_bounds(arguments: list[str], reason: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_examples_of_the_readme_print_what_it_says() -> None:
    lines = [line.strip() for line in (APP / "README.rst").read_text().splitlines()]
    first = next(number for number, line in enumerate(lines) if line.startswith("$ python -m fibonacci"))
    examples = lines[first : lines.index("", first)]
    command = "\n".join(line.removeprefix("$ ") for line in examples if line.startswith("$ "))
    function = f'python() {{ "{sys.executable}" "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-c", function + command], cwd=APP, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.stdout.splitlines() == [line for line in examples if not line.startswith("$ ")]
    assert len(examples) >= 6


def test_help_names_every_option() -> None:
    told = printed("--help")
    assert all(option in told for option in ("--start", "--count", "--format", "text", "json", "ndjson"))


@pytest.mark.parametrize("form", ["text", "json", "ndjson"])
def test_closed_pipe_ends_it_without_a_word(form: str) -> None:
    process = start("1000000000", "--format", form)
    assert process.stdout
    assert process.stderr
    with process.stdout as out, process.stderr as errors:
        assert out.read(10)
        out.close()
        assert process.wait(DEADLINE) == -signal.SIGPIPE  # 141 in a shell
        assert errors.read() == b""


def test_shell_sees_the_status_of_a_closed_pipe() -> None:
    line = f'"{sys.executable}" -m fibonacci 1000000000 | head -1; echo "${{PIPESTATUS[*]}}"'
    done = subprocess.run(["bash", "-c", line], cwd=APP, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (done.stdout, done.stderr) == ("0\n141 0\n", "")


def test_interrupt_ends_it_without_a_word_also_while_it_jumps() -> None:
    master, slave = pty.openpty()
    process = start(*ENDLESS, stderr=slave)
    os.close(slave)
    try:
        assert b"calculating" in b"".join(output(master, until=b"calculating"))
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == -signal.SIGINT  # 130 in a shell
    finally:
        process.kill()
    assert process.communicate()[0] == b""
    assert b"Traceback" not in b"".join(output(master))
    os.close(master)


def test_full_disk_ends_it_with_one_line() -> None:
    with open("/dev/full", "wb") as full:
        for count in ("1", "3000"):
            process = start(count, stdout=full.fileno())
            _, errors = process.communicate(timeout=DEADLINE)
            assert process.returncode == 1
            assert errors == b"python -m fibonacci: cannot write: No space left on device\n"


def test_progress_is_shown_on_a_terminal_and_taken_away() -> None:
    master, slave = pty.openpty()
    process = start("5000", "--start", "500000", stdout=subprocess.DEVNULL, stderr=slave)
    os.close(slave)
    told = b"".join(output(master)).decode()
    assert process.wait(DEADLINE) == 0
    assert re.search(r"writing: \d{1,3}%", told)
    assert told.endswith("\r\x1b[K")
    os.close(master)


def test_terminal_that_gets_the_terms_gets_no_progress() -> None:
    master, slave = pty.openpty()
    process = start("2", "--start", "3000000", stdout=slave, stderr=slave)
    os.close(slave)
    told = b"".join(output(master))
    assert process.wait(DEADLINE) == 0
    assert len(told.split()) == 2
    assert set(told) <= set(b"0123456789\r\n")
    os.close(master)


def test_progress_does_not_go_into_a_file() -> None:
    assert len(printed("1", "--start", "3000000")) == digits(3_000_000) + 1


@pytest.mark.parametrize("form", ["text", "json", "ndjson"])
def test_memory_is_bounded_while_it_streams(form: str) -> None:
    def peak(count: int) -> tuple[int, int]:
        process = start("--start", "100000", "--count", str(count), "--format", form)
        assert process.stdout
        size = 0
        with process.stdout as out:
            while block := out.read(1 << 16):
                size += len(block)
        _, status, usage = os.wait4(process.pid, 0)
        assert process.stderr
        process.stderr.close()
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return size, usage.ru_maxrss * 1024

    (_, few), (size, many) = peak(3), peak(2_000)
    assert size > total_digits(100_000, 2_000)
    assert many - few < 8_000_000


def output(terminal: int, *, until: bytes | None = None) -> Iterator[bytes]:
    """Yield what comes from *terminal* up to its end, or to *until*."""
    told = b""
    deadline = time.monotonic() + DEADLINE
    while until is None or until not in told:
        ready, _, _ = select.select([terminal], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"nothing more came after {told!r}"
        try:
            block = os.read(terminal, 65_536)
        except OSError:  # how Linux says that nobody has the other side open
            return
        if not block:
            return
        told += block
        yield block
