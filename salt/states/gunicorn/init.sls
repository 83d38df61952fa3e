# What runs the app: systemd holds the sockets, so that no request is lost while gunicorn comes and goes. One instance
# serves requests; a second one the app's websockets, which hold a thread each, where the app has a callable for them.
{% from 'gunicorn/map.jinja' import instances, scoreboard with context %}
{% from 'app/map.jinja' import app with context %}

/usr/local/sbin/check-gunicorn-config:
  file.managed:
    - source: salt://gunicorn/files/check-gunicorn-config.jinja
    - template: jinja
    - mode: "0755"

# Whoever is of this group may see who does what, by the scoreboard or by what reads it (formula gunicorn_status).
{{ scoreboard.group }}:
  group.present:
    - system: true
    # nginx passes on what is asked of it.
    - addusers: [www-data]

{{ scoreboard.library }}/gunicorn_scoreboard.py:
  file.managed:
    - source: salt://gunicorn/files/gunicorn_scoreboard.py
    - mode: "0644"
    - makedirs: true

{% for instance, it in instances.items() %}
/etc/gunicorn/{{ instance }}.conf.py:
  file.managed:
    - source: salt://gunicorn/files/gunicorn.conf.py.jinja
    - template: jinja
    - mode: "0644"
    - makedirs: true
    - check_cmd: check-gunicorn-config
    - context:
        instance: {{ instance }}

{% for kind in ['service', 'socket'] %}
/etc/systemd/system/{{ instance }}.{{ kind }}:
  file.managed:
    - source: salt://gunicorn/files/gunicorn.{{ kind }}.jinja
    - template: jinja
    - mode: "0644"
    - tmp_ext: .{{ kind }}
    - check_cmd: systemd-analyze verify --man=no
    - context:
        instance: {{ instance }}
{% endfor %}

{{ instance }}.socket:
  daemon.running:
    - restart:
        - /etc/systemd/system/{{ instance }}.socket

{{ instance }}.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/{{ instance }}.service
        - {{ scoreboard.library }}/gunicorn_scoreboard.py
    - reload:
        - /etc/gunicorn/{{ instance }}.conf.py
        - {{ app.root }}/current
    - check: >-
        curl --fail --silent --show-error --max-time 5 --output /dev/null
        --unix-socket {{ it.socket }} http://localhost{{ app.health }}
{% endfor %}

{% if 'gunicorn-stream' not in instances %}
# An app without such a callable may follow one that had it.
gunicorn-stream.*:
  daemon.only: []

{% for path in ['systemd/system/gunicorn-stream.service', 'systemd/system/gunicorn-stream.socket',
                'gunicorn/gunicorn-stream.conf.py'] %}
/etc/{{ path }}:
  file.absent: []
{% endfor %}
{% endif %}
