import { parseArgs } from 'node:util';
import { readFileBounded } from '@dstack-cloud/app';
import { toHex, utf8Text } from '@dstack-cloud/encoding';
import { p256KeyFromScalar } from '@dstack-cloud/keys';
import { combineRoots, openShare } from '../backup/combine-roots.ts';
import { parseIdentities } from '../backup/recipient.ts';
import type { BackupShare } from '../backup/share.ts';
import type { BackupRoots } from '../backup/split-roots.ts';
import { assertDomain } from '../config/domain.ts';
import type { KmsConfig } from '../config/kms-config.ts';
import { KmsError } from '../errors.ts';
import { keyDirectoryState, recoverKeyDirectory } from '../key-directory/commit.ts';
import { lockKeyDirectory } from '../key-directory/lock.ts';
import { assertSelfAllowed, storeRoot } from '../onboard/store-root.ts';
import { openServices } from '../services.ts';
import { COMMON_OPTIONS, type Command, type CommandContext } from './command.ts';

const MAX_SHARE_BYTES = 64 * 1024;

/** `dstack-kms restore`: root keys from shares, into an empty key directory of a KMS that the policy allows. */
export const restoreCommand: Command = {
  usage: 'restore --share FILE... --identity FILE... [--domain NAME] [--cert-dir DIR]',
  summary: 'bring the root keys back from shares; never over existing ones',
  async run(args, context) {
    const { values } = parseArgs({
      args: [...args],
      options: {
        ...COMMON_OPTIONS,
        share: { type: 'string', multiple: true },
        identity: { type: 'string', multiple: true },
        domain: { type: 'string' },
        'cert-dir': { type: 'string' },
      },
    });
    const config = withCertDir(context.load(values.config), values['cert-dir']);
    const domain = values.domain ?? config.core.onboard.auto_bootstrap_domain;
    assertDomain(domain);
    const directory = config.core.cert_dir;
    await assertEmpty(directory);
    const lock = await lockKeyDirectory(directory);
    try {
      await recoverKeyDirectory(directory);
      await assertEmpty(directory);
      await restore(config, domain, values, context);
    } finally {
      await lock.release();
    }
  },
};

async function assertEmpty(directory: string): Promise<void> {
  if ((await keyDirectoryState(directory)) === 'empty') return;
  throw new KmsError('keys-exist', `${directory} has root keys already; they are never replaced`);
}

type Given = { readonly share?: string[] | undefined; readonly identity?: string[] | undefined };

async function restore(
  config: KmsConfig,
  domain: string,
  given: Given,
  context: CommandContext,
): Promise<void> {
  const roots = await combineRoots(await openShares(given.share ?? [], given.identity ?? []));
  try {
    const info = await storeRoots(config, roots, domain, context);
    context.print({ domain, k256_pubkey: toHex(info.k256Pubkey), ca_pubkey: toHex(info.caPubkey) });
  } finally {
    const { history, ...active } = roots;
    for (const secret of [active, ...history].flatMap((root) => Object.values(root))) secret.fill(0);
  }
}

function withCertDir(config: KmsConfig, directory: string | undefined): KmsConfig {
  return directory === undefined ? config : { ...config, core: { ...config.core, cert_dir: directory } };
}

/** Each share with whichever identity opens it. */
async function openShares(shares: readonly string[], identities: readonly string[]): Promise<BackupShare[]> {
  if (shares.length === 0 || identities.length === 0) {
    throw new KmsError(
      'backup-invalid',
      'restore needs --share FILE and --identity FILE, each at least once',
    );
  }
  const files = await Promise.all(identities.map(readText));
  const keys = files.flatMap(parseIdentities);
  return Promise.all(
    shares.map(async (path) => {
      const data = await readBytes(path);
      for (const key of keys) {
        const share = await openShare(data, key).catch(() => undefined);
        if (share !== undefined) return share;
      }
      throw new KmsError('backup-invalid', `${path} is a share for none of the identities, or is damaged`);
    }),
  );
}

/** Writes the key directory, if the policy allows this machine to be a KMS. */
async function storeRoots(
  config: KmsConfig,
  roots: BackupRoots,
  domain: string,
  { log, now }: CommandContext,
): ReturnType<typeof storeRoot> {
  const services = openServices(config, { log, now });
  try {
    await assertSelfAllowed(services, 'restore');
    const shared = {
      ca: p256KeyFromScalar(roots.caScalar),
      tempCa: p256KeyFromScalar(roots.tempCaScalar),
      k256: roots.k256,
      history: roots.history.map(({ caScalar, k256 }) => ({ ca: p256KeyFromScalar(caScalar), k256 })),
    };
    const info = await storeRoot(services, shared, domain);
    const { simulated } = services;
    log.warn({ domain, k256_pubkey: toHex(info.k256Pubkey), simulated }, 'root keys restored from shares');
    return info;
  } finally {
    services.close();
  }
}

async function readText(path: string): Promise<string> {
  return utf8Text(await readBytes(path));
}

async function readBytes(path: string): Promise<Uint8Array> {
  try {
    return await readFileBounded(path, MAX_SHARE_BYTES);
  } catch (cause) {
    throw new KmsError('backup-invalid', `${path} cannot be read`, { cause });
  }
}
