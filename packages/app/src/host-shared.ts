/** Name of one host-shared file. */
export type HostSharedName =
  | 'app-compose.json'
  | '.sys-config.json'
  | '.instance_info'
  | '.encrypted-env'
  | '.user-config'
  | '.seal-approval.json';

/** Names and largest sizes in bytes of what the host hands to the guest. */
export const HOST_SHARED_LIMITS: Readonly<Record<HostSharedName, number>> = {
  'app-compose.json': 256 * 1024,
  '.sys-config.json': 32 * 1024,
  '.instance_info': 10 * 1024,
  '.encrypted-env': 256 * 1024,
  '.user-config': 1024 * 1024,
  '.seal-approval.json': 1024,
};

/** The files without which a guest does not boot. */
export const HOST_SHARED_REQUIRED: readonly HostSharedName[] = ['app-compose.json', '.sys-config.json'];

/** Files that the guest itself writes beside its copies, all of mode 0600. */
export const GUEST_FILES = {
  appKeys: '.appkeys.json',
  decryptedEnv: '.decrypted-env',
  decryptedEnvJson: '.decrypted-env.json',
  /** The decrypted environment as `env_file: .env` of a compose file gives it. */
  composeEnv: '.compose-env',
} as const;
