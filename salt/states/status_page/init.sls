# The public page that says how the service is: rendered here, from what Zabbix knows, into files that the monitor's
# nginx (formula zabbix_frontend) serves and load balancers pass on. None of the app's hosts is in its way.
{% from 'status_page/map.jinja' import status_page, user, library, folder, public, configuration, secret with context %}

status_page:
  pkg.installed:
    - pkgs: {{ status_page.packages | json }}

{{ user }}:
  user.present:
    - system: true
    - usergroup: true
    - createhome: false
    - home: /nonexistent
    - shell: /usr/sbin/nologin

{% for file, mode in [('render-status-page', '0755'), ('status-page.html', '0644'), ('status-page.css', '0644')] %}
{{ library }}/{{ file }}:
  file.managed:
    - source: salt://status_page/files/{{ file }}
    - mode: "{{ mode }}"
    - makedirs: true
{% endfor %}

{{ secret }}:
  file.managed:
    - source: salt://status_page/files/secret.jinja
    - template: jinja
    - user: root
    - group: {{ user }}
    - mode: "0640"
    - show_changes: false
    - check_cmd: grep --quiet --extended-regexp --line-regexp '[A-Za-z0-9_-]{20,72}'

{{ configuration }}:
  file.managed:
    - source: salt://status_page/files/configuration.json.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: {{ library }}/render-status-page --check

{% for kind in ['service', 'timer'] %}
/etc/systemd/system/status-page.{{ kind }}:
  file.managed:
    - source: salt://status_page/files/status-page.{{ kind }}.jinja
    - template: jinja
    - mode: "0644"
    - tmp_ext: .{{ kind }}
    - check_cmd: systemd-analyze verify --man=no
{% endfor %}

# It does its work when a page that is written now says what Zabbix tells now.
status-page.timer:
  daemon.running:
    - restart:
        - /etc/systemd/system/status-page.timer
        - /etc/systemd/system/status-page.service
        - {{ library }}/render-status-page
        - {{ library }}/status-page.html
        - {{ library }}/status-page.css
        - {{ secret }}
        - {{ configuration }}
    - check: >-
        sh -c 'systemctl start status-page.service &&
        grep --quiet --extended-regexp "\"written\":(\"[^\"]+\"),\"asked\":\1," {{ public }}/status.json ||
        { sleep 2; exit 1; }'
    - speaks: status-page.service
