#!/bin/sh
# Signs with a key in a PKCS#11 token. RSA tokens hash for themselves; for ECDSA the digest goes in.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case $PRISM_SYSEXT_ALGORITHM in
    RS256) mechanism=SHA256-RSA-PKCS; cat >"$work/in" ;;
    ES256) mechanism=ECDSA; openssl dgst -sha256 -binary -out "$work/in" ;;
esac
# The PIN is read from the environment, so that it shows in no list of processes.
pkcs11-tool --module "$PKCS11_MODULE" --token-label "$PKCS11_TOKEN" --login --pin env:PKCS11_PIN \
    --sign --mechanism "$mechanism" --id "$PKCS11_KEY_ID" \
    --input-file "$work/in" --output-file "$work/out" >&2
cat "$work/out"
