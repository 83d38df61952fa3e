# What measures this host for the Zabbix server, and tells nobody else.
{% from 'zabbix_agent/map.jinja' import zabbix_agent, measures, groups, library, secret with context %}

zabbix-agent:
  pkg.installed:
    - pkgs: {{ zabbix_agent.packages | json }}

{% for group in groups %}
zabbix-agent-may-be-of-{{ group }}:
  group.present:
    - name: {{ group }}
    - system: true
{% endfor %}

{% for module in ['measuring', 'measuring_http'] %}
{{ library }}/{{ module }}.py:
  file.managed:
    - source: salt://zabbix_agent/files/{{ module }}.py
    - mode: "0644"
    - makedirs: true
{% endfor %}

# Those of other formulas come with them.
{% for command in measures.values() | map('regex_replace', ' .*$', '') | reject('equalto', 'measure-rsyslog') | unique | sort %}
{{ library }}/{{ command }}:
  file.managed:
    - source: salt://zabbix_agent/files/{{ command }}
    - mode: "0755"
{% endfor %}

/etc/zabbix/agent.psk:
  file.managed:
    - source: salt://zabbix_agent/files/agent.psk.jinja
    - template: jinja
    - user: zabbix
    - group: zabbix
    - mode: "0400"
    - show_changes: false
    - check_cmd: grep --quiet --extended-regexp --line-regexp '([0-9a-f]{2}){16,256}'

{% if 'data' in pillar.roles %}
{{ secret }}:
  file.managed:
    - source: salt://zabbix_agent/files/measure-redis.secret.jinja
    - template: jinja
    - user: root
    - group: zabbix
    - mode: "0640"
    - show_changes: false
    - check_cmd: grep --quiet --extended-regexp --line-regexp 'measure [A-Za-z0-9_-]{20,}'
{% endif %}

/etc/zabbix/zabbix_agent2.conf:
  file.managed:
    - source: salt://zabbix_agent/files/zabbix_agent2.conf.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: zabbix_agent2 --test agent.ping --config

/etc/systemd/system/zabbix-agent2.service.d/turnkey.conf:
  file.managed:
    - source: salt://zabbix_agent/files/unit.conf.jinja
    - template: jinja
    - mode: "0644"
    - makedirs: true

zabbix-agent2.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/zabbix-agent2.service.d/turnkey.conf
        - /etc/zabbix/zabbix_agent2.conf
        - /etc/zabbix/agent.psk
        {%- if 'data' in pillar.roles %}
        - {{ secret }}
        {%- endif %}
    - check: >-
        sh -c "zabbix_agent2 --config /etc/zabbix/zabbix_agent2.conf -R version 2>&1 | grep -Eq '(^| )[0-9]+[.][0-9]+[.][0-9]+$'"
