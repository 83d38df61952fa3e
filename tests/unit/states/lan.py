"""Hosts on a network of their own, made of the kernel's namespaces: no root, and nothing of it is left behind.

`story` runs one of the functions below in a process that has such a network to itself.
"""

import contextlib
import ctypes
import errno
import json
import os
import pathlib
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time

CLONE_NEWNET = 0x40000000
# Generous: only what goes wrong waits for it.
DEADLINE = 60
# What the kernel says of a connection that was refused by a firewall; refused by nobody listening is open, and a fault.
DENIED = {errno.EHOSTUNREACH, errno.EACCES}
# With privileges of its own in a namespace of its own; as root also without, for where that is forbidden.
WAYS = (["unshare", "--user", "--net", "--keep-caps"], ["unshare", "--net"])
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"

NUMBERS = {"icmp": 1, "vrrp": 112}
# The question of ping, with its checksum: the kernel answers it by itself.
ECHO = b"\x08\x00\xf7\xff\x00\x00\x00\x00"

libc = ctypes.CDLL(None, use_errno=True)


def story(name, **arguments):
    """Return what the story returns, told in a namespace without a network."""
    environment = os.environ | {"PATH": PATH}
    assert shutil.which("nft", path=PATH), "there is no nft: the package nftables is missing"
    command = [*alone(), sys.executable, __file__, name]
    done = subprocess.run(
        command, input=json.dumps(arguments), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def alone():
    """Return what to put before a command that is to have a namespace, without a network, to itself."""
    environment = os.environ | {"PATH": PATH}
    way = next((way for way in WAYS if _succeeds([*way, "true"], environment)), None)
    assert way, "this machine lets nobody make a network namespace: see unshare(1), /proc/sys/user/max_net_namespaces"
    return way


def _succeeds(command, environment):
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0


# --- in the namespace -------------------------------------------------------------------------------------------------


def run(*command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}{text or ''}")
    return done.stdout


def switch(space):
    if libc.setns(space, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Lan:
    """Hosts by name, each with an address on one wire, its rules, and somebody who listens where it is asked for."""

    def __init__(self, hosts, rules=None, services=()):
        self.addresses = hosts
        self.echoes = []
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY)
        run("ip", "link", "add", "wire", "up", "type", "bridge")
        self.spaces = {name: self._make(f"port{number}", hosts[name]) for number, name in enumerate(hosts)}
        for name in hosts:
            for protocol, port in services:
                self.listen(name, protocol, port)
            if name in (rules or {}):
                assert self.load(name, rules[name]) == ""

    def _make(self, link, address):
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        space = os.open("/proc/self/ns/net", os.O_RDONLY)
        # ip knows a namespace by a process in it.
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as resident:
            switch(self.home)
            run("ip", "link", "add", link, "up", "master", "wire",
                "type", "veth", "peer", "name", "eth0", "netns", str(resident.pid))  # fmt: skip
        with self._inside(space):
            run("ip", "link", "set", "lo", "up")
            run("ip", "link", "set", "eth0", "up")
            prefix = f"{address}/64" if ":" in address else f"{address}/24"
            # No wait until nobody else has the address.
            run("ip", "address", "add", prefix, "dev", "eth0", *(["nodad"] if ":" in address else []))
        return space

    @contextlib.contextmanager
    def _inside(self, space):
        switch(space)
        try:
            yield
        finally:
            switch(self.home)

    def at(self, name):
        """Be that host: its sockets, its commands."""
        return self._inside(self.spaces[name])

    def load(self, name, rules):
        """Have nft load rules; return what it says against them."""
        with self.at(name):
            return subprocess.run(
                ["nft", "--file", "-"], input=rules, capture_output=True, text=True, check=False
            ).stderr

    def socket(self, name, protocol):
        """Return an unbound socket of a host."""
        family = socket.AF_INET6 if ":" in self.addresses[name] else socket.AF_INET
        kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}.get(protocol, socket.SOCK_RAW)
        with self.at(name):
            return socket.socket(family, kind, NUMBERS.get(protocol, 0))

    def listen(self, name, protocol, port):
        if protocol == "icmp":
            return None  # the kernel does
        server = self.socket(name, protocol)
        server.bind((self.addresses[name], port or 0))
        if protocol == "tcp":
            server.listen()
        self.echoes.append(server)
        return server

    def connect(self, source, target, port):
        """Return both ends of a connection."""
        server = self.listen(target, "tcp", port)
        caller = self.socket(source, "tcp")
        caller.settimeout(DEADLINE)
        caller.connect((self.addresses[target], port))
        self.echoes.remove(server)
        callee = server.accept()[0]
        callee.settimeout(DEADLINE)
        return caller, callee

    def knock(self, source, target, protocol, port, watched=None):
        """Return what comes of a first packet: ``open``, ``denied`` (and told so) or ``silence`` (and dropped)."""
        watched = watched or target
        before = self.dropped(watched)
        with self.socket(source, protocol) as caller:
            caller.setblocking(False)
            caller.bind((self.addresses[source], 0))
            fault = caller.connect_ex((self.addresses[target], port or 0))
            if protocol != "tcp":
                caller.send(ECHO if protocol == "icmp" else b"?")
            until = time.monotonic() + DEADLINE
            while time.monotonic() < until:
                self._echo()
                readable, writable, _ = select.select([caller], [caller] if protocol == "tcp" else [], [], 0.01)
                if readable or writable:
                    fault = caller.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if fault in DENIED:
                        return "denied"
                    return "open" if fault == 0 else os.strerror(fault)
                # Nobody says so where a packet was dropped, or where the kernel is tired of telling: its counters do.
                counted = self.dropped(watched)
                if counted["denied"] > before["denied"]:
                    return "silence"
                if counted["told"] > before["told"]:
                    return "denied"
        return f"nothing within {DEADLINE} s ({os.strerror(fault)})"

    def _echo(self):
        for server in select.select(self.echoes, [], [], 0)[0]:
            if server.type == socket.SOCK_STREAM:
                server.accept()[0].close()
            else:
                said, caller = server.recvfrom(1500)
                server.sendto(said[-1:], caller)

    def dropped(self, name):
        """Return how many packets a host's rules have denied so far: with a word to the sender, or without."""
        with self.at(name):
            rules = json.loads(run("nft", "--json", "list", "ruleset"))["nftables"]
        found = {"told": 0, "denied": 0}
        for rule in (entry["rule"] for entry in rules if "rule" in entry):
            for part in rule["expr"]:
                if "counter" in part:
                    found["told" if "reject" in rule["expr"][-1] else "denied"] += part["counter"]["packets"]
        return found


# --- the stories ------------------------------------------------------------------------------------------------------


# Where there are no ports, who once knocked at a host would take its knocks for answers, and let them in.
NO_MEMORY = """
table inet no_memory {
    chain out {
        type filter hook output priority raw;
        meta l4proto 112 notrack
    }
}
"""


def every_host_to_every_host(hosts, rules, services):
    """``{source: {target: {"tcp 80": what came of it}}}``"""
    lan = Lan(hosts, rules, services)
    for name in rules:
        assert lan.load(name, NO_MEMORY) == ""
    return {
        source: {
            target: {f"{protocol} {port}": lan.knock(source, target, protocol, port) for protocol, port in services}
            for target in rules
            if target != source
        }
        for source in hosts
    }


def many_knocks(hosts, rules, source, target, port, times):
    """What comes of one connection after the other."""
    lan = Lan(hosts, rules, [("tcp", port)])
    return [lan.knock(source, target, "tcp", port) for _ in range(times)]


def through_another(hosts, rules, router, port):
    """What comes of a knock on the last host by way of one that is no router of its own will."""
    lan = Lan(hosts, rules, [("tcp", port)])
    source, *_, target = hosts
    with lan.at(router):
        for name, value in {"ip_forward": "1", "conf/all/send_redirects": "0", "conf/eth0/send_redirects": "0"}.items():
            pathlib.Path("/proc/sys/net/ipv4", name).write_text(value)
    with lan.at(source):
        run("ip", "route", "add", f"{hosts[target]}/32", "via", hosts[router])
    return lan.knock(source, target, "tcp", port, watched=router)


def loaded_in_turn(hosts, target, texts, services, caller=None):
    """What nft says to one text after the other, and after each: what is open to each other host, and all rules.

    *caller* is a host that opens a connection before it all begins, to the port that nobody else asks about; whether it
    still carries is told too.
    """
    lan = Lan(hosts, {}, services)
    ends = lan.connect(caller, target, 22) if caller else None
    told = []
    for text in texts:
        complaint = lan.load(target, text)
        others = [name for name in hosts if name != target]
        with lan.at(target):
            ruleset = run("nft", "--stateless", "list", "ruleset")
        told.append(
            {
                "complaint": complaint,
                "ruleset": ruleset,
                "knocks": {
                    name: {f"{protocol} {port}": lan.knock(name, target, protocol, port) for protocol, port in services}
                    for name in others
                },
                "carries": carries(*ends) if ends else None,
            }
        )
    return told


def carries(caller, callee):
    """Whether a word arrives in either direction."""
    for speaker, hearer in ((caller, callee), (callee, caller)):
        speaker.sendall(b"word")
        if hearer.recv(4) != b"word":
            return False
    return True


def checked(hosts, script, text, port):
    """How a script ends that is given a file of rules, where somebody listens on a port; and the rules afterwards."""
    lan = Lan(hosts, {}, [("tcp", port)])
    with lan.at(next(iter(hosts))), tempfile.NamedTemporaryFile("w") as file:
        file.write(text)
        file.flush()
        done = subprocess.run(["bash", script, file.name], capture_output=True, text=True, check=False)
        return [done.returncode, done.stderr, run("nft", "list", "ruleset")]


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](**json.load(sys.stdin))))
