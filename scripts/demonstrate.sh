#!/bin/sh
# Shows a running cluster: the example Services of examples/dual-stack.yaml, asked over both families from a node.
set -eu
cd "$(dirname "$0")/.."
name=${1:-twinstack}
KUBECONFIG=$(.venv/bin/twinstack kubeconfig --name "$name")
export KUBECONFIG
kubectl() { .venv/bin/kubectl "$@"; }
say() { printf '\n$ %s\n' "$*"; "$@"; }

say kubectl apply -f examples/dual-stack.yaml
say kubectl rollout status deployment/hello --timeout=60s
say kubectl get pods -l app=hello -o 'custom-columns=NAME:.metadata.name,NODE:.spec.nodeName,IPS:.status.podIPs[*].ip'
say kubectl get services -o 'custom-columns=NAME:.metadata.name,POLICY:.spec.ipFamilyPolicy,FAMILIES:.spec.ipFamilies,ADDRESSES:.spec.clusterIPs,PORTS:.spec.ports[*].nodePort'

node="$name-$(kubectl get nodes --no-headers | wc -l)"
addresses=$(kubectl get service hello-prefer -o 'jsonpath={.spec.clusterIPs[*]}')
for address in $addresses; do
    case $address in
    *:*) family=-6 url="http://[$address]" ;;
    *) family=-4 url="http://$address" ;;
    esac
    say .venv/bin/twinstack node-exec --name "$name" "$node" -- curl "$family" -sS --max-time 5 "$url"
done
