# Nothing to apply: the pillar as a whole is checked, so that a wrong name or topology ends the run before it begins.
{% do salt['turnkey.check']() %}
