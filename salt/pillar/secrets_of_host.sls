# What the roles of this host need of the site's secrets, and no more. secrets.sls, which git ignores, holds those of
# the whole site on the master (and on a site's only host); on any other host those of that host.
{% import_yaml 'topology/' ~ opts.turnkey.topology ~ '.sls' as site %}
{% import_yaml 'secrets_of_roles.yaml' as roles_of %}
{% import_yaml 'secrets.sls' as secrets %}
{% set told, withheld = {}, [] %}
{% for path, roles in roles_of.items() %}
  {% set formula, key = path.split(':') %}
  {% if roles is mapping %}
    {% set of_all = (secrets or {}).get(formula, {}).get(key, {}) %}
    {% if grains.id in of_all %}
      {% do told.setdefault(formula, {}).update({key: of_all[grains.id]}) %}
    {% endif %}
    {% if roles.by | intersect(site.topology.hosts[grains.id].roles) %}
      {% do told.setdefault(formula, {}).update({key ~ 's': of_all}) %}
    {% endif %}
  {% elif not roles | intersect(site.topology.hosts[grains.id].roles) %}
    {% do withheld.append(path) %}
  {# One that is missing is named by the check of the settings, which a minion shows as it is. #}
  {% elif key in (secrets or {}).get(formula, {}) %}
    {% do told.setdefault(formula, {}).update({key: secrets[formula][key]}) %}
  {% endif %}
{% endfor %}
{{ dict(told, withheld=withheld) | json }}
