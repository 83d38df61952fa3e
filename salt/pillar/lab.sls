# Lab hosts are containers without a way out: their clock is their own.
ntp:
  pools: []
  local_stratum: 10
# All clients of a lab share one address, and tests ask as fast as they can.
{% import_yaml 'topology/' ~ opts.turnkey.topology ~ '.sls' as site %}
haproxy:
  limits:
    exempt: [127.0.0.0/8, {{ site.topology.network }}]
