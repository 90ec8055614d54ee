/** What the OS image has: one program for a whole machine. */
export const IMAGE_PROGRAMS: Readonly<Record<string, string>> = {
  'dstack-guest': 'packages/guest-agent/src/guest-main.ts',
};

/** Every program of the product and the source file it starts from, relative to the checkout. */
export const PROGRAMS: Readonly<Record<string, string>> = {
  ...IMAGE_PROGRAMS,
  'dstack-prepare': 'packages/guest-agent/src/prepare-main.ts',
  'dstack-guest-agent': 'packages/guest-agent/src/agent-main.ts',
  'dstack-app-runner': 'packages/guest-agent/src/runner-main.ts',
  'dstack-util': 'packages/util/src/main.ts',
  'dstack-enclave-init': 'packages/util/src/enclave/enclave-init-main.ts',
  'dstack-vsock-proxy': 'packages/vsock/src/proxy/vsock-proxy-main.ts',
  'dstack-cloud': 'cli/src/main.ts',
  'dstack-kms': 'kms/src/main.ts',
  'dstack-auth-api': 'packages/auth-api/src/main.ts',
  'dstack-certbot': 'packages/certbot/src/certbot-main.ts',
  'dstack-ct-monitor': 'packages/certbot/src/ct-monitor-main.ts',
  'dstack-gateway': 'packages/gateway/src/main.ts',
  'dstack-vmm': 'packages/vmm/src/main.ts',
  'dstack-conformance': 'packages/conformance/src/main.ts',
  'dstack-simulator': 'packages/simulator/src/main.ts',
  'dstack-tee-simulator': 'packages/tee-simulator/src/main.ts',
  'dstack-verifier': 'packages/verifier/src/main.ts',
  hardhat: 'contracts/src/tasks/hardhat-main.ts',
};

/** What an application in an enclave is started with, and can use. */
export const ENCLAVE_PROGRAMS: readonly string[] = ['dstack-enclave-init', 'dstack-util'];

/** What runs on the parent instance of an enclave. */
export const NITRO_HOST_PROGRAMS: readonly string[] = ['dstack-vsock-proxy'];

/** Services that are made into container images, one program in each. */
export const CONTAINER_PROGRAMS: readonly string[] = ['dstack-kms', 'dstack-auth-api', 'dstack-verifier'];
