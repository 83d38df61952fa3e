"""Whom a clock follows: real chronyds with the rendered files, on loopback and without privileges; no clock is set."""

import contextlib
import datetime
import os
import pathlib
import pwd
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time

import jinja2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from salt.exceptions import CommandExecutionError

from rendering import CLUSTER, SECRETS, SINGLE, STATES
from test_settings import refusal, settings

PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
CONF, KEYS, AUTHORITIES = "/etc/chrony/chrony.conf", "/etc/chrony/chrony.keys", "/etc/chrony/authorities.pem"
# Generous: only what goes wrong waits for it.
DEADLINE = 60
DAY = datetime.timedelta(days=1)
PORTS_AND_SOURCES = {"pool", "server", "peer", "port", "bindcmdaddress", "local"}
# NTP counts seconds from 1900 on, and asks in 48 octets; more is proof.
SINCE_1900, PLAIN = 2_208_988_800, 48


def only(text, start):
    """The lines of a configuration that begin with one of the words *start*."""
    return [line for line in text.splitlines() if line.split(" ")[0] in start]


# --- what the configuration says --------------------------------------------------------------------------------------


def test_sources_prove_themselves_where_pillar_says_so(hosts, osfinger):
    text = hosts(osfinger, "web1").text(CONF)
    assert only(text, {"pool", "server", "peer"}) == [
        "pool pool.example iburst nts",
        "server clock.example iburst",
        "server time.example iburst port 1123 nts ntsport 14460",
        *(f"server 10.77.9.{number} iburst key 1" for number in (10, 12, 13, 14)),
        "peer 10.77.1.9 iburst key 1",
    ]
    assert only(text, {"authselectmode", "nosystemcert", "nocerttimecheck", "ntstrustedcerts"}) == [
        "authselectmode require",
        f"ntstrustedcerts {AUTHORITIES}",
        "nosystemcert",
        "nocerttimecheck 1",
    ]
    x509.load_pem_x509_certificate(hosts(osfinger, "web1").text(AUTHORITIES).encode())


def test_without_a_word_in_pillar_any_source_counts_and_the_system_says_whom_to_trust(hosts, osfinger):
    text = hosts(osfinger, "cluster-web1").text(CONF)
    assert only(text, {"authselectmode", "nosystemcert", "nocerttimecheck", "ntstrustedcerts"}) == [
        "authselectmode ignore"
    ]


def test_key_is_for_hosts_that_ask_each_other_and_for_no_other_eyes(hosts, osfinger):
    together, alone = hosts(osfinger, "cluster-web1"), hosts(osfinger, "single")
    assert only(together.text(KEYS), {"1"}) == [f"1 SHA256 ASCII:{SECRETS['ntp']['key']}"]
    assert SECRETS["ntp"]["key"] not in alone.text(KEYS)
    assert (together.files[KEYS]["mode"], together.files[KEYS]["show_changes"]) == ("0640", False)
    assert only(together.text(CONF), {"keyfile"}) == [f"keyfile {KEYS}"]
    assert only(alone.text(CONF), {"keyfile"}) == []


@pytest.mark.parametrize(
    ("path", "broken"), [(KEYS, ("1 SHA256 ", "1 SHA265 ")), (AUTHORITIES, ("\nM", "\n!"))], ids=["keys", "authorities"]
)
def test_what_chronyd_would_only_complain_of_does_not_get_there(hosts, tmp_path, path, broken):
    host, file = hosts("Debian-13", "web1"), tmp_path / "draft"
    for text, good in ((host.text(path), True), (host.text(path).replace(*broken), False)):
        file.write_text(text)
        command = f"{host.files[path]['check_cmd']} {file}"
        done = subprocess.run(command, shell=True, capture_output=True, check=False)  # noqa: S602  as Salt does
        assert (done.returncode == 0) == good


# --- what is refused --------------------------------------------------------------------------------------------------


def rendered_map(topology, name, pillar, **grains):
    """What the formula's map alone has for *pillar*, on a host that says *grains* of itself."""

    def fail(message):
        raise CommandExecutionError(message)

    known = {
        "turnkey.settings": lambda formula: settings(formula, {formula: pillar}),
        "turnkey.addresses": lambda _: {host: facts["address"] for host, facts in topology["hosts"].items()},
    }
    environment = jinja2.Environment(extensions=["jinja2.ext.do"])  # noqa: S701  no HTML
    template = environment.from_string((STATES / "ntp" / "map.jinja").read_text())
    roles = topology["hosts"][name]["roles"]
    grains = {"id": name, "osmajorrelease": 13} | grains
    return template.make_module({"salt": known, "pillar": {"roles": roles}, "grains": grains, "raise": fail})


def test_hosts_that_ask_each_other_need_a_key():
    with pytest.raises(CommandExecutionError, match="nothing applied: ntp:key: is required"):
        rendered_map(CLUSTER, "web1", {})
    rendered_map(SINGLE, "single", {})


@pytest.mark.parametrize(
    ("grains", "own"),
    [
        # What Salt says of a machine, virtual or not,
        ({"virtual": "physical"}, True),
        ({"virtual": "kvm"}, True),
        ({"virtual": "Nitro", "virtual_subtype": "Amazon EC2"}, True),
        ({"virtual": "xen", "virtual_subtype": "Xen PV DomU"}, True),
        # of a host of OpenVZ's containers,
        ({"virtual": "openvzhn"}, True),
        # and of a container.
        ({"virtual": "container"}, False),
        ({"virtual": "container", "virtual_subtype": "Docker"}, False),
        ({"virtual": "container", "virtual_subtype": "LXC"}, False),
        ({"virtual": "container", "virtual_subtype": "Podman"}, False),
        ({"virtual": "systemd-nspawn"}, False),
        ({"virtual": "openvzve"}, False),
        ({"virtual": "virtual", "virtual_subtype": "kubernetes"}, False),
        ({"virtual": "kvm", "virtual_subtype": "libpod"}, False),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
def test_a_clock_that_is_another_hosts_is_left_alone(grains, own):
    assert rendered_map(SINGLE, "single", {}, **grains).adjusts_clock == own
    assert rendered_map(SINGLE, "single", {"adjust_clock": True}, **grains).adjusts_clock
    assert not rendered_map(SINGLE, "single", {"adjust_clock": False}, **grains).adjusts_clock


def test_leap_seconds_come_from_what_the_os_has(hosts):
    assert only(hosts("Debian-12", "single").text(CONF), {"leapsectz", "leapseclist"}) == ["leapsectz right/UTC"]
    assert only(hosts("Debian-13", "single").text(CONF), {"leapsectz", "leapseclist"}) == [
        "leapseclist /usr/share/zoneinfo/leap-seconds.list"
    ]


def test_proof_is_not_required_where_nobody_can_give_any():
    for sources in ({}, {"servers": ["time.example", {"host": "time.example", "nts": False}]}):
        with pytest.raises(CommandExecutionError, match="nothing applied: ntp:authselectmode: require, and no source"):
            rendered_map(SINGLE, "single", {"authselectmode": "require", **sources})
    for sources in ("pools", "servers"):
        proven = [{"host": "time.example", "nts": True}]
        rendered_map(SINGLE, "single", {"authselectmode": "require", sources: proven})
    rendered_map(CLUSTER, "web1", {"authselectmode": "require", "key": SECRETS["ntp"]["key"]})


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
def test_certificate_is_for_a_name_and_not_for_an_address(address):
    fault = refusal("ntp", {"ntp": {"servers": [{"host": address, "nts": True}]}})
    assert f" ntp:servers:0:host: '{address}' does not match" in fault
    assert settings("ntp", {"ntp": {"servers": [{"host": address, "nts": False}]}})


def test_peers_have_to_be_let_in():
    assert " ntp:allow: [] should be non-empty" in refusal("ntp", {"ntp": {"peers": ["192.0.2.7"]}})


# --- what chronyd makes of it -----------------------------------------------------------------------------------------


def certificate(name, key, authority, authority_key):
    now = datetime.datetime.now(datetime.UTC)
    to, by = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, authority))
    signed = (
        x509.CertificateBuilder()
        .subject_name(to)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.BasicConstraints(ca=name == authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as asking:
        asking.bind(("127.0.0.1", 0))
        return asking.getsockname()[1]


class Clock:
    """A chronyd of our own: it looks at the time, and leaves it as it is."""

    def __init__(self, folder, text):
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        self.asked_at = str(free_port(socket.SOCK_DGRAM))
        self._log = folder / "log"
        (folder / "conf").write_text(
            f"{text}\ncmdport {self.asked_at}\nbindcmdaddress {folder}/socket\npidfile {folder}/pid\n"
        )

    def __enter__(self):
        chronyd = shutil.which("chronyd", path=PATH)
        assert chronyd, "there is no chronyd: the package chrony is missing"
        # -x: the clock is not touched. -U: it needs no root for that.
        me = pwd.getpwuid(os.geteuid()).pw_name
        command = [chronyd, "-d", "-x", "-U", "-F", "0", "-u", me, "-f", self._folder / "conf"]
        with self._log.open("w") as log:
            self._daemon = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            self.until(lambda: self.tracking() is not None)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._daemon.terminate()
        self._daemon.wait(timeout=DEADLINE)

    def log(self):
        return self._log.read_text()

    def ask(self, *question):
        return subprocess.run(["chronyc", "-n", *question], capture_output=True, text=True, check=False)

    def tracking(self):
        """How the clock is, as any user of a host may ask it on loopback; None while nobody answers."""
        done = self.ask("-c", "-h", "127.0.0.1", "-p", self.asked_at, "tracking")
        return None if done.returncode else done.stdout.strip().split(",")

    def follows_somebody(self):
        return self.tracking()[-1] == "Normal"

    def answers(self):
        """How many answers came from its sources, whether or not they were of any use."""
        told = self.ask("-h", f"{self._folder}/socket", "ntpdata").stdout
        return sum(map(int, re.findall(r"^Total RX +: (\d+)$", told, re.MULTILINE)))

    def until(self, condition):
        until = time.monotonic() + DEADLINE
        while not condition():
            assert self._daemon.poll() is None, self.log()
            assert time.monotonic() < until, f"{self.tracking()}\n{self.log()}"
            time.sleep(0.1)


def placed(host, folder, server):
    """The configuration of *host* with its files in *folder* and *server*, a line, for its only source."""
    folder.mkdir(mode=0o700)
    for path in (KEYS, AUTHORITIES):
        place = folder / pathlib.Path(path).name
        place.touch(mode=0o600)
        place.write_text(host.text(path))
    lines = [
        line.replace("/etc/chrony", str(folder)).replace("/var/lib/chrony", str(folder))
        for line in host.text(CONF).splitlines()
        # Its own ports and sources are not free, or not here; and this machine's chronyd may be older than the host's.
        if line.split(" ")[0] not in {*PORTS_AND_SOURCES, "logdir", "rtcsync", "leapseclist"}
    ]
    return "\n".join([*lines, server])


@contextlib.contextmanager
def time_server(folder, more):
    """Serve this machine's time; yields the port where it is asked."""
    port = free_port(socket.SOCK_DGRAM)
    with Clock(folder, f"local stratum 5\nallow 127.0.0.1\nbindaddress 127.0.0.1\nport {port}\n{more}"):
        yield port


@pytest.fixture
def folder():
    # Not pytest's own: the path of a socket may have 107 letters.
    with tempfile.TemporaryDirectory(prefix="clock-") as place:
        yield pathlib.Path(place)


@pytest.mark.parametrize("forged", [False, True], ids=["proven", "forged"])
def test_nts_server_is_followed_if_a_trusted_authority_knows_it(hosts, folder, forged):
    """A forger has a certificate with the right name, but not of the right authority."""
    host = hosts("Debian-13", "web1")
    trusted, forger, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    (folder / "certificate").write_text(certificate("localhost", own, "authority", forger if forged else trusted))
    (folder / "key").write_bytes(
        own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "key").chmod(0o600)
    nts_port = free_port(socket.SOCK_STREAM)
    more = f"ntsserverkey {folder}/key\nntsservercert {folder}/certificate\nntsport {nts_port}\n"
    with time_server(folder / "server", more) as port:
        (line,) = (line for line in host.text(CONF).splitlines() if line.startswith("server time.example "))
        for there, here in (("time.example", "localhost"), ("1123", f"{port}"), ("14460", f"{nts_port}")):
            line = line.replace(there, here)
        text = placed(host, folder / "client", line)
        (folder / "client" / "authorities.pem").write_text(certificate("authority", trusted, "authority", trusted))
        with Clock(folder / "client", text) as client:
            if forged:
                client.until(lambda: "certificate" in client.log() and "localhost" in client.log())
                assert not client.follows_somebody()
            else:
                client.until(client.follows_somebody)


@contextlib.contextmanager
def forger():
    """Answer as a time server would, with what passes for a proof to those who do not check it; yields its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve():
            while True:
                asked, client = server.recvfrom(1024)
                if not asked:
                    return
                now = struct.pack("!II", SINCE_1900 + int(time.time()), int(time.time() % 1 * 2**32))
                head = struct.pack("!BBbbIII", 4 << 3 | 4, 5, 6, -20, 0, 16, 0x7F7F0101)
                proof = struct.pack("!I20s", 1, b"forged") if len(asked) > PLAIN else b""
                server.sendto(head + now + asked[40:48] + now + now + proof, client)

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.sendto(b"", server.getsockname())
            serving.join()


@contextlib.contextmanager
def source(kind, folder, keys):
    if kind == "forger":
        with forger() as port:
            yield port
    else:
        (folder / "keys").write_text(keys)
        (folder / "keys").chmod(0o600)
        with time_server(folder / "server", f"keyfile {folder}/keys\n") as port:
            yield port


@pytest.mark.parametrize(
    ("kind", "asks_for_proof", "proof_is_required", "followed"),
    [
        pytest.param("own", True, True, True, id="host-with-the-key"),
        pytest.param("own", False, True, False, id="host-not-asked-for-proof"),
        pytest.param("forger", True, True, False, id="forger"),
        pytest.param("forger", True, False, False, id="forger-where-others-need-no-proof"),
        # So that it is the proof that the forger lacks.
        pytest.param("forger", False, False, True, id="forger-not-asked-for-proof"),
    ],
)
def test_host_of_the_topology_is_followed_if_it_has_the_key(
    hosts, folder, kind, asks_for_proof, proof_is_required, followed
):
    host = hosts("Debian-13", "web1")
    (line,) = (line for line in host.text(CONF).splitlines() if line.startswith("server 10.77.9.12 "))
    line = line.replace("10.77.9.12", "127.0.0.1")
    if not asks_for_proof:
        line = line.removesuffix(" key 1")
    with source(kind, folder, hosts("Debian-13", "web2").text(KEYS)) as port:
        text = placed(host, folder / "client", f"{line} port {port}")
        if not proof_is_required:
            text = text.replace("authselectmode require", "authselectmode ignore")
        with Clock(folder / "client", text) as client:
            if followed:
                client.until(client.follows_somebody)
            else:
                # As many as another is followed for.
                client.until(lambda: client.answers() >= 4)
                assert not client.follows_somebody()
