# What each host is told, general first: a later file overrides an earlier one. How the site differs from the
# defaults of the formulas belongs into site.sls, which git ignores.
base:
  '*':
    - topology.{{ opts.turnkey.topology }}
    - roles
    - app
{%- for name in opts.turnkey.pillar %}
    - {{ name }}
{%- endfor %}
    - secrets_of_host
  '{{ grains.id }}':
    - ignore_missing: true
    - pins.{{ grains.id }}
    - site
