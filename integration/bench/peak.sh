#!/usr/bin/env bash
# Peak memory of a signed build of 1 GB, whole process: integration/bench/peak.sh [RUNS]
# Needs 2.1 GB of disk and GNU time; uses target/release/prism-sysext.
set -euo pipefail
program=$(realpath "$(dirname "$0")/../../target/release/prism-sysext")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir -p project/root/usr/share/big/many
head -c 600000000 /dev/urandom >project/root/usr/share/big/one
for i in 1 2 3 4 5; do head -c 84000000 /dev/urandom >"project/root/usr/share/big/part$i"; done
for i in $(seq 2000); do echo "$i" >"project/root/usr/share/big/many/$i"; done
"$program" sign keygen --quiet --key key.pem --certificate project/cert.crt >/dev/null
cat >project/config.yaml <<'YAML'
sysext:
  target: azurelinux-3.0
  verityKey: file:../key.pem
  verityCertificate: cert.crt
  extensions: [{name: big, tree: root}]
YAML
for _ in $(seq "${1:-3}"); do
    /usr/bin/time -f '%M KiB peak, %e s wall, %U s user, %S s system' \
        "$program" build --config-file project/config.yaml --quiet >/dev/null
done
