#!/bin/sh
# Writes gen/ from the protos, which are two folders up or in ./protos. Run by `go generate`. PROTOC is
# any protoc; `python -m grpc_tools.protoc` will do. The generators are tools of go.mod.
set -eu
cd "$(dirname "$0")"
protos=../../protos
[ -d protos ] && protos=protos
package=example.org/onward-notifier/gen
# shellcheck disable=SC2086  # PROTOC may be several words
exec ${PROTOC:-protoc} -I"$protos" \
  --plugin=protoc-gen-go="$(go tool -n protoc-gen-go)" --go_out="${1:-gen}" \
  --plugin=protoc-gen-go-grpc="$(go tool -n protoc-gen-go-grpc)" --go-grpc_out="${1:-gen}" \
  --go_opt=module=$package,Monward/notifier/v1/notifier.proto=$package/notifierv1 \
  --go-grpc_opt=module=$package,Monward/notifier/v1/notifier.proto=$package/notifierv1 \
  onward/notifier/v1/notifier.proto
