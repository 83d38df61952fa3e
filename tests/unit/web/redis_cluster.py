"""A Redis with two replicas, and a Sentinel beside each: all of our own, on loopback, to kill and to halt."""

import shutil
import socket
import subprocess
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any
from urllib.parse import quote

import redis

from service import until

NAME = "turnkey"
PASSWORD = "swordfish/@:"  # noqa: S105 - of tests; what a URL has to escape
NUMBERS = range(3)


class RedisCluster:
    """Three data hosts as salt/states has them, with shorter patience: 0 is the primary at first."""

    def __init__(self, folder: Path) -> None:
        self._binary = shutil.which("redis-server")
        assert self._binary, "redis-server is missing: install the package redis-server"
        self._folder = folder
        self.ports = [_free_port() for _ in NUMBERS]
        self.sentinel_ports = [_free_port() for _ in NUMBERS]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._acl, self._static = folder / "users.acl", folder / "static-sentinel.conf"
        # Once: a server that starts while they are written would know no user.
        self._acl.write_text(f"user default off\nuser app on >{PASSWORD} ~* &* +@all\n")
        lines = [
            "sentinel-user app",
            f"sentinel-pass {PASSWORD}",
            f"auth-user {NAME} app",
            f"auth-pass {NAME} {PASSWORD}",
            f"down-after-milliseconds {NAME} 500",
            f"failover-timeout {NAME} 3000",
        ]
        self._static.write_text("".join(f"sentinel {line}\n" for line in lines))

    def begin(self) -> None:
        """Start all of them, and wait until they agree."""
        for number in NUMBERS:
            self._write(f"redis{number}", f"# {number}" if number == 0 else f"replicaof 127.0.0.1 {self.ports[0]}")
            self.start(f"redis{number}")
        until(lambda: self.answers(0) and self.info(0)["connected_slaves"] == len(NUMBERS) - 1)
        for number in NUMBERS:
            self._write(f"sentinel{number}", f"sentinel monitor {NAME} 127.0.0.1 {self.ports[0]} 2")
            self.start(f"sentinel{number}")
        self.settled()

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        return f"sentinel://app:{quote(PASSWORD, safe='')}@{places}/{NAME}/0"

    def start(self, name: str) -> None:
        number = int(name[-1])
        common = ["--bind", "127.0.0.1", "--dir", str(self._folder), "--logfile", str(self._folder / f"{name}.log")]
        common += ["--aclfile", str(self._acl)]
        if name.startswith("redis"):
            own = ["--port", str(self.ports[number]), "--save", "", "--repl-diskless-sync-delay", "0"]
            own += ["--masteruser", "app", "--masterauth", PASSWORD]
            own += ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "2"]
        else:
            own = ["--sentinel", "--port", str(self.sentinel_ports[number])]
            own += ["--include", str(self._static)]
        command = [str(self._binary), str(self._folder / f"{name}.conf"), *own, *common]
        self.processes[name] = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def _write(self, name: str, line: str) -> None:
        (self._folder / f"{name}.conf").write_text(f"{line}\n")

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.send_signal(SIGKILL)
        process.wait(10)

    def halt(self, *names: str) -> None:
        for name in names:
            self.processes[name].send_signal(SIGSTOP)

    def go_on(self) -> None:
        for process in self.processes.values():
            process.send_signal(SIGCONT)

    def end(self) -> None:
        for name in list(self.processes):
            self.kill(name)

    def client(self, number: int) -> "redis.Redis":
        return redis.Redis(port=self.ports[number], username="app", password=PASSWORD, socket_timeout=5)

    def info(self, number: int) -> dict[str, Any]:
        with self.client(number) as client:
            told: dict[str, Any] = client.info("replication")
        return told

    def answers(self, number: int) -> bool:
        try:
            return bool(self.info(number))
        except redis.RedisError:
            return False

    def ask_sentinel(self, number: int, command: str) -> Any:
        port = self.sentinel_ports[number]
        with redis.Redis(port=port, username="app", password=PASSWORD, socket_timeout=5) as client:
            return client.execute_command(f"SENTINEL {command}", NAME)

    def primary(self) -> int:
        """Who is primary, as most Sentinels say."""
        told = []
        for number in NUMBERS:
            try:
                told.append(self.ask_sentinel(number, "GET-MASTER-ADDR-BY-NAME"))
            except redis.RedisError:
                continue
        for address in told:
            if told.count(address) >= 2 and address:
                return self.ports.index(address[1])
        return -1

    def settled(self) -> int:
        """Return the primary once all agree, each of the others follows it, and each Sentinel knows all."""

        def agreed() -> bool:
            number = self.primary()
            try:
                if number < 0 or self.info(number).get("min_slaves_good_slaves") != 2:
                    return False
                states = [self.ask_sentinel(other, "MASTER") for other in NUMBERS]
            except redis.RedisError:
                return False
            return all(
                state["port"] == self.ports[number]
                and state["is_master"]
                and not state["is_sdown"]
                and state["num-slaves"] == 2
                and state["num-other-sentinels"] == 2
                for state in states
            )

        until(agreed)
        return self.primary()

    def restored(self) -> int:
        """As `settled`, after whatever was killed or halted is back."""
        self.go_on()
        for name in [f"{kind}{number}" for kind in ("redis", "sentinel") for number in NUMBERS]:
            if name not in self.processes:
                self.start(name)
        until(lambda: self.primary() >= 0)
        primary = self.primary()
        for number in NUMBERS:
            until(lambda number=number: self.answers(number))
            if number != primary and self.info(number)["role"] == "master":
                # Sentinel would say so, in ten seconds.
                with self.client(number) as client:
                    client.replicaof("127.0.0.1", self.ports[primary])
        return self.settled()

    def failed_over(self, before: int) -> int:
        """Return the primary as soon as it is another than *before*."""
        until(lambda: self.primary() not in (-1, before))
        return self.primary()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
