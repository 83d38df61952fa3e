# All that binds the stack to the Fibonacci service. Another Flask app takes its place with the same keys.
app:
  name: fibonacci
  source: salt://fibonacci/app
  requirements: salt://fibonacci/requirements.txt
  wsgi: web:create_app()
  stream: web:create_stream_app()
  celery: web.worker:app
  health: /readyz
  costly: [/api/v1/fibonacci]
  pages: [/api/v1/jobs]
  internal: [/healthz, /readyz]
  websockets: [/api/v1/stream]
  arguments: [page, per_page]
  logged: [page, per_page, start, count, state]
# What the monitoring asks of this app.
zabbix_agent:
  jobs: fibonacci:jobs:1
  service:
    page: /api/v1/fibonacci?page=1&per_page=10
    websocket: /api/v1/stream?start=0&count=10
    jobs: /api/v1/jobs
    job: '{"start": 4MINUTE, "count": 2}'
# And what its visitors know of it.
status_page:
  name: Fibonacci
  components:
    page:
      title: Pages of the sequence
    websocket:
      title: Live stream of terms
    job:
      title: Long calculations
