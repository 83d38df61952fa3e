# Packages, on one host after the other.
#   salt-run state.orchestrate orch.upgrade
{% from 'orch/map.jinja' import common with context %}

upgrade:
  salt.runner:
    {{ ([{'name': 'rolling.upgrade'}] + common) | json }}
