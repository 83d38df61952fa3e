# The whole plan: what each host gets, by the roles that the topology gives it.
base:
  '*':
    - site
    - ntp
  'roles:data':
    - match: pillar
    - redis
    - sentinel
  'roles:web':
    - match: pillar
    - app
    - gunicorn
    - nginx
  # A host of both roles gets the app once.
  'roles:worker':
    - match: pillar
    - app
    - celery
  'roles:lb':
    - match: pillar
    - haproxy
  # Last, as log files belong to users that the formulas above bring.
  '.*':
    - match: pcre
    - logrotate
