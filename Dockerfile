# Four images from one file; both BuildKit and the classic builder build it.
#
#   docker build --target service     -t hornpipe-service     .   answers; LiteRT, no TensorFlow, no training code
#   docker build --target service-tf  -t hornpipe-service-tf  .   answers; for models whose operations LiteRT lacks
#   docker build --target trainer     -t hornpipe-trainer     .   trains
#   docker build --target tensorboard -t hornpipe-tensorboard .   shows how training goes; no TensorFlow either
#
# The dependencies (/opt/venv, changes rarely) and Hornpipe (/opt/hornpipe, changes often, small) are separate layers.

# What all images share: a user without rights, the folders that are volumes, where Python looks.
FROM python:3.11-slim-bookworm AS base
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin hornpipe \
    && install --directory --owner=10001 --group=10001 /models /runs /work /state /jobs /predictions
ENV PATH=/opt/hornpipe/bin:/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/hornpipe \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HORNPIPE_MODELS_DIR=/models \
    HORNPIPE_RUNS_DIR=/runs
WORKDIR /work
LABEL org.opencontainers.image.title="Hornpipe" \
      org.opencontainers.image.description="Train Keras models, prove them, serve them." \
      org.opencontainers.image.licenses="Apache-2.0"

# How a service runs: one process, which takes SIGTERM itself. It listens on every address, so it does not start without
# HORNPIPE_KEYS_FILE, or HORNPIPE_INSECURE=1 where something else keeps strangers out (docs/security.md).
FROM base AS serving
ENV HORNPIPE_HOST=0.0.0.0
EXPOSE 8000
# Not urllib: it would send this through the proxy that a container may be told to use.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-I", "-S", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('HORNPIPE_PORT', '8000')), timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["hornpipe"]
CMD ["serve"]

# What is to be installed: each part of pyproject.toml becomes a list.
FROM python:3.11-slim-bookworm AS lists
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /opt/venv
COPY pyproject.toml constraints.txt ./
RUN python -c "import pathlib, tomllib; \
project = tomllib.loads(pathlib.Path('pyproject.toml').read_text())['project']; \
parts = {'service': project['dependencies'], **project['optional-dependencies']}; \
[pathlib.Path(name + '.txt').write_text('\n'.join(each for each in part if not each.startswith('hornpipe['))) \
for name, part in parts.items()]"

# The service's dependencies, in the versions that are tested together. gRPC is 22 of their megabytes.
FROM lists AS build
RUN python -m pip --python /opt/venv/bin/python install -c constraints.txt -r service.txt -r grpc.txt

# Hornpipe itself: whole in /opt/hornpipe, without the training code in /opt/hornpipe-service.
FROM build AS project
COPY LICENSE README.md ./
COPY contract contract
COPY hornpipe hornpipe
COPY service service
COPY training training
RUN python -m pip --python /opt/venv/bin/python install --no-deps --target /opt/hornpipe . \
    && cp -a /opt/hornpipe /opt/hornpipe-service \
    && rm -r /opt/hornpipe-service/training
COPY examples /opt/hornpipe/examples

# In each image, the import proves that nothing is missing, and leaves the bytecode that a read-only image cannot write.
FROM serving AS service
COPY --from=build /opt/venv /opt/venv
COPY --from=project /opt/hornpipe-service /opt/hornpipe
RUN PYTHONDONTWRITEBYTECODE='' python -c "import hornpipe, service.__main__, service.grpc.assembly, ai_edge_litert.interpreter, httptools, uvloop"
USER 10001:10001
ARG HORNPIPE_REVISION=unknown
LABEL org.opencontainers.image.revision=$HORNPIPE_REVISION

FROM build AS build-tf
RUN python -m pip --python /opt/venv/bin/python install -c constraints.txt -r service.txt -r grpc.txt -r tf.txt

FROM serving AS service-tf
COPY --from=build-tf /opt/venv /opt/venv
COPY --from=project /opt/hornpipe-service /opt/hornpipe
RUN PYTHONDONTWRITEBYTECODE='' python -c "import hornpipe, service.__main__, service.grpc.assembly, ai_edge_litert.interpreter, httptools, uvloop, tensorflow"
USER 10001:10001
ARG HORNPIPE_REVISION=unknown
LABEL org.opencontainers.image.revision=$HORNPIPE_REVISION

FROM build-tf AS build-trainer
RUN python -m pip --python /opt/venv/bin/python install -c constraints.txt \
    -r service.txt -r grpc.txt -r tf.txt -r train.txt -r examples.txt

FROM base AS trainer
COPY --from=build-trainer /opt/venv /opt/venv
COPY --from=project /opt/hornpipe /opt/hornpipe
RUN PYTHONDONTWRITEBYTECODE='' python -c "import hornpipe, service.__main__, service.grpc.assembly, training.command, examples.flights.prepare"
# Data that examples prepare (build/...) goes here; a volume here keeps it.
USER 10001:10001
ARG HORNPIPE_REVISION=unknown
# The first becomes part of every bundle: which code trained it. matplotlib keeps a list of fonts, and there is no home.
ENV HORNPIPE_REVISION=$HORNPIPE_REVISION \
    MPLCONFIGDIR=/tmp/matplotlib
LABEL org.opencontainers.image.revision=$HORNPIPE_REVISION
CMD ["hornpipe", "--help"]

# TensorBoard alone, which reads what runs wrote.
FROM lists AS build-tensorboard
RUN grep '^tensorboard' train.txt > tensorboard.txt \
    && python -m pip --python /opt/venv/bin/python install -c constraints.txt -r tensorboard.txt

FROM base AS tensorboard
COPY --from=build-tensorboard /opt/venv /opt/venv
RUN PYTHONDONTWRITEBYTECODE='' python -c "import tensorboard.main, tensorboard_data_server"
EXPOSE 6006
USER 10001:10001
ARG HORNPIPE_REVISION=unknown
LABEL org.opencontainers.image.revision=$HORNPIPE_REVISION
CMD ["tensorboard", "--logdir", "/runs", "--host", "0.0.0.0", "--port", "6006"]
