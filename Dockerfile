# JupyterLab on the notebooks, for processors: PyTorch without CUDA, a gigabyte in place of several.
#
#   docker build -t alexnet .
#   docker run --rm -it -p 127.0.0.1:8888:8888 alexnet
#
# Lab prints an address with a token; only this machine reaches it. Volumes at /alexnet/data and /alexnet/runs keep what
# is prepared and trained.
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends make chromium && rm -rf /var/lib/apt/lists/*
WORKDIR /alexnet
COPY . .
RUN python3 -m venv .venv \
    && .venv/bin/python -m pip install --no-cache-dir uv \
    && .venv/bin/uv pip install --no-cache --torch-backend=cpu -e ".[test,docs]" \
    && touch .venv/installed
EXPOSE 8888
# 0.0.0.0 inside the container: which machines reach it is for `-p` to say
CMD ["make", "lab", "LAB=--ip=0.0.0.0 --allow-root --no-browser"]
