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
/etc/celery/{{ name }}.conf:
  file.managed:
    - source: salt://celery/files/worker.jinja
    - template: jinja
    - mode: "0644"
    - makedirs: true
    - context:
        worker: {{ name }}

celery@{{ name }}.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/celery@.service
        - /etc/celery/{{ name }}.conf
        - /usr/local/sbin/run-celery
        - {{ app.root }}/current
{% endfor %}

# What these states did not put there belonged to a worker that is gone.
/etc/celery:
  file.directory:
    - mode: "0755"
    - clean: true
    - require:
        {%- for name in workers %}
        - file: /etc/celery/{{ name }}.conf
        {%- else %} []
        {%- endfor %}
