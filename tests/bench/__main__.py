"""``python -m tests.bench``: run the benches, print their tables, and write them into docs/performance.rst."""

import argparse
import importlib
import os
import platform
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "performance.rst"

# Every other file of this folder is a subject.
SUBJECTS = sorted({file.stem for file in Path(__file__).parent.glob("*.py")} - {"__main__", "lab", "tables"})


def main() -> None:
    """Run what the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure, and print tables of ratios.")
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(SUBJECTS)} (default: all)")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.relative_to(ROOT)}")
    arguments = parser.parse_args()
    if unknown := set(arguments.subjects) - set(SUBJECTS):
        parser.error(f"no such subject: {', '.join(sorted(unknown))}")
    for subject in arguments.subjects or SUBJECTS:
        section = measured(subject)
        if arguments.write:
            PAGE.write_text(replaced(PAGE.read_text(), subject, section))


def measured(subject: str) -> str:
    """Run the bench *subject*; print its section of the page as it comes, and return it."""
    bench = importlib.import_module(f"tests.bench.{subject}")
    # Before the run: afterwards it is the bench's own load.
    parts = [f"{bench.TITLE}\n{'-' * len(bench.TITLE)}", f"``python -m tests.bench {subject}`` on {machine()}."]
    print(*parts, sep="\n\n", flush=True)
    for table in bench.tables():
        parts.append(table.rst())
        print("\n" + parts[-1], flush=True)
    return "\n\n".join(parts)


def replaced(page: str, subject: str, section: str) -> str:
    """Return *page* with *section* between the marks of *subject*, which are made at the end where there are none."""
    begin, end = f".. begin {subject}\n", f".. end {subject}\n"
    if begin not in page:
        page = f"{page.rstrip()}\n\n{begin}{end}"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{section}\n\n{end}{after}"


def machine() -> str:
    """Describe the machine, without anything that names it."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return (
        f"{os.cpu_count()} cores of {model[1] if model else platform.machine()}, {memory:.0f} GiB, {system},\n"
        f"Python {platform.python_version()}; {os.getloadavg()[0]:.1f} processes were running besides it"
    )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "app"))
    main()
