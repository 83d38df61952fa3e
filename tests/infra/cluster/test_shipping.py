"""Logs of several hosts: ten thousand requests, and each is found, whatever befalls what carries its line."""

import time
import uuid
from collections.abc import Callable

import pytest
from archive import SHORTEST, ask_many, counted, logged, measured, missing
from client import Client
from machine import Machine
from waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.disruptive]

# Seconds that the log host is away: longer than anything that sends to it waits for an answer.
AWAY = 60
# Lines that come twice at the most: those on their way when a connection breaks, as the log host goes and as ship-logs
# is restarted, and those that rsyslogd has read since it last noted how far, when it is restarted.
TWICE = 2 * 128 + 200


def test_ten_thousand_requests_leave_ten_thousand_lines(
    client: Client, balancers: list[Machine], monitor: Machine, report: Callable[[str], None]
) -> None:
    mark = uuid.uuid4().hex
    ids = ask_many(client, mark, 0, 3_000)
    monitor.check("systemctl stop rsyslog.service")
    back = time.monotonic() + AWAY
    try:
        ids += ask_many(client, mark, 3_000, 4_000)
        # They wait on the load balancer that has the address, over a restart too.
        eventually(lambda: max(measured(each)["waiting"] for each in balancers) >= 4_000 * SHORTEST)
        for each in balancers:
            each.check("systemctl restart rsyslog.service ship-logs.service")
        eventually(lambda: time.monotonic() >= back)
    finally:
        monitor.check("systemctl start rsyslog.service")
    ids += ask_many(client, mark, 7_000, 1_500)
    monitor.check("logrotate --force /etc/logrotate.d/archive")
    ids += ask_many(client, mark, 8_500, 1_500)

    # At HAProxy itself: a line for each request, and no other.
    told = eventually(
        lambda: len(found := [id for each in balancers for id in logged(each, mark)]) >= len(ids) and found
    )
    assert sorted(told) == sorted(ids)
    assert eventually(lambda: missing(monitor, mark, ids) == [])
    found = counted(monitor, mark)
    assert len(found) == len(ids) == 10_000
    twice = sum(found.values()) - len(found)
    assert twice <= TWICE * len(balancers)
    report(f"10000 requests, {len(found)} found, {twice} lines twice")
