import { readFileBounded } from '@dstack-cloud/app';
import { pinnedRootsOf } from '@dstack-cloud/ra-tls';
import type { GlobalConfig } from '../config/global-config.ts';
import { CliError } from '../errors.ts';
import type { Project } from '../project/app-config.ts';
import { enclaveFilePath } from '../project/project-path.ts';

/** As `dstack-enclave-init` bounds it. */
const MAX_ROOT_CA = 256 * 1024;
/** Stands between quotes in a shell script: nothing of it may end them, or be replaced. */
const PLAIN_VALUE = /^[A-Za-z0-9.:/_[\]~%-]+$/;

/** What the image of a project that gets its keys from a KMS is filled in with. */
export interface EnclaveKms {
  readonly kmsUrl: string;
  /** 40 hex digits. */
  readonly appId: string;
}

/** Undefined for a project that takes no keys from a KMS. @throws CliError `bad_app_json` */
export function enclaveKms(config: GlobalConfig, { config: app }: Project): EnclaveKms | undefined {
  if (app.key_provider === 'tpm')
    throw new CliError('bad_app_json', 'An enclave has no TPM', {
      expected: 'key_provider kms, or none',
      found: app.key_provider,
      hint: 'Set key_provider in app.json',
    });
  if (app.key_provider !== 'kms') return undefined;
  const kmsUrl = app.nitro_config.kms_url || config.services.kms_urls[0];
  if (kmsUrl === undefined)
    throw new CliError('bad_app_json', 'Nothing says which KMS the enclave gets its keys from', {
      hint: 'Set nitro_config.kms_url in app.json, or services.kms_urls (dstack-cloud config-edit)',
    });
  if (!URL.canParse(kmsUrl) || new URL(kmsUrl).protocol !== 'https:' || !PLAIN_VALUE.test(kmsUrl))
    throw new CliError('bad_app_json', 'The URL of the KMS cannot be put into an enclave image', {
      expected: 'https://HOST:PORT, of letters, digits and .:/_-',
      found: kmsUrl,
    });
  if (app.app_id === undefined)
    throw new CliError('bad_app_json', 'app.json has no app_id', {
      hint: 'Make the app contract with dstack-cloud app create, or add "app_id": 40 hex digits',
    });
  return { kmsUrl: kmsUrl.replace(/\/+$/, ''), appId: app.app_id };
}

/** `HOST:PORT` that the enclave must reach. */
export function kmsTarget({ kmsUrl }: EnclaveKms): string {
  const { hostname, port } = new URL(kmsUrl);
  return `${hostname}:${port || '443'}`;
}

/**
 * The pinned root of the KMS, by the rules of the enclave that will read it: an image with another file would never get
 * keys.
 *
 * @throws CliError `bad_app_json`, `file_missing`
 */
export async function readRootCa(project: Project): Promise<Uint8Array> {
  const path = await enclaveFilePath(project, 'root_ca');
  let bytes: Uint8Array;
  try {
    bytes = await readFileBounded(path, MAX_ROOT_CA);
  } catch (cause) {
    throw new CliError('file_missing', `${path} cannot be read`, {
      cause,
      hint: 'It is the root of the KMS, PEM',
    });
  }
  const found = pinnedRootsOf(new TextDecoder().decode(bytes));
  if ('spkis' in found) return bytes;
  throw new CliError('bad_app_json', `${path} ${found.problem}`, {
    ...(found.cause === undefined ? {} : { cause: found.cause }),
    hint: 'dstack-cloud measure --fetch-root-ca asks the KMS for it and prints its SHA-256: compare that with what the operator of the KMS says',
  });
}
