"""Logs of several hosts: ten thousand requests, and each is found, whatever befalls what carries its line."""

import uuid

import pytest
from archive import ask_many, counted, measured, missing
from client import Client
from machine import Machine
from waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.disruptive]


def test_ten_thousand_requests_leave_ten_thousand_lines(
    client: Client, balancers: list[Machine], monitor: Machine
) -> None:
    mark = uuid.uuid4().hex
    ids = ask_many(client, mark, 0, 3_000)
    monitor.check("systemctl stop rsyslog.service")
    try:
        ids += ask_many(client, mark, 3_000, 4_000)
        # They wait on the load balancer that has the address, over a restart too.
        eventually(lambda: max(measured(each)["waiting"] for each in balancers) >= 3_500)
        for each in balancers:
            each.check("systemctl restart rsyslog.service")
    finally:
        monitor.check("systemctl start rsyslog.service")
    ids += ask_many(client, mark, 7_000, 1_500)
    monitor.check("logrotate --force /etc/logrotate.d/archive")
    ids += ask_many(client, mark, 8_500, 1_500)

    assert eventually(lambda: missing(monitor, mark, ids) == [])
    found = counted(monitor, mark)
    assert len(found) == len(ids) == 10_000
    twice = sum(found.values()) - len(found)
    print(f"10000 requests, {len(found)} found, {twice} lines twice")
