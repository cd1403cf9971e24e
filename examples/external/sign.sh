#!/bin/sh
# Standard input: the bytes to sign, 64 hex characters. Standard output: the raw signature of their
# SHA-256 (RSA PKCS#1 v1.5 or ECDSA), nothing else. Services that take a digest:
#
#   pkcs11-tool --sign --mechanism SHA256-RSA-PKCS --id 01            # the bytes on standard input
#   az keyvault key sign --algorithm RS256 --digest "$(printf %s "$PRISM_SYSEXT_SHA256" | xxd -r -p | base64)" …
#   vault write -field=signature transit/sign/KEY/sha2-256 prehashed=true signature_algorithm=pkcs1v15 input=…
#
# The latter two print base64, which has to be decoded here.
exec openssl dgst -sha256 -sign ../verity_key.pem
