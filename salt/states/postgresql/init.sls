# Debian's PostgreSQL, for programs of this host alone: they come by its socket, and who they are the kernel says.
{% from 'postgresql/map.jinja' import postgresql, configuration, ask with context %}

postgresql:
  pkg.installed:
    - pkgs: {{ postgresql.packages | json }}

/usr/local/sbin/check-postgresql-config:
  file.managed:
    - source: salt://postgresql/files/check-postgresql-config.jinja
    - template: jinja
    - mode: "0755"

{{ configuration }}/conf.d/turnkey.conf:
  file.managed:
    - source: salt://postgresql/files/postgresql.conf.jinja
    - template: jinja
    - mode: "0644"
    - check_cmd: check-postgresql-config settings

{% for kind in ['hba', 'ident'] %}
{{ configuration }}/pg_{{ kind }}.conf:
  file.managed:
    - source: salt://postgresql/files/pg_{{ kind }}.conf.jinja
    - template: jinja
    - user: postgres
    - group: postgres
    - mode: "0640"
    - check_cmd: check-postgresql-config {{ kind }}
{% endfor %}

/etc/systemd/system/postgresql@{{ postgresql.version }}-main.service.d/turnkey.conf:
  file.managed:
    - source: salt://postgresql/files/unit.conf
    - mode: "0644"
    - makedirs: true

# A file that it could not read it passes over in silence: so it is asked.
postgresql@{{ postgresql.version }}-main.service:
  daemon.running:
    - restart:
        - {{ configuration }}/conf.d/turnkey.conf
        - /etc/systemd/system/postgresql@{{ postgresql.version }}-main.service.d/turnkey.conf
    - reload:
        - {{ configuration }}/pg_hba.conf
        - {{ configuration }}/pg_ident.conf
    - check: >-
        sh -c "{{ ask }} 'select count(*) from pg_hba_file_rules where error is not null' | grep -qx 0"

{% for name in postgresql.databases | sort %}
role {{ name }}:
  cmd.run:
    - name: runuser --user postgres -- createuser --no-superuser --no-createdb --no-createrole {{ name }}
    - cwd: /
    - unless: {{ ask }} "select 1 from pg_roles where rolname = '{{ name }}'" | grep -qx 1

database {{ name }}:
  cmd.run:
    - name: >-
        runuser --user postgres -- createdb --owner={{ name }} --encoding=UTF8 --locale=C.UTF-8 --template=template0 {{ name }}
    - cwd: /
    - unless: {{ ask }} "select 1 from pg_database where datname = '{{ name }}'" | grep -qx 1
{% endfor %}
