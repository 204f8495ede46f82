# An image that runs offline, with a read-only root, as any user:
#
#   docker build -t whichloss .                                 # CPU
#   docker build -t whichloss:cuda --build-arg TORCH=cuda .     # NVIDIA GPUs
#   docker run --rm --network none --read-only --tmpfs /tmp --user "$(id -u):$(id -g)" \
#       -v /path/of/data:/data:ro -v /path/of/results:/results whichloss study /data --out /results/study
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
# cpu or cuda; and extras of pyproject.toml, e.g. nnunet,ray
ARG TORCH=cpu
ARG EXTRAS=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY scripts/setup.sh scripts/install.sh scripts/
COPY pipeline pipeline
RUN bash scripts/install.sh /opt/whichloss "$TORCH" "$EXTRAS"

FROM python:${PYTHON}-slim-bookworm
COPY --from=build /opt/whichloss /opt/whichloss
RUN useradd --no-create-home --uid 1000 whichloss
# USER and HOME also serve users without an entry in /etc/passwd. Caches go to /tmp, the only place that is written to
# besides the folders of the command line.
ENV PATH=/opt/whichloss/bin:$PATH USER=whichloss HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
WORKDIR /tmp
ENTRYPOINT ["whichloss"]
CMD ["--help"]
