# JupyterLab on the notebooks, for processors: PyTorch without CUDA, a gigabyte in place of several.
#
#   docker build -t alexnet .
#   docker run --rm -it -p 127.0.0.1:8888:8888 -v alexnet-lab:/alexnet/lab -v alexnet-runs:/alexnet/runs alexnet
#
# Lab prints an address with a token; only this machine reaches it. The volumes keep the reader's notebooks and runs.
# Pictures of your own: -v /path/to/pictures:/pictures -e ALEXNET_DATA=/pictures. A folder mounted on /alexnet/data would
# hide those that are built in.
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
