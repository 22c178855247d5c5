# framecast with Jupyter, for CPU or CUDA. Written against the images' documentation; no build of it has been tried yet.
#
#   docker build -t framecast .
#   docker build -t framecast:cuda --build-arg BASE=nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04 .
#   docker run --rm -v "$PWD:/data" framecast framecast train multiscale-gan --profile small --data /data/clip.mp4 --out /data/run
#   docker run --rm --gpus all -p 127.0.0.1:8888:8888 framecast:cuda
#
# Jupyter asks for the token that it prints. The port above is bound to loopback; do not publish it further.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

ENV DEBIAN_FRONTEND=noninteractive \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    VIRTUAL_ENV=/opt/framecast \
    PATH=/opt/framecast/bin:$PATH \
    FRAMECAST_CACHE=/var/cache/framecast

# The CUDA images carry no Python; the Python image already has its own.
RUN command -v python3 >/dev/null || { \
      apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*; } \
 && python3 -m venv /opt/framecast

WORKDIR /srv/framecast
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY framecast ./framecast
RUN pip install -c constraints.txt ".[atari]" jupyterlab
COPY examples ./examples

RUN useradd --create-home user && mkdir -p /var/cache/framecast && chown -R user /var/cache/framecast /srv/framecast
USER user

EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--port=8888", "--no-browser", "--notebook-dir=/srv/framecast/examples"]
