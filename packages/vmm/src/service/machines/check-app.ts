import {
  type AppCompose,
  AppError,
  assertKnown,
  assertSupported,
  checkRequirements,
  DISK_MACHINE,
  HOST_SHARED_LIMITS,
  parseAppCompose,
} from '@dstack-cloud/app';
import { explainStayingFiles, readComposeFile } from '@dstack-cloud/app/compose-file';
import { utf8 } from '@dstack-cloud/encoding';
import { VmmError } from '../../errors.ts';

/** The image that the application is to run on, as far as it matters to it. */
export interface AppHost {
  readonly version: string;
  readonly commandLine: string;
  /** Whether it has a TEE, a simulated one included. */
  readonly hasTee: boolean;
  /** How many it has. */
  readonly gpus: number;
}

/** Only our own images name their flavour; what others can do is not known to this host. */
const OWN_IMAGE = /(?:^| )dstack\.flavour=/;

/**
 * Refuses an app-compose.json that its guest would refuse, by the guest's own code.
 *
 * @throws VmmError `bad_option`
 */
export function checkApp(
  composeFile: string,
  userConfig: string,
  encryptedEnv: Uint8Array,
  host: AppHost,
): AppCompose {
  requireSize('compose_file', utf8(composeFile).length, HOST_SHARED_LIMITS['app-compose.json']);
  requireSize('user_config', utf8(userConfig).length, HOST_SHARED_LIMITS['.user-config']);
  requireSize('encrypted_env', encryptedEnv.length, HOST_SHARED_LIMITS['.encrypted-env']);
  try {
    const compose = parseAppCompose(composeFile);
    if (OWN_IMAGE.test(host.commandLine)) assertSupported(compose, DISK_MACHINE);
    else assertKnown(compose);
    if (compose.runner === 'docker-compose') requireStartable(compose, encryptedEnv.length > 0);
    if (host.hasTee) {
      const user = userConfig === '' ? undefined : utf8(userConfig);
      const osVersion = host.version === '' ? undefined : host.version;
      checkRequirements(compose, { platform: 'dstack-tdx', osVersion, userConfig: user, gpus: host.gpus });
    }
    return compose;
  } catch (cause) {
    if (!(cause instanceof AppError)) throw cause;
    const { expected, found } = cause;
    throw new VmmError('bad_option', cause.message, {
      cause,
      ...(expected === undefined ? {} : { expected }),
      ...(found === undefined ? {} : { found }),
    });
  }
}

/** Refuses what needs files that only its author has, such as a build context. */
function requireStartable(
  { dockerComposeFile = '', preLaunchScript = '', initScripts }: AppCompose,
  hasSealedEnv: boolean,
): void {
  const file = readComposeFile(dockerComposeFile);
  const scripts = [preLaunchScript, ...initScripts];
  const blockers = blockersOf(file, { hasSealedEnv, scripts });
  if (blockers.length > 0) throw new AppError('compose-file-unsupported', blockers.join('; '));
}

function blockersOf(...[file, options]: Parameters<typeof explainStayingFiles>): readonly string[] {
  try {
    return explainStayingFiles(file, options).blockers;
  } catch (error) {
    // Docker in the guest does what our own reader does not.
    if (error instanceof AppError && error.code === 'compose-file-unsupported') return [];
    throw error;
  }
}

function requireSize(name: string, size: number, limit: number): void {
  if (size <= limit) return;
  throw new VmmError('bad_option', `${name} has ${size} bytes; the guest takes ${limit} at most`, {
    expected: `at most ${limit} bytes`,
    found: `${size} bytes`,
  });
}
