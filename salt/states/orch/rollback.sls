# The release before, on one host that runs the app after the other; it stays until orch.deploy.
#   salt-run state.orchestrate orch.rollback     (or to another that is kept: pillar='{release: NAME}')
{% from 'orch/map.jinja' import common with context %}

rollback:
  salt.runner:
    {{ ([{'name': 'rolling.rollback'}] + common + [{'root': salt['turnkey.settings']('app').root}, {'release': pillar.get('release', '')}]) | json }}
