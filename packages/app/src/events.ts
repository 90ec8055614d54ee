/** Names of the runtime events that the boot writes, in the order of chapter 20 section 2.6. */
export const EVENT = {
  systemPreparing: 'system-preparing',
  appId: 'app-id',
  composeHash: 'compose-hash',
  initScriptHash: 'init-script-hash',
  instanceId: 'instance-id',
  bootMrDone: 'boot-mr-done',
  mrKms: 'mr-kms',
  osImageHash: 'os-image-hash',
  keyProvider: 'key-provider',
  storageFs: 'storage-fs',
  systemReady: 'system-ready',
} as const;

const RESERVED: ReadonlySet<string> = new Set(Object.values(EVENT));

/** Whether only the system may emit this name: chapter 30 section 1.8, with every `gpu-` name. */
export function isReservedEvent(name: string): boolean {
  return RESERVED.has(name) || name.startsWith('gpu-');
}
