#!/bin/sh
# Writes onward/ from the protos, which are two folders up or in ./protos.
set -eu
cd "$(dirname "$0")"
protos=../../protos
[ -d protos ] && protos=protos
exec "${PYTHON:-python}" -m grpc_tools.protoc -I"$protos" --python_out="${1:-.}" \
  --pyi_out="${1:-.}" --grpc_python_out="${1:-.}" onward/notifier/v1/notifier.proto
