"""Zabbix as this repository has it: see salt/states/_modules/monitoring.py."""

from salt.exceptions import CommandExecutionError


def password(name):
    """Have Zabbix's user *name*, who is Admin, have the site's password and no other."""
    ret = {"name": name, "result": True, "changes": {}, "comment": "has the site's password"}
    if name != "Admin":
        return ret | {"result": False, "comment": f"only of Admin is there a password, not of {name}"}
    try:
        another = __salt__["monitoring.password"](test=__opts__["test"])
    except CommandExecutionError as error:
        if __opts__["test"]:
            # Before the first apply there is no database.
            return ret | {"result": None, "comment": f"would give {name} the site's password ({error})"}
        return ret | {"result": False, "comment": str(error)}
    if not another:
        return ret
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"would give {name} the site's password"}
    return ret | {"changes": {name: "the site's password"}, "comment": "had another password"}


def configured(name, url):
    """Have the Zabbix behind *url* watch what the topology has, as the repository's files say."""
    ret = {"name": name, "result": True, "changes": {}, "comment": "is as it should be"}
    try:
        changes = __salt__["monitoring.configure"](url, test=__opts__["test"])
    except CommandExecutionError as error:
        if __opts__["test"] and "wrong pillar" not in str(error):
            # Before the first apply there is nobody to ask.
            return ret | {"result": None, "comment": f"would tell Zabbix all that it is to watch ({error})"}
        return ret | {"result": False, "comment": str(error)}
    if not changes:
        return ret
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"would change {changes}"}
    return ret | {"changes": changes, "comment": f"{len(changes)} things were put right"}
