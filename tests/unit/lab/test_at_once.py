"""run_tests.py does two things at once: which, when, and what becomes of it when that fails.

It brings hosts up while suites run that need none, and runs a suite beside another, on a lab of its own.
"""

import dataclasses
import pathlib
import time

import pytest
import run_tests

# A pretended lab: it writes down how it is called, and remembers what is up.
SCRIPT = """#!/bin/sh
echo "${0##*/} $*" >>called
case $0 in
    */down) rm -f is-up ;;
    *) echo "$1" >is-up ;;
esac
[ "$FAILING" != "${0##*/} $*" ] || { echo 'it cannot be'; exit 1; }
"""
HOSTS_OF_THE_CLUSTER, HOST_ALONE = "up cluster --os debian-13 --no-apply", "up single --os debian-13"
CLUSTER = "up cluster --os debian-13"
# And a pretended run of a suite in a copy of the tree.
BESIDE = """
import os, pathlib, sys, time
tree = pathlib.Path(__file__).parents[2]
(tree / "pid").write_text(str(os.getpid()))
with (tree / "called").open("a") as called:
    print("beside", *sys.argv[1:-1], file=called)
sys.stdout.buffer.write(b"this is told \\xff\\n")
sys.stdout.flush()
if "--hang" in (tree / "beside").read_text():
    time.sleep(600)
results = pathlib.Path(sys.argv[-1])
results.mkdir()
case = '<testcase classname="x" name="%s">%s</testcase>'
(results / "infra.xml").write_text(f"<testsuite>{case % ('a', '')}{case % ('b', '')}</testsuite>")
failed = "--fail" in (tree / "beside").read_text()
tool = case % ("lab/up", "<failure/>" if failed else "")
(results / "infra-tools.xml").write_text(f"<testsuite>{tool}</testsuite>")
sys.exit(failed)
"""
INFRA_BESIDE = "beside --suite infra --os debian-13 --hosts all --junit"
# What an earlier run has left of it goes first.
CLEARED = "down --of cache/beside"


def eventually(outcome):
    until = time.monotonic() + 30
    while not outcome():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs suites in a pretended lab, and tells what failed and what was called."""
    (tmp_path / "lab").mkdir()
    for name in ("up", "down"):
        (tmp_path / "lab" / name).write_text(SCRIPT)
        (tmp_path / "lab" / name).chmod(0o755)

    def note(what):
        with (tmp_path / "called").open("a") as file:
            file.write(f"{what}\n")

    def pretended(name):
        def on_hosts(report, options):
            with run_tests.lab(report, options, run_tests.TOPOLOGIES[name]):
                note(name)
                if name == run.interrupted:
                    eventually((tmp_path / "pid").exists)
                    raise KeyboardInterrupt

        def alone(report, options):
            # As slow as what was begun with it, so that there is one order.
            if run_tests.LabAhead.started:
                run_tests.LabAhead.started._children[-1].wait()
            note(name)
            if name == run.interrupted:
                raise KeyboardInterrupt

        return dataclasses.replace(run_tests.SUITES[name], run=on_hosts if name in run_tests.TOPOLOGIES else alone)

    def copy_tree(target):
        if run.beside == "--no-git":
            raise FileNotFoundError("git")
        target.mkdir(parents=True)
        (target / "run_tests.py").write_text(BESIDE)
        (tmp_path / "beside").write_text(run.beside)

    def lab_in_the_way(topology):
        path = tmp_path / "is-up"
        up = {"topology": path.read_text().strip(), "os": "debian-13"} if path.exists() else None
        return up and up | {"repository": str(tmp_path)}

    monkeypatch.setattr(run_tests, "ROOT", tmp_path)
    monkeypatch.setattr(run_tests, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(run_tests, "SUITES", {name: pretended(name) for name in run_tests.SUITES})
    monkeypatch.setattr(run_tests, "lab_in_the_way", lab_in_the_way)
    monkeypatch.setattr(run_tests, "copy_tree", copy_tree)
    for name in ("install", "install_venv_needs", "make_venv"):
        monkeypatch.setattr(run_tests, name, lambda *arguments: None)
    monkeypatch.setattr(run_tests.os, "geteuid", lambda: 0)

    def run(*arguments, failing=""):
        monkeypatch.setenv("FAILING", failing)
        options = run_tests.parse(list(arguments))
        reports = [run_tests.Report(name, tmp_path) for name in run_tests.SUITES if name in options.suite]
        try:
            run_tests.run_suites(reports, options)
        except KeyboardInterrupt:
            assert run.interrupted
        failed = {report.suite: report.failures for report in reports if report.failures}
        run.passed = {report.suite: report.passed for report in reports}
        called = (tmp_path / "called").read_text().replace(f"{tmp_path}/", "")
        return failed, [line.strip() for line in called.splitlines()]

    run.interrupted, run.beside = None, ""
    return run


def test_hosts_come_up_meanwhile_and_are_complete_where_the_cores_are_idle(run):
    failed, called = run("--suite", "lint", "unit", "states", "browser", "cluster")
    assert failed == {}
    assert called == [HOSTS_OF_THE_CLUSTER, "lint", "unit", "states", CLUSTER, "browser", "cluster", "down"]


def test_the_host_alone_is_tested_beside_the_cluster(run, capfd):
    failed, called = run()
    assert failed == {}
    assert called[:6] == [HOSTS_OF_THE_CLUSTER, "lint", "unit", "states", CLUSTER, "browser"]
    assert called[6] == CLEARED
    # In whichever order.
    assert sorted(called[7:]) == sorted([INFRA_BESIDE, "cluster", "down"])
    assert "this is told" in capfd.readouterr().out
    assert run.passed["infra"] == 3


def test_what_fails_beside_fails_the_run(run):
    run.beside = "--fail"
    failed, _ = run("--suite", "cluster", "infra")
    assert (failed, run.passed["infra"]) == ({"infra": ["x::lab/up"]}, 2)


def test_states_that_could_not_be_applied_meanwhile_fail_the_suite_and_are_not_tried_again(run, capfd):
    failed, called = run("--suite", "browser", "infra", failing=HOST_ALONE)
    assert called == [HOST_ALONE, "browser", "down"]
    (told, _) = failed["infra"]
    assert (list(failed), told) == (["infra"], "lab/up single --os debian-13, begun with an earlier suite ended with 1")
    assert "it cannot be" in capfd.readouterr().out


def test_hosts_that_could_not_be_made_meanwhile_are_the_next_lab_ups_to_tell_of(run):
    failed, called = run("--suite", "lint", "cluster", failing=HOSTS_OF_THE_CLUSTER)
    assert failed == {}
    assert called == [HOSTS_OF_THE_CLUSTER, "lint", CLUSTER, "cluster", "down"]


@pytest.mark.parametrize("suites", [["lint", "browser"], ["cluster"], ["infra"]], ids=" ".join)
def test_nothing_is_begun_where_nobody_needs_it_or_waits_anyway(run, suites):
    failed, called = run("--suite", *suites)
    assert failed == {}
    assert [line for line in called if line.startswith("up")] == [
        f"up {run_tests.TOPOLOGIES[name]} --os debian-13" for name in suites if name in run_tests.TOPOLOGIES
    ]


def test_a_lab_that_is_kept_is_in_the_way_of_the_next_until_its_suite(run):
    failed, called = run("--suite", "cluster", "infra", "--keep")
    assert failed == {}
    assert called == [CLUSTER, "cluster", "down", HOST_ALONE, "infra"]


def test_where_there_can_be_no_copy_one_suite_follows_the_other(run):
    run.beside = "--no-git"
    failed, called = run("--suite", "cluster", "infra")
    assert failed == {}
    assert called == [CLUSTER, CLEARED, "cluster", "down", HOST_ALONE, "infra", "down"]


def test_an_interruption_ends_what_runs_beside(run, tmp_path):
    run.interrupted, run.beside = "cluster", "--hang"
    failed, called = run("--suite", "cluster", "infra")
    assert failed == {"cluster": ["interrupted"], "infra": ["interrupted"]}
    # Its hosts first: the other lab's lab/down would wait for it.
    assert called[-2:] == [CLEARED, "down"]
    assert not (pathlib.Path("/proc") / (tmp_path / "pid").read_text()).exists()


@pytest.mark.parametrize("interrupted", ["lint", "browser"])
def test_after_an_interruption_nothing_is_left(run, interrupted):
    run.interrupted = interrupted
    failed, called = run("--suite", "lint", "browser", "cluster", "infra")
    assert failed == {interrupted: ["interrupted"]}
    assert called[-2:] == [interrupted, "down"]


def test_who_is_not_root_or_has_hosts_begins_nothing(run, monkeypatch, tmp_path):
    (tmp_path / "config").touch()
    run("--suite", "lint", "browser", "--ssh-config", str(tmp_path / "config"))
    monkeypatch.setattr(run_tests.os, "geteuid", lambda: 1000)
    _, called = run("--suite", "lint", "browser", "infra")
    assert "lint" in called
    assert HOST_ALONE not in called[: called.index("browser")]
