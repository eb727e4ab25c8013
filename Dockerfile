# docker build -t restyle . && docker run --rm -p 8000:8000 --read-only --tmpfs /tmp restyle
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN python -m venv /opt/restyle && /opt/restyle/bin/pip install --no-cache-dir '.[serve,video]'

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home restyle
COPY --from=build /opt/restyle /opt/restyle
ENV PATH=/opt/restyle/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD \
  ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["restyle", "serve", "--host", "0.0.0.0"]
