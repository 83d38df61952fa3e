# Redis's primary to another host.
#   salt-run state.orchestrate orch.failover
{% from 'orch/map.jinja' import common with context %}

failover:
  salt.runner:
    {{ ([{'name': 'rolling.failover'}] + common) | json }}
