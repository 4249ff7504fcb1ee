"""How gunicorn serves Daypass: `gunicorn broker.wsgi` in this folder reads this file.

Threads, because a request mostly waits (for the database, for STS). TLS ends at the proxy in front.
"""

import os

bind = os.environ.get("DAYPASS_BIND", "127.0.0.1:8000")
workers = int(os.environ.get("DAYPASS_WEB_PROCESSES", "2"))
threads = int(os.environ.get("DAYPASS_WEB_THREADS", "8"))
# Slow clients hold no thread: broker/serving.py says how, and for how long they are waited for.
worker_class = "broker.serving.PatientWorker"
worker_connections = 1000
sendfile = False
timeout = 60
graceful_timeout = 20
keepalive = 5
max_requests = 20000
max_requests_jitter = 2000
limit_request_line = 8190
limit_request_fields = 60
preload_app = False
control_socket_disable = True

# AWS's own clients send the header x-amz-sso_bearer_token. Headers with underscores are dropped because
# `X_Forwarded_For` and `X-Forwarded-For` become one in WSGI; this names the one exception. The scheme is never taken
# from a header (DAYPASS_ORIGIN says it), so trusting every peer for this list gives nothing else away.
header_map = "drop"
forwarder_headers = "X-AMZ-SSO_BEARER_TOKEN"
forwarded_allow_ips = "*"
secure_scheme_headers: dict[str, str] = {}
