import { parseArgs } from 'node:util';
import { toHex } from '@dstack-cloud/encoding';
import { errorChain } from '@dstack-cloud/runtime';
import { openAudit } from '../audit/audit-log.ts';
import { lockKeyDirectory } from '../key-directory/lock.ts';
import { type Rotated, rotateRoot } from '../onboard/rotate-root.ts';
import { openServices, type Services } from '../services.ts';
import { COMMON_OPTIONS, type Command } from './command.ts';
import { rootFacts } from './roots-command.ts';

/** `dstack-kms rotate-root`: a new root, the old one to the history; while the KMS is stopped. */
export const rotateRootCommand: Command = {
  usage: 'rotate-root [--retire ID]',
  summary: 'make a new root and retire the present one; the KMS must be stopped',
  async run(args, { load, log, now, print }) {
    const { values } = parseArgs({
      args: [...args],
      options: { ...COMMON_OPTIONS, retire: { type: 'string' } },
    });
    const config = load(values.config);
    const lock = await lockKeyDirectory(config.core.cert_dir);
    const services = openServices(config, { log, now });
    try {
      const rotated = await rotateRoot(services, values.retire);
      const recorded = await record(services, rotated);
      const { keys, resumed } = rotated;
      const { simulated } = services;
      log.warn({ root: keys.id, retired: keys.history[0]?.id, resumed, simulated }, 'root rotated');
      print({
        ...rootFacts(keys),
        attestation: toHex(keys.bootstrapInfo?.attestation ?? new Uint8Array()),
        retired: keys.history.map(({ id }) => id),
        resumed,
        recorded,
      });
    } finally {
      services.close();
      await lock.release();
    }
  },
};

/**
 * Writes the hand-over into the audit log. The rotation has happened by now; when this fails, the KMS writes it before
 * it serves again, or does not serve.
 */
async function record({ config, metrics, log, now }: Services, { keys }: Rotated): Promise<boolean> {
  try {
    const audit = await openAudit({ config, keys, metrics, log, now });
    await audit.close();
    return config.core.audit.enabled;
  } catch (error) {
    log.error({ error: errorChain(error) }, 'the rotation is not in the audit log yet');
    return false;
  }
}
