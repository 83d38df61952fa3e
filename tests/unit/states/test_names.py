"""What hosts are called: the block in /etc/hosts, and what is around it."""

import re
import subprocess
import sys

import jinja2
import pytest

from rendering import CLUSTER, SINGLE, STATES

SCRIPT, UNIT = "/usr/local/sbin/put-names", "/etc/systemd/system/names.service"
DEBIAN = "127.0.0.1 localhost\n127.0.1.1 web1\n"


def names(host):
    """``{name: address}`` of the block."""
    block = host.text(SCRIPT).partition('BLOCK = """\\\n')[2].partition('"""')[0]
    lines = [line.split() for line in block.splitlines() if not line.startswith("#")]
    return {name: address for address, *known in lines for name in known}


@pytest.fixture
def put_names(hosts, osfinger, tmp_path):
    """Run the script on a file of its own; return how it ended and what the file holds."""
    script, file = tmp_path / "put-names", tmp_path / "hosts"
    script.write_text(hosts(osfinger, "cluster-web1").text(SCRIPT))

    def run(before, *options):
        file.write_text(before)
        done = subprocess.run([sys.executable, script, *options, file], capture_output=True, text=True, check=False)
        assert done.stderr == ""
        return done.returncode, file.read_text()

    return run


def test_every_host_has_a_name_of_its_own_and_the_service_one_more(hosts, osfinger):
    known = names(hosts(osfinger, "cluster-web1"))
    for name, host in CLUSTER["hosts"].items():
        assert known[name] == known[f"{name}.cluster.internal"] == host["address"]
    assert known["www.cluster.internal"] == CLUSTER["virtual_address"]
    assert len(known) == 2 * len(CLUSTER["hosts"]) + 1


def test_all_hosts_know_the_same_names(hosts, osfinger):
    assert names(hosts(osfinger, "cluster-lb1")) == names(hosts(osfinger, "cluster-data1"))


def test_service_of_one_load_balancer_has_its_address(hosts, osfinger):
    address = SINGLE["hosts"]["single"]["address"]
    assert names(hosts(osfinger, "single"))["www.single.internal"] == address


def test_domain_service_and_further_names_are_those_of_pillar(hosts, osfinger):
    known = names(hosts(osfinger, "web1"))
    assert known["web2.site.example"] == "10.77.9.12"
    assert known["fibonacci.site.example"] == "10.77.9.10"
    assert known["printer.example"] == "192.0.2.9"


def test_the_block_is_put_at_the_end_and_the_rest_left_alone(put_names):
    _, after = put_names(DEBIAN)
    assert after.startswith(DEBIAN)
    assert re.search(r"^10\.77\.2\.31 data1\.cluster\.internal data1$", after, re.MULTILINE)
    assert put_names(after) == (0, after)


def test_a_block_of_before_is_replaced_wherever_it_stands(put_names):
    _, wanted = put_names(DEBIAN)
    first, *_, last = wanted.removeprefix(DEBIAN).splitlines()
    assert put_names(f"{first}\n192.0.2.1 no-longer-there\n{last}\n{DEBIAN}") == (0, wanted)


def test_a_last_line_without_an_end_stays_a_line(put_names):
    _, after = put_names(DEBIAN.rstrip("\n"))
    assert after.startswith(DEBIAN)


def test_check_tells_whether_the_names_are_there_and_writes_nothing(put_names):
    _, with_names = put_names(DEBIAN)
    assert put_names(DEBIAN, "--check") == (1, DEBIAN)
    assert put_names(with_names, "--check") == (0, with_names)
    moved = with_names.replace("10.77.2.31", "10.77.2.131")
    assert put_names(moved, "--check") == (1, moved)


def test_stopping_takes_the_names_away(put_names, hosts, osfinger):
    _, with_names = put_names(DEBIAN)
    assert put_names(with_names, "--remove") == (0, DEBIAN)
    assert f"ExecStop={SCRIPT} --remove\n" in hosts(osfinger, "single").text(UNIT)


def test_a_file_that_cannot_be_replaced_is_written_all_the_same(put_names, tmp_path):
    """In a container it is a mount: only its content can change."""
    (tmp_path / "hosts").touch()
    before = (tmp_path / "hosts").stat().st_ino
    put_names(DEBIAN)
    assert (tmp_path / "hosts").stat().st_ino == before


def test_the_name_of_the_service_must_not_be_a_hosts():
    def refuse(fault):
        raise ValueError(fault)

    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(STATES))  # noqa: S701
    settings = {"domain": "", "service": "web1", "more": {}}
    known = {"turnkey.settings": lambda formula: settings, "turnkey.addresses": lambda service: {"lb1": "10.77.2.11"}}
    with pytest.raises(ValueError, match="names:service: web1 is a host of the topology already"):
        templates.get_template("names/map.jinja").render(salt=known, pillar={"topology": CLUSTER}, **{"raise": refuse})
