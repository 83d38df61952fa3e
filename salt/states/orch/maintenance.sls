# One host out of service, and back.
#   salt-run state.orchestrate orch.maintenance pillar='{host: web1, mode: out}'     (and later mode: in)
{% from 'orch/map.jinja' import common with context %}

maintenance:
  salt.runner:
    {{ ([{'name': 'rolling.maintenance'}] + common + [{'host': pillar.get('host', '')}, {'mode': pillar.get('mode', '')}]) | json }}
