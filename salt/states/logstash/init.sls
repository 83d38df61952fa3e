# Logstash behind the log host's files: what it cannot be had for, or would not run with, fails before anything that runs
# is touched. The files go on either way.
{% from 'logstash/map.jinja' import logstash, repository, output with context %}

{% set sources = '/etc/apt/sources.list.d/turnkey-logstash.sources' %}
{% set preferences = '/etc/apt/preferences.d/turnkey-logstash' %}
{% set kept = '/etc/tmpfiles.d/turnkey-logstash.conf' %}
{% if logstash.enabled %}
needs of logstash:
  pkg.installed:
    - pkgs: {{ logstash.packages | json }}

/usr/local/sbin/find-logstash:
  file.managed:
    - source: salt://logstash/files/find-logstash.jinja
    - template: jinja
    - mode: "0755"
    - check_cmd: bash -n

{% if logstash.local %}
logstash is found:
  cmd.run:
    - name: /usr/local/sbin/find-logstash {{ logstash.local }}
    - unless: /usr/local/sbin/find-logstash {{ logstash.local }}

{% for path in [sources, preferences] %}
{{ path }}:
  file.absent: []
{% endfor %}
{% else %}
# It answers, is signed by this key, and has this version: or the apply ends here.
{{ sources }}:
  file.managed:
    - source: salt://logstash/files/logstash.sources.jinja
    - template: jinja
    - mode: "0644"
    - tmp_ext: .sources
    - check_cmd: find-logstash

logstash is found:
  cmd.run:
    - name: /usr/local/sbin/find-logstash --update
    - unless: /usr/local/sbin/find-logstash --installed

{{ preferences }}:
  file.managed:
    - source: salt://logstash/files/preferences.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: grep -q '^Pin-Priority:'
{% endif %}

logstash:
  pkg.installed:
    {%- if logstash.local %}
    - sources:
        - {{ logstash.package }}: {{ logstash.local }}
    {%- else %}
    - pkgs: {{ [{logstash.package: logstash.version}] | json }}
    {%- endif %}
    - refresh: false

{% if output.plugin %}
logstash-output-{{ output.kind }}:
  cmd.run:
    - name: /usr/share/logstash/bin/logstash-plugin install {{ 'file://' ~ output.plugin if output.plugin.endswith('.zip') else output.plugin }}
    - unless: grep -q logstash-output-{{ output.kind }} /usr/share/logstash/Gemfile
{% endif %}

/usr/local/sbin/check-logstash:
  file.managed:
    - source: salt://logstash/files/check-logstash.jinja
    - template: jinja
    - mode: "0755"
    - check_cmd: bash -n

/etc/logstash/logstash.yml:
  file.managed:
    - source: salt://logstash/files/logstash.yml.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: check-logstash logstash.yml

/etc/logstash/turnkey.conf:
  file.managed:
    - source: salt://logstash/files/turnkey.conf.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: check-logstash turnkey.conf

/etc/logstash/pipelines.yml:
  file.managed:
    - source: salt://logstash/files/pipelines.yml
    - mode: "0644"
    - check_cmd: grep -q '^- pipeline.id:'

{% if output.kind == 'file' %}
{{ output.path }}:
  file.directory:
    - user: logstash
    - group: adm
    - mode: "2750"
    - makedirs: true
{% endif %}

{{ kept }}:
  file.managed:
    - source: salt://logstash/files/tmpfiles.conf.jinja
    - template: jinja
    - mode: "0644"
    - tmp_ext: .conf
    - check_cmd: systemd-tmpfiles --create

/etc/systemd/system/logstash.service.d/turnkey.conf:
  file.managed:
    - source: salt://logstash/files/unit.conf.jinja
    - template: jinja
    - mode: "0644"
    - makedirs: true

logstash.service:
  daemon.running:
    - restart:
        # Written anew when another version is installed.
        - /var/lib/dpkg/info/{{ logstash.package }}.list
        - /etc/systemd/system/logstash.service.d/turnkey.conf
        - /etc/logstash/logstash.yml
        - /etc/logstash/pipelines.yml
        - /etc/logstash/turnkey.conf
    # It has this pipeline. Java takes its time.
    - check: sh -c "curl --silent --fail --max-time 5 http://127.0.0.1:{{ logstash.port }}/_node/pipelines | grep -q '\"turnkey\"'"
    - deadline: 300
{% else %}
# There may have been one. The package stays, and with it what waits in its queue.
logstash.service:
  daemon.only: []

{% for path in [sources, preferences, kept, '/etc/systemd/system/logstash.service.d/turnkey.conf',
                '/etc/logstash/turnkey.conf', '/usr/local/sbin/find-logstash', '/usr/local/sbin/check-logstash'] %}
{{ path }}:
  file.absent: []
{% endfor %}
{% endif %}
