# The app's release: its code, its dependencies and its environment by one folder named by their content. Built beside
# the running one and tried on a socket of its own; only then does the link `current` move. What runs it follows the link.
# What a lock installs lies beside, for all releases with that lock.
{% from 'app/map.jinja' import app, release, pinned with context %}

app:
  pkg.installed:
    - pkgs: {{ app.packages | json }}
  user.present:
    - name: {{ app.user }}
    - home: {{ app.root }}
    - createhome: false
    - shell: /usr/sbin/nologin
    - system: true
    - usergroup: true

/usr/local/sbin/try-release:
  file.managed:
    - source: salt://app/files/try-release.jinja
    - template: jinja
    - mode: "0755"

/etc/systemd/system/try-release@.service:
  file.managed:
    - source: salt://app/files/try-release@.service.jinja
    - template: jinja
    - mode: "0644"

/etc/systemd/system/try-release@.socket:
  file.managed:
    - source: salt://app/files/try-release@.socket
    - mode: "0644"

{# One that is held at was made and tried when it was new; the source makes another by now. #}
{% if not pinned %}
{{ release }}/src:
  file.recurse:
    - source: {{ app.source }}
    - clean: true
    - makedirs: true
    - exclude_pat: E@(^|/)(__pycache__|\.git)(/|$)
    - dir_mode: "0755"
    - file_mode: "0644"

{{ release }}/requirements.txt:
  file.managed:
    - source: {{ app.requirements }}
    - mode: "0644"
    - show_changes: false

{{ release }}/environment:
  file.managed:
    - source: salt://app/files/environment.jinja
    - template: jinja
    - user: root
    - group: {{ app.user }}
    - mode: "0640"
    - show_changes: false

{# Asked here and not by `creates`: for that Salt loads all of its state modules, a second of each apply. #}
{% if not salt['file.file_exists'](release ~ '/venv/complete') %}
{% set venv = app.root ~ '/venvs/' ~ salt['release.venv'](app.requirements) %}
{{ app.root }}/venvs:
  file.directory:
    - mode: "0755"

{% if not salt['file.file_exists'](venv ~ '/complete') %}
{{ venv }}:
  cmd.run:
    # Locked: what an interrupted apply has begun may still be at it.
    - name: >-
        flock . sh -c 'test -e {{ venv }}/complete || {
        python3 -m venv --clear {{ venv }} &&
        {{ venv }}/bin/pip install --quiet --disable-pip-version-check --no-input
        --require-hashes --no-deps --only-binary :all: --requirement {{ release }}/requirements.txt &&
        touch {{ venv }}/complete; }'
    - cwd: {{ app.root }}/venvs
    - env:
        - PIP_CERT: /etc/ssl/certs/ca-certificates.crt
{% endif %}

{{ release }}/venv:
  file.symlink:
    - target: {{ venv }}
{% endif %}

{% if not salt['file.file_exists'](release ~ '/tried') %}
{{ release }}/tried:
  cmd.run:
    - name: try-release {{ release.split('/') | last }} && touch {{ release }}/tried
{% endif %}
{% else %}
try-release {{ pinned }}:
  cmd.run:
    - unless: test {{ release }} -ef {{ app.root }}/current
{% endif %}

{{ app.root }}/current:
  file.symlink:
    - target: {{ release }}
    - atomic: true

{{ app.root }}/releases:
  release.pruned:
    - current: {{ app.root }}/current
    - keep: {{ app.keep }}
    # The release before this one is in use until those who run it have been told.
    - order: last
