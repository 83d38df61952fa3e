# What does the app's long work: Celery workers, in the release that serves, behind whatever else wants the cores.
{% from 'celery/map.jinja' import workers with context %}
{% from 'app/map.jinja' import app with context %}

/usr/local/sbin/run-celery:
  file.managed:
    - source: salt://celery/files/run-celery.jinja
    - template: jinja
    - mode: "0755"

/etc/systemd/system/celery@.service:
  file.managed:
    - source: salt://celery/files/celery@.service.jinja
    - template: jinja
    - mode: "0644"

celery@*.service:
  daemon.only:
    - keep: {{ workers.keys() | map('regex_replace', '^(.*)$', 'celery@\\1.service') | list | json }}

{% for name in workers %}
/etc/default/celery-{{ name }}:
  file.managed:
    - source: salt://celery/files/worker.jinja
    - template: jinja
    - mode: "0644"
    - context:
        worker: {{ name }}

celery@{{ name }}.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/celery@.service
        - /etc/default/celery-{{ name }}
        - /usr/local/sbin/run-celery
        - {{ app.root }}/current
{% endfor %}
