#!/usr/bin/env bash
# Checks the Helm chart in k8s/: lint, golden renders, schemas of two Kubernetes versions, Pod Security, configurations.
#
#   scripts/chart.sh           compares with k8s/manifests
#   scripts/chart.sh --write   renews k8s/manifests and the chart's copy of the alerts
#
# AFFLUX_BIN=PATH has that program check every afflux.yaml as well. STRIMZI_CRDS=DIR, with the CRDs of Strimzi's release,
# has k8s/examples/strimzi.yaml validated. Needs go and python3.
set -euo pipefail
cd "$(dirname "$0")/.."

HELM=v3.22.0
VALIDATE=v0.0.4         # kubectl-validate, which brings the schemas of Kubernetes 1.30
OLDEST=1.30              # the chart's kubeVersion
NEWEST=v1.37.2          # whose own schemas are taken
KEDA=v2.21.0
PROMETHEUS_OPERATOR=v0.85.0

tools="${AFFLUX_CACHE:-$HOME/.cache/afflux}/tools"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
write=false
case "${1:-}" in
  "") ;;
  --write) write=true ;;
  *) echo "usage: $0 [--write]" >&2; exit 2 ;;
esac

# Installs a command unless that version of it is there.
command_of() { # NAME PACKAGE VERSION
  if [[ ! -x "$tools/bin/$1" || $(cat "$tools/bin/$1.version" 2>/dev/null) != "$3" ]]; then
    GOBIN="$tools/bin" go install "$2@$3"
    echo "$3" >"$tools/bin/$1.version"
  fi
}

# Prints the directory of a Go module's files.
module() { (cd "$out" && go mod download -json "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])'); }

# Brings the schemas of a Kubernetes release into the directories that kubectl-validate looks for.
schemas="$tools/schemas/$NEWEST"
if [[ ! -d "$schemas" ]]; then
  from=$(module "k8s.io/kubernetes@$NEWEST")
  rm -rf "$schemas.part" && mkdir -p "$schemas.part/api"
  for file in "$from"/api/openapi-spec/v3/api*__v*_openapi.json; do
    name=$(basename "$file" _openapi.json)
    mkdir -p "$schemas.part/$(dirname "${name//__//}")"
    install -m 644 "$file" "$schemas.part/${name//__//}.json"
  done
  mv "$schemas.part" "$schemas"
fi
crds="$tools/schemas/crds-keda-$KEDA-prometheus-$PROMETHEUS_OPERATOR"
if [[ ! -d "$crds" ]]; then
  keda=$(module "github.com/kedacore/keda/v2@$KEDA")
  operator=$(module "github.com/prometheus-operator/prometheus-operator@$PROMETHEUS_OPERATOR")
  rm -rf "$crds.part" && mkdir -p "$crds.part"
  install -m 644 -t "$crds.part" "$keda"/config/crd/bases/keda.sh_{scaledobjects,triggerauthentications}.yaml \
    "$operator"/example/prometheus-operator-crd/monitoring.coreos.com_{servicemonitors,prometheusrules}.yaml
  mv "$crds.part" "$crds"
fi
command_of helm helm.sh/helm/v3/cmd/helm "$HELM"
command_of kubectl-validate sigs.k8s.io/kubectl-validate "$VALIDATE"
PATH="$tools/bin:$PATH"
# PyYAML is among what the suites' Python has.
python=$(bash tests/peers/python/install.sh | tail -n 1)
# Whatever cluster somebody has at hand is not asked.
export KUBECONFIG=/dev/null

# Helm takes only files that lie in the chart.
alerts=deploy/prometheus/alerts.yml
if [[ -e $alerts ]]; then
  if $write; then cp "$alerts" k8s/afflux/files/alerts.yml; fi
  diff -u k8s/afflux/files/alerts.yml "$alerts" || { echo "the chart's alerts are old: $0 --write" >&2; exit 1; }
fi

# All renders: a name, and the values files below k8s/values. Those in k8s/manifests are the golden ones.
renders=(
  "edge edge"
  "edge-scaled edge monitored scaled"
  "central central"
  "central-scaled central monitored scaled"
)
validate() { # ARGUMENTS OF kubectl-validate…
  echo "== schemas of Kubernetes $OLDEST, then ${NEWEST%.*}"
  kubectl-validate --version "$OLDEST" --local-crds "$crds" "$@"
  kubectl-validate --version "$OLDEST" --local-schemas "$schemas" --local-crds "$crds" "$@"
}

echo "== values.yaml alone"
helm lint --strict k8s/afflux
for render in "${renders[@]}"; do
  read -r name files <<<"$render"
  values=()
  for file in $files; do values+=(--values "k8s/values/$file.yaml"); done
  # An edge's namespace admits host paths, the centre's does not.
  namespace=afflux
  if [[ $name == edge* ]]; then namespace=afflux-edge; fi
  echo "== $name: $files"
  helm lint --strict k8s/afflux --namespace "$namespace" "${values[@]}"
  # As the oldest Kubernetes sees it, so that nothing newer slips in.
  helm template afflux k8s/afflux --namespace "$namespace" --kube-version "$OLDEST.0" --set plain=true "${values[@]}" >"$out/$name.yaml"
  "$python" k8s/check.py security "$out/$name.yaml"
  if [[ -n "${AFFLUX_BIN:-}" ]]; then "$python" k8s/check.py configs "$out/$name.yaml" "$AFFLUX_BIN"; fi
  "$python" k8s/check.py served "$out/$name.yaml" "$schemas" "$crds"
  validate "$out/$name.yaml"
  golden="k8s/manifests/$name.yaml"
  if [[ $name == edge-scaled ]]; then continue; fi # shows nothing that the others do not
  if $write; then cp "$out/$name.yaml" "$golden"; fi
  diff -u "$golden" "$out/$name.yaml" || { echo "$golden is old: $0 --write, and read the diff" >&2; exit 1; }
done

# As Helm installs it: with its labels, and without the Namespace.
helm template afflux k8s/afflux --namespace afflux --kube-version "$OLDEST.0" --values k8s/values/central.yaml >"$out/helm.yaml"
validate "$out/helm.yaml"

if [[ -n "${STRIMZI_CRDS:-}" ]]; then
  validate --local-crds "$STRIMZI_CRDS" k8s/examples
else
  echo "NOT validated: k8s/examples, for which STRIMZI_CRDS has to name Strimzi's CRDs"
fi
if [[ -z "${AFFLUX_BIN:-}" ]]; then echo "NOT checked: afflux.yaml in the ConfigMaps, for which AFFLUX_BIN has to name the program"; fi
echo "the chart is right"
