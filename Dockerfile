# One image for both: torch's wheels bring CUDA along, and without a GPU the CPU engine runs.
FROM python:3.11-slim

# On 0.0.0.0 the service asks for keys and does not start without one; a compose file that publishes
# the port on this machine alone may set ANAMORPH_INSECURE.
# Few malloc arenas: glibc otherwise keeps a peak's memory once for each thread.
ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    MALLOC_ARENA_MAX=2 \
    MPLCONFIGDIR=/tmp/matplotlib \
    TORCH_HOME=/data/torch \
    ANAMORPH_HOME=/data \
    ANAMORPH_HOST=0.0.0.0 \
    ANAMORPH_PORT=8000

RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin anamorph \
    && install -d -o anamorph -g anamorph /data

WORKDIR /srv/anamorph

# The dependencies are a layer of their own; an editable install finds the code copied afterwards.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir anamorph app models && pip install -q -c constraints.txt -e .
COPY anamorph anamorph
COPY app app
COPY models models
COPY recipes recipes
# Files of a clone made under a strict umask are for its owner alone, and the service is not root.
RUN chmod -R a+rX .

USER anamorph
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "from os import environ; from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:' + environ['ANAMORPH_PORT'] + '/readyz', timeout=4)"]
ENTRYPOINT ["anamorph"]
CMD ["serve"]
