#!/bin/sh
# Writes the stubs (onward/) from the protos, which are three folders up or in ./protos.
set -eu
cd "$(dirname "$0")"
protos=../../../protos
[ -d protos ] && protos=protos
out="${1:-.}"
exec "${PYTHON:-python}" -m grpc_tools.protoc -I"$protos" --python_out="$out" --pyi_out="$out" \
  --grpc_python_out="$out" onward/extension/v1/extension.proto onward/types/v1/entry.proto
