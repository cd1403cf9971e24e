#!/bin/sh
# Signs with a key of Azure Key Vault, which takes the digest and returns the signature, both base64.
set -eu
digest=$(openssl dgst -sha256 -binary | openssl base64 -A)
signature=$(az keyvault key sign --id "$AZURE_KEY_ID" --algorithm "$PRISM_SYSEXT_ALGORITHM" \
    --digest "$digest" --query signature --output tsv)
printf %s "$signature" | tr -- -_ +/ | openssl base64 -d -A
