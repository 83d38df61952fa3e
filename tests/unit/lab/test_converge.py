"""lab/converge with a pretended Vagrant and ssh: what it asks of which host, how many at a time, and what it says."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
CLUSTER = yaml.safe_load((ROOT / "salt" / "pillar" / "topology" / "cluster.sls").read_text())["topology"]["hosts"]

# What a host answers. Arguments: -F FILE -o … -o … HOST "sudo -- COMMAND"
SSH = r"""#!/bin/bash
set -euo pipefail
host=${@: -2:1} command=${@: -1}
echo "$host ${command#sudo -- }" >>"$STATE/asked"
case $command in
    *' fingerprint --master') echo FINGERPRINT ;;
    *' fingerprint') echo "$host fingerprint-of-$host" ;;
    *' secrets '*) echo "secrets of ${command##* }" ;;
    *' install '*) cat >"$STATE/secrets-of-$host" ;;
    *' accept '*) cat >"$STATE/accepted" ;;
    */lab/apply)
        {
            flock 8
            echo "$host" >>"$STATE/running"
            wc -l <"$STATE/running" >>"$STATE/together"
        } 8>"$STATE/lock"
        # Goes on only once as many as may are seen together, so that too few would not end, and too many be seen.
        until grep -qx "$TOGETHER" "$STATE/together"; do read -rt 0.05 <> <(:) || true; done
        echo "states of $host"
        {
            flock 8
            sed -i "/^$host$/d" "$STATE/running"
        } 8>"$STATE/lock"
        [[ " $FAILING " != *" $host "* ]] || { echo 'a state failed' >&2; exit 2; }
        ;;
esac
"""


@pytest.fixture
def converge(tmp_path):
    """A function that runs the script in a copy of the repository; it returns what was said and what was asked."""
    tree, tools, state = tmp_path / "tree", tmp_path / "tools", tmp_path / "state"
    shutil.copytree(ROOT / "lab", tree / "lab")
    shutil.copytree(ROOT / "salt" / "pillar" / "topology", tree / "salt" / "pillar" / "topology")
    tools.mkdir()
    for name, text in {"ssh": SSH, "vagrant": '#!/bin/sh\necho "$@" >"$STATE/vagrant"\n'}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    def converge(*arguments, together=1, failing=()):
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir()
        environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "STATE": str(state)}
        environment |= {"TOGETHER": str(together), "FAILING": " ".join(failing)}
        command = [tree / "lab" / "converge", *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL
        )
        asked = (state / "asked").read_text().splitlines() if (state / "asked").exists() else []
        return done, [tuple(line.split(" ", 1)) for line in asked]

    converge.state = state
    return converge


def asked_of(asked, what):
    return sorted(host for host, command in asked if what in command)


def test_every_host_is_bootstrapped_introduced_and_applied_once(converge):
    done, asked = converge("cluster")
    assert done.returncode == 0, done.stdout + done.stderr
    for what in ("/salt/bootstrap.sh --topology cluster --id ", "trust FINGERPRINT", "/lab/apply"):
        assert asked_of(asked, what) == sorted(CLUSTER), what
    order = [command.split()[0].rpartition("/")[2] for _, command in asked]
    assert order.index("apply") > max(index for index, name in enumerate(order) if name in ("bootstrap.sh", "install"))
    assert asked[-1] == ("monitor", "/srv/turnkey/salt/keyring.py accept --patience 300")


def test_every_host_but_the_master_is_given_its_own_secrets(converge):
    done, _ = converge("cluster")
    given = {path.name: path.read_text() for path in converge.state.glob("secrets-of-*")}
    assert given == {f"secrets-of-{name}": f"secrets of {name}\n" for name in CLUSTER if name != "monitor"}
    assert "secrets of" not in done.stdout + done.stderr


def test_the_master_accepts_the_fingerprints_that_the_hosts_told(converge):
    converge("cluster")
    accepted = sorted((converge.state / "accepted").read_text().splitlines())
    assert accepted == sorted(f"{name} fingerprint-of-{name}" for name in CLUSTER)


def test_hosts_apply_together_but_not_more_than_allowed(converge):
    done, _ = converge("--jobs", "3", "cluster", together=3)
    assert done.returncode == 0, done.stdout + done.stderr
    assert max(map(int, (converge.state / "together").read_text().split())) == 3


@pytest.mark.parametrize("named", [[], ["web1", "monitor", "data3", "data1"]], ids=["all", "named"])
def test_data_hosts_are_applied_before_those_who_wait_for_them_and_then_the_longest(converge, named):
    done, asked = converge("--jobs", "1", "cluster", *named)
    assert done.returncode == 0, done.stdout + done.stderr
    applied = [host for host, command in asked if "/lab/apply" in command]
    wanted = [name for name in CLUSTER if name in (named or CLUSTER)]
    assert applied == sorted(
        wanted, key=lambda name: [role not in CLUSTER[name]["roles"] for role in ("data", "monitor", "web")]
    )


def test_each_line_of_a_host_begins_with_its_name(converge):
    done, _ = converge("cluster")
    width = max(map(len, CLUSTER))
    for name in CLUSTER:
        assert f"{name:<{width}} | states of {name}\n" in done.stdout


def test_at_the_end_it_says_how_long_and_how_much_it_took(converge):
    done, _ = converge("cluster")
    wanted = r"Converged 8 hosts in \d+:\d\d, \d+ at a time; memory of this machine: \d+ MB before, at most \d+ MB"
    assert re.search(wanted, done.stdout.splitlines()[-1])


def test_a_host_that_fails_is_named_and_the_others_are_applied_all_the_same(converge):
    done, asked = converge("cluster", failing=["web1", "data2"])
    assert done.returncode == 1
    assert "'apply' failed on data2 web1" in done.stderr
    assert "web1    | a state failed" in done.stdout
    assert asked_of(asked, "/lab/apply") == sorted(CLUSTER)
    assert asked_of(asked, "accept") == []


def test_named_hosts_are_applied_and_no_other(converge):
    done, asked = converge("cluster", "web1")
    assert done.returncode == 0, done.stderr
    assert {host for host, _ in asked} == {"web1", "monitor"}
    assert asked_of(asked, "/lab/apply") == ["web1"]
    assert (converge.state / "accepted").read_text() == "web1 fingerprint-of-web1\n"


def test_one_host_alone_has_neither_master_nor_prefix(converge):
    done, asked = converge("single")
    assert done.returncode == 0, done.stderr
    assert [command.split()[0] for _, command in asked] == ["/srv/turnkey/salt/bootstrap.sh", "/srv/turnkey/lab/apply"]
    assert "states of single" in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "there is no topology 'nowhere'"),
        (["cluster", "web9"], "topology cluster has no host 'web9'; it has: data1 data2 "),
        (["--jobs", "0", "cluster"], "--jobs is a number, not '0'"),
        (["--speed"], "unknown option '--speed'"),
    ],
)
def test_a_wrong_argument_is_named_and_no_host_is_asked(converge, arguments, says):
    done, asked = converge(*arguments)
    assert (done.returncode, asked) == (2, [])
    assert says in done.stderr
