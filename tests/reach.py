"""Who may reach what, worked out from the topology and from what each formula says under ``serves``.

What tests expect of firewalls, wherever they knock. It reads the facts that the states read, and shares no code with
them.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import yaml

STATES = pathlib.Path(__file__).resolve().parents[1] / "salt" / "states"
# A host that the topology does not know.
STRANGER = "a stranger"


@dataclasses.dataclass(frozen=True)
class Door:
    """Where one may knock."""

    service: str
    protocol: str
    port: int | None = None

    def __str__(self) -> str:
        return f"{self.protocol} {self.port}"


def serves() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each service of each formula: its formula, its key and what is said of it."""
    for path in sorted(STATES.glob("*/defaults.yaml")):
        for key, facts in (yaml.safe_load(path.read_text()).get("serves") or {}).items():
            yield path.parent.name, key, facts


def doors(settings: Callable[[str], dict[str, Any]]) -> dict[Door, dict[str, Any]]:
    """Every door there is on any host, with what is said of it; *settings* returns those of a formula."""
    found = {Door("ssh", "tcp", settings("firewall")["ssh_port"]): {"by": "hosts", "to": "anyone"}}
    for formula, key, facts in serves():
        port = None if facts["protocol"] == "vrrp" else settings(formula)[key]
        found[Door(f"{formula}:{key}", facts["protocol"], port)] = facts
    return found


def may_reach(topology: dict[str, Any], settings: Callable[[str], dict[str, Any]]) -> dict[tuple[str, str], set[Door]]:
    """Return for each ``(source, target)`` the doors of the target that are open to the source.

    Targets are the hosts of the topology, sources these and `STRANGER`. Of what a site may add (networks, rules of its
    own) nothing is known here.
    """
    hosts = topology["hosts"]
    known = doors(settings)

    def has(name: str, roles: list[str] | str) -> bool:
        return roles == "anyone" or (
            name != STRANGER and (roles == "hosts" or not set(roles).isdisjoint(hosts[name]["roles"]))
        )

    reach: dict[tuple[str, str], set[Door]] = {}
    for target in hosts:
        for source in [*hosts, STRANGER]:
            if source != target:
                reach[source, target] = {
                    door
                    for door, facts in known.items()
                    if has(target, facts["by"])
                    and has(source, facts["to"])
                    and (facts.get("alone", True) or sum(has(name, facts["by"]) for name in hosts) > 1)
                }
    return reach
