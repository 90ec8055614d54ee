import { verify } from '@dstack-cloud/verifier';
import { CliError } from '../errors.ts';
import type { Place } from '../platforms/platform.ts';
import { getSubject } from '../verify/subject.ts';
import { loadTrust } from '../verify/trust.ts';

/**
 * The device that a running machine proves to be on: SHA-256 of its hardware id, 64 hex digits. A guest cannot know it
 * by itself, and contracts are given it, so it comes from verified evidence only.
 *
 * @throws CliError: why it is not known
 */
export async function deviceId({ context, config }: Place, agent: string): Promise<string> {
  const { evidence, nonce } = await getSubject(agent, context.directory);
  const report = await verify(evidence, {
    ...(await loadTrust(context, config)),
    now: Math.floor(context.now().getTime() / 1000),
    ...(nonce === undefined ? {} : { nonce }),
  });
  if (report.isValid && report.fresh && report.appInfo !== undefined) return report.appInfo.device_id;
  throw new CliError('not_verified', report.reason ?? 'The evidence names no device');
}
