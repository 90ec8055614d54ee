/** Names of the events that the system itself measures; where each may stand says `SYSTEM_EVENTS`. */
export const EVENT = {
  systemPreparing: 'system-preparing',
  rootfsHash: 'rootfs-hash',
  appId: 'app-id',
  composeHash: 'compose-hash',
  initScriptHash: 'init-script-hash',
  gpuPolicyHash: 'gpu-policy-hash',
  gpuAttestation: 'gpu-attestation',
  instanceId: 'instance-id',
  bootMrDone: 'boot-mr-done',
  mrKms: 'mr-kms',
  osImageHash: 'os-image-hash',
  keyProvider: 'key-provider',
  storageFs: 'storage-fs',
  systemReady: 'system-ready',
} as const;

const RESERVED: ReadonlySet<string> = new Set(Object.values(EVENT));

/** Whether only the system may emit this name; every `gpu-` name is kept for releases to come. */
export function isReservedEvent(name: string): boolean {
  return RESERVED.has(name) || name.startsWith('gpu-');
}
