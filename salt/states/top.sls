# The whole plan: what each host gets, by the roles that the topology gives it.
base:
  '*':
    - site
    # Before what it protects: no port is ever open to all, and doors are open by the time that other hosts come to
    # them.
    - firewall
    - names
    - ntp
  'roles:data':
    - match: pillar
    - redis
    - sentinel
  'roles:web':
    - match: pillar
    - app
    - gunicorn
    - gunicorn_status
    - nginx
  # A host of both roles gets the app once.
  'roles:worker':
    - match: pillar
    - app
    - celery
  'roles:lb':
    - match: pillar
    - haproxy
  # The address that clients come to, where it is not a host's own.
  'I@roles:lb and I@topology:virtual_address:*':
    - match: compound
    - keepalived
  # A host alone needs no master. Of several, the one that watches leads, and all are minions.
  'I@roles:monitor and I@led_by:*':
    - match: compound
    - salt_master
  'led_by:*':
    - match: pillar
    - salt_minion
  'roles:monitor':
    - match: pillar
    - postgresql
    - zabbix_server
    - zabbix_frontend
    - status_page
  # Where some host keeps the logs, all hosts send theirs.
  'topology:hosts:*:roles:logs':
    - match: pillar
    - rsyslog
  'roles:logs':
    - match: pillar
    - logstash
  # Where some host watches, each is measured: what, the formulas above decide.
  'topology:hosts:*:roles:monitor':
    - match: pillar
    - zabbix_agent
  # Last, as log files belong to users that the formulas above bring.
  '.*':
    - match: pcre
    - logrotate
