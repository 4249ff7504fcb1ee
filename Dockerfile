# syntax=docker/dockerfile:1
# Two images from one file: `server` (the default, what a company runs) and `demo` (`make run` in a container).
ARG PYTHON=3.13-slim-trixie

# --- The pinned requirements, by hash, in an environment of their own
FROM python:${PYTHON} AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/daypass
COPY requirements.txt /tmp/
RUN /opt/daypass/bin/pip install --require-hashes --no-deps --only-binary :all: -r /tmp/requirements.txt

FROM packages AS demo-packages
COPY requirements-demo.txt /tmp/
RUN /opt/daypass/bin/pip install --require-hashes --no-deps -r /tmp/requirements-demo.txt

# --- What both images share: an unprivileged user, no compiler, no shell history
FROM python:${PYTHON} AS base
ENV PATH=/opt/daypass/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --uid 10001 --user-group --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin daypass \
 && install -d -o daypass -g daypass -m 0700 /var/lib/daypass
WORKDIR /srv/daypass

# --- The demo: loopback only, so run it with the host's network (docker-compose.yml, profile demo)
FROM base AS demo
COPY --from=demo-packages /opt/daypass /opt/daypass
COPY . .
USER daypass
VOLUME /var/lib/daypass
STOPSIGNAL SIGINT
CMD ["python", "-m", "broker.demo", "--data-dir", "/var/lib/daypass"]

# --- The server
FROM base AS server
COPY --from=packages /opt/daypass /opt/daypass
COPY . .
# The stage set of the demo does not belong on a server.
RUN rm -rf broker/demo
ENV DAYPASS_DATA_DIR=/var/lib/daypass DAYPASS_STATIC_ROOT=/srv/daypass/staticfiles DAYPASS_BIND=0.0.0.0:8000
RUN python -m compileall -q accounts broker \
 && DAYPASS_ORIGIN=https://build.invalid DAYPASS_SECRET_KEY=only-for-collecting-static-files-at-build-time \
    DAYPASS_DATA_DIR=/tmp/build python manage.py collectstatic --noinput --verbosity 0 \
 && rm -rf /tmp/build
USER daypass
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=40s --retries=6 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/ready', timeout=4)"]
# Half a configuration does not serve: the checks come first, and say what is missing.
CMD ["sh", "-c", "python manage.py check --deploy --fail-level ERROR && exec gunicorn broker.wsgi"]
