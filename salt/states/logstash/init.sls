# Logstash behind the log host's files: what it cannot be had for, or would not run with, fails before anything that runs
# is touched.
{% from 'logstash/map.jinja' import logstash, repository, output with context %}

{% set sources = '/etc/apt/sources.list.d/turnkey-logstash.sources' %}
{% if logstash.enabled %}
{% if logstash.local %}
logstash-found:
  file.exists:
    - name: {{ logstash.local }}
{% else %}
/etc/apt/keyrings/turnkey-logstash.asc:
  file.managed:
    - source: salt://logstash/files/key.asc.jinja
    - template: jinja
    - mode: "0644"
    - makedirs: true
    - check_cmd: grep -q 'BEGIN PGP PUBLIC KEY BLOCK'

/etc/apt/preferences.d/turnkey-logstash:
  file.managed:
    - source: salt://logstash/files/preferences.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: grep -q '^Pin-Priority:'

{{ sources }}:
  file.managed:
    - source: salt://logstash/files/logstash.sources.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: grep -q '^Signed-By:'

# Its repository answers, is signed by this key, and has this version: or the apply ends here.
/usr/local/sbin/find-logstash:
  file.managed:
    - source: salt://logstash/files/find-logstash.jinja
    - template: jinja
    - mode: "0755"

logstash-found:
  cmd.run:
    - name: /usr/local/sbin/find-logstash
    - unless: /usr/local/sbin/find-logstash --installed
{% endif %}

logstash:
  pkg.installed:
    {%- if logstash.local %}
    - sources:
        - {{ logstash.package }}: {{ logstash.local }}
    {%- else %}
    - pkgs: {{ [{logstash.package: logstash.version}] | json }}
    - refresh: false
    {%- endif %}
{% if output.kind == 'file' %}
{{ output.path }}:
  file.directory:
    - user: logstash
    - group: adm
    - mode: "2750"
    - makedirs: true
{% endif %}

/usr/local/sbin/check-logstash:
  file.managed:
    - source: salt://logstash/files/check-logstash.jinja
    - template: jinja
    - mode: "0755"

/etc/logstash/logstash.yml:
  file.managed:
    - source: salt://logstash/files/logstash.yml.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: grep -q '^path.data:'

/etc/logstash/turnkey.conf:
  file.managed:
    - source: salt://logstash/files/turnkey.conf.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: check-logstash

/etc/logstash/pipelines.yml:
  file.managed:
    - source: salt://logstash/files/pipelines.yml
    - mode: "0644"
    - check_cmd: grep -q '^- pipeline.id:'

/etc/systemd/system/logstash.service.d/turnkey.conf:
  file.managed:
    - source: salt://logstash/files/unit.conf.jinja
    - template: jinja
    - mode: "0644"
    - makedirs: true

logstash.service:
  daemon.running:
    - restart:
        - /etc/systemd/system/logstash.service.d/turnkey.conf
        - /etc/logstash/logstash.yml
        - /etc/logstash/pipelines.yml
        - /etc/logstash/turnkey.conf
{% else %}
# There may have been one.
logstash.service:
  daemon.only: []

{% for path in [sources, '/etc/apt/preferences.d/turnkey-logstash', '/etc/apt/keyrings/turnkey-logstash.asc',
                '/etc/systemd/system/logstash.service.d/turnkey.conf', '/etc/logstash/turnkey.conf',
                '/usr/local/sbin/find-logstash', '/usr/local/sbin/check-logstash'] %}
{{ path }}:
  file.absent: []
{% endfor %}
{% endif %}
