# What the gunicorns of this host do, as JSON (/status) and for Prometheus (/metrics). A service of its own: it answers
# while every worker is busy or stuck, and may read the scoreboards and nothing else.
{% from 'gunicorn_status/map.jinja' import status, socket with context %}
{% from 'gunicorn/map.jinja' import scoreboard with context %}

gunicorn-status packages:
  pkg.installed:
    - pkgs: {{ status.packages | json }}

gunicorn-status user:
  user.present:
    - name: gunicorn-status
    - gid: {{ scoreboard.group }}
    - home: /nonexistent
    - createhome: false
    - shell: /usr/sbin/nologin
    - system: true

{{ scoreboard.library }}/gunicorn_status.py:
  file.managed:
    - source: salt://gunicorn_status/files/gunicorn_status.py
    - mode: "0644"
    - makedirs: true

{% for kind in ['service', 'socket'] %}
/etc/systemd/system/gunicorn-status.{{ kind }}:
  file.managed:
    - source: salt://gunicorn_status/files/gunicorn-status.{{ kind }}.jinja
    - template: jinja
    - mode: "0644"
    - tmp_ext: .{{ kind }}
    - check_cmd: systemd-analyze verify --man=no
{% endfor %}

gunicorn-status.socket:
  daemon.running:
    - restart:
        - /etc/systemd/system/gunicorn-status.socket

gunicorn-status.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/gunicorn-status.service
        - {{ scoreboard.library }}/gunicorn_status.py
        - {{ scoreboard.library }}/gunicorn_scoreboard.py
    - check: >-
        curl --fail --silent --show-error --max-time 5 --output /dev/null
        --unix-socket {{ socket }} http://localhost/status
