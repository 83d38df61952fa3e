# Lab hosts are containers without a way out: their clock is their own.
ntp:
  pools: []
  local_stratum: 10
# Whoever waits for the status page here is a test.
status_page:
  seconds: 10
# So is whoever waits for a worker to go, and Zabbix has to see it before: it looks each 15 seconds.
gunicorn:
  scaling:
    down_after: 20
# All clients of a lab share one address, and tests ask as fast as they can.
{% import_yaml 'topology/' ~ opts.turnkey.topology ~ '.sls' as site %}
haproxy:
  limits:
    exempt: [127.0.0.0/8, {{ site.topology.network }}]
