/** Files of a new project on platform nitro, beside `app.json`. */

/** What `deploy` puts into `dstack/` of the build context is this version's own. */
export const ENCLAVE_DOCKERFILE = `# The application of an enclave. All of it is measured into PCR 0 and 2: pin the base image by its digest
# (FROM node:22-bookworm-slim@sha256:…), so that the same sources give the same hash.
FROM node:22-bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends iproute2 && rm -rf /var/lib/apt/lists/*
# dstack-cloud deploy puts its programs for enclaves into this folder of the build context.
COPY dstack/ /opt/dstack/
COPY app/ /app/
CMD ["/bin/sh", "/app/entrypoint.sh"]
`;

export const ENCLAVE_ENTRYPOINT = `#!/bin/sh
# deploy fills in the two values. The program finds its keys in the file that DSTACK_KEYS_FILE names.
KMS_URL="__KMS_URL__"
APP_ID="__APP_ID__"
exec node /opt/dstack/dstack-enclave-init.js --kms-url "$KMS_URL" --app-id "$APP_ID" \\
  --root-ca /app/root_ca.pem -- node /app/main.mjs
`;

export const ENCLAVE_MAIN = `// Runs inside the enclave, with the keys of the application. Nothing that it does not send leaves it.
import { readFileSync } from 'node:fs';

const keys = JSON.parse(readFileSync(process.env.DSTACK_KEYS_FILE, 'utf8'));
console.log(\`The application has its keys: \${Object.keys(keys).join(', ')}\`);
setInterval(() => undefined, 60_000);
process.once('SIGTERM', () => process.exit(0));
`;

export const ROOT_CA_PLACEHOLDER = `Put the root of your KMS here: the member ca_cert of its GetTempCaCert, PEM.
dstack-cloud measure --fetch-root-ca writes it.
`;
