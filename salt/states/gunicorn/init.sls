# What runs the app: systemd holds the socket, so that no request is lost while gunicorn comes and goes.
{% from 'gunicorn/map.jinja' import gunicorn with context %}
{% from 'app/map.jinja' import app with context %}

/usr/local/sbin/check-gunicorn-config:
  file.managed:
    - source: salt://gunicorn/files/check-gunicorn-config.jinja
    - template: jinja
    - mode: "0755"

/etc/gunicorn/gunicorn.conf.py:
  file.managed:
    - source: salt://gunicorn/files/gunicorn.conf.py.jinja
    - template: jinja
    - mode: "0644"
    - makedirs: true
    - check_cmd: check-gunicorn-config

{% for unit in ['gunicorn.service', 'gunicorn.socket'] %}
/etc/systemd/system/{{ unit }}:
  file.managed:
    - source: salt://gunicorn/files/{{ unit }}.jinja
    - template: jinja
    - mode: "0644"
    - tmp_ext: .{{ unit.split('.') | last }}
    - check_cmd: systemd-analyze verify --man=no
{% endfor %}

gunicorn.socket:
  daemon.running:
    - restart:
        - /etc/systemd/system/gunicorn.socket

gunicorn.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/gunicorn.service
    - reload:
        - /etc/gunicorn/gunicorn.conf.py
        - {{ app.root }}/current
    - check: >-
        curl --fail --silent --show-error --max-time 5 --output /dev/null
        --unix-socket {{ gunicorn.socket }} http://localhost{{ app.health }}
