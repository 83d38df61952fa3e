# The release that this master's files make, on one host that runs the app after the other.
#   salt-run state.orchestrate orch.deploy
{% from 'orch/map.jinja' import common with context %}

deploy:
  salt.runner:
    {{ ([{'name': 'rolling.deploy'}] + common) | json }}
