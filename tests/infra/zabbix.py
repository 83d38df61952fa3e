"""Zabbix as the tests ask it: through its API, on the host that it runs on, by Zabbix's own client."""

import json
from typing import Any

from machine import REPOSITORY, SALT_PYTHON, Machine

# The password stays on the host and out of command lines.
ASK = """
import json, os, sys, yaml, zabbix_utils
url, secrets, method, parameters = sys.argv[1:]
os.environ["no_proxy"] = "*"
password = yaml.safe_load(open(secrets))["zabbix_server"]["password"]
api = zabbix_utils.ZabbixAPI(url=url, timeout=60)
api.login(user="Admin", password=password)
kind, _, function = method.partition(".")
asked = json.loads(parameters)
call = getattr(getattr(api, kind), function)
print(json.dumps(call(*asked) if isinstance(asked, list) else call(**asked)))
api.logout()
"""


class Zabbix:
    """The API of the Zabbix on *machine*."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    @property
    def url(self) -> str:
        settings = self.machine.settings("zabbix_frontend")
        address = self.machine.offers("zabbix_frontend:port")
        return f"http://{address}:{settings['port']}{settings['path']}/"

    def ask(self, method: str, *several: Any, **parameters: Any) -> Any:
        """Return what a method such as ``host.get`` answers."""
        asked = json.dumps(list(several) or parameters)
        secrets = f"{REPOSITORY}/salt/pillar/secrets.sls"
        return json.loads(self.machine.python(ASK, self.url, secrets, method, asked, interpreter=SALT_PYTHON))

    def history(self, host: Machine, key: str, since: int) -> list[float]:
        """Return what an item of a host was at each look since a moment, as Zabbix draws it."""
        (item,) = self.ask("item.get", output=["itemid", "value_type"], host=host.name, filter={"key_": key})
        asked = {"itemids": [item["itemid"]], "history": int(item["value_type"]), "time_from": since}
        return [float(value["value"]) for value in self.ask("history.get", **asked, sortfield="clock")]

    def drift(self) -> dict[str, Any]:
        """Return what an apply would put right."""
        told: dict[str, Any] = self.machine.call("monitoring.configure", self.url, "test=true")
        return told

    def put_right(self) -> dict[str, Any]:
        """Apply what Zabbix is to watch, and nothing else; return the changes that Salt reports."""
        states = self.machine.call("state.sls_id", "Zabbix", "zabbix_frontend", "queue=10")
        (state,) = states.values()
        assert state["result"], state["comment"]
        changes: dict[str, Any] = state["changes"]
        return changes

    def hosts(self) -> dict[str, dict[str, Any]]:
        found = self.ask(
            "host.get",
            output=["hostid", "host", "status", "tls_connect", "tls_accept"],
            selectInterfaces=["available", "error", "ip", "port"],
            selectParentTemplates=["host", "templateid"],
        )
        return {host["host"]: host for host in found}
