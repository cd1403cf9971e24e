#!/bin/sh
# Signs with a key of Vault's transit engine, which returns `vault:vN:BASE64`.
set -eu
signature=$(vault write -field=signature "transit/sign/$VAULT_TRANSIT_KEY/sha2-256" \
    signature_algorithm=pkcs1v15 marshaling_algorithm=asn1 input="$(openssl base64 -A)")
printf %s "${signature##*:}" | openssl base64 -d -A
