# An image that runs offline, with a read-only root, as any user:
#
#   docker build -t segloss .                                 # CPU
#   docker build -t segloss:cuda --build-arg TORCH=cuda .     # NVIDIA GPUs
#   docker run --rm --network none --read-only --tmpfs /tmp --user "$(id -u):$(id -g)" \
#       -v /path/of/data:/data:ro -v /path/of/results:/results segloss study /data --out /results/study
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
RUN bash scripts/install.sh /opt/segloss "$TORCH" "$EXTRAS"

FROM python:${PYTHON}-slim-bookworm
COPY --from=build /opt/segloss /opt/segloss
RUN useradd --no-create-home --uid 1000 segloss
# USER and HOME also serve users without an entry in /etc/passwd. Caches go to /tmp, the only place that is written to
# besides the folders of the command line.
ENV PATH=/opt/segloss/bin:$PATH USER=segloss HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
WORKDIR /tmp
ENTRYPOINT ["segloss"]
CMD ["--help"]
