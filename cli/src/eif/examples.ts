export const EIF_BUILD_EXAMPLES = `
Examples:
  docker save my-app:1.0 -o app.tar
  dstack-cloud eif build --image app.tar --blobs /usr/share/nitro_enclaves/blobs --pcr1 aws -o app.eif
  dstack-cloud eif build --root rootfs --blobs blobs -o app.eif -- /bin/app --port 8080
  dstack-cloud eif build --image app.tar -o app.eif --signing-certificate cert.pem --private-key key.pem`;

export const EIF_MEASURE_EXAMPLES = `
Examples:
  dstack-cloud eif measure app.eif
  dstack-cloud eif measure app.eif --json > measurements.json`;

export const EIF_DESCRIBE_EXAMPLES = `
Examples:
  dstack-cloud eif describe app.eif
  dstack-cloud eif describe app.eif --json | jq .Metadata`;

export const EIF_SIGN_EXAMPLES = `
Examples:
  dstack-cloud eif sign app.eif --signing-certificate cert.pem --private-key key.pem
  dstack-cloud eif sign app.eif -o signed.eif --signing-certificate cert.pem \\
    --sign-command 'openssl dgst -sha384 -sign key.pem'
The command gets about 200 bytes on standard input. It signs them by ECDSA with the hash of its curve (SHA-384 for
P-384) and prints the signature: DER or r and s, in bytes or base64.`;

export const EIF_VERIFY_EXAMPLES = `
Examples:
  dstack-cloud eif verify app.eif --measurements measurements.json
  dstack-cloud eif verify app.eif --signing-certificate cert.pem
  dstack-cloud eif verify app.eif --expect PCR0=HEX --expect PCR2=HEX
Ends with 4 when the image is refused.`;
