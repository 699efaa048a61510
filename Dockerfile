# One image for the server, the workers and the commands. CUDA comes with torch's own wheels, so the base stays small.
FROM python:3.11.14-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 crawl2chat
WORKDIR /app
COPY pyproject.toml README.md ./
COPY data data
COPY flows flows
COPY rlhf_core rlhf_core
COPY tasks tasks
COPY prefect.yaml ./
ARG EXTRAS=server,s3,sweep,tensorboard
RUN pip install --no-cache-dir --prefer-binary "setuptools>=77" wheel "torch>=2.6,<2.14" \
    && pip install --no-cache-dir --prefer-binary -e ".[${EXTRAS}]" \
    && mkdir -p /home/crawl2chat/.cache && chown -R crawl2chat /home/crawl2chat /app
USER crawl2chat
CMD ["prefect", "version"]
