import { parseRaTlsCertificate } from '@dstack-cloud/ra-tls';
import { parseTime, type Report, VerifierError, verify, withBundle } from '@dstack-cloud/verifier';
import type { Hex } from 'viem';
import { loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { appPolicyHash } from '../project/app-policy-hash.ts';
import { getSubject, type Subject } from '../verify/subject.ts';
import { loadTrust, pccsUrl } from '../verify/trust.ts';
import { peerCertificate } from './peer-certificate.ts';
import type { Workload, WorkloadOptions } from './workload.ts';

/**
 * What verified evidence says: it is good now, with collateral of now, or at a time that the caller names. For that time a
 * bundle brings its collateral along; else collateral that is weeks old would hide what was revoked since.
 * @throws CliError `not_verified`
 */
export async function workloadOfEvidence(
  context: Context,
  target: string,
  options: WorkloadOptions,
): Promise<Workload> {
  const config = await loadGlobalConfig(context);
  const { source, evidence, nonce, bundle } = await subjectOf(context, target, options);
  const trust = await loadTrust(context, config);
  const given = {
    ...trust,
    now: options.at === undefined ? Math.floor(context.now().getTime() / 1000) : timeOf(options.at),
    readRaTls: parseRaTlsCertificate,
    ...(nonce === undefined ? {} : { nonce }),
  };
  const report = await verify(
    evidence,
    bundle === undefined
      ? given
      : withBundle(bundle, given, { time: true, collateral: options.at === undefined }),
  );
  if (!report.isValid || report.appInfo === undefined) throw notVerified(source, report, pccsUrl(config));
  if (!report.verifiedNow) {
    context.warn(
      `The evidence was verified for ${options.at}, not for now: its collateral may be revoked since`,
    );
  }
  const { appInfo, mode } = report;
  const isNitro = mode.includes('nitro-enclave');
  const hashes = { composeHash: appInfo.compose_hash, osImageHash: appInfo.os_image_hash };
  const hash = (value: string): Hex => `0x${value}`;
  const isKms = options.role === 'kms';
  return {
    ...{ role: options.role, source },
    // An enclave's app id is not measured: whoever runs it chooses it.
    appId: isKms || isNitro || appInfo.app_id === '' ? undefined : hash(appInfo.app_id),
    composeHash: isKms ? undefined : hash(appPolicyHash(isNitro, hashes)),
    osImageHash: hash(appInfo.os_image_hash),
    mrAggregated: isKms ? hash(appInfo.mr_aggregated) : undefined,
    deviceId: hash(appInfo.device_id),
    tcbStatus: report.tcbStatus,
    advisoryIds: report.advisoryIds,
    simulated: report.simulated,
  };
}

/** A KMS has its evidence in its certificate, a guest agent makes some for a nonce of ours. */
async function subjectOf(context: Context, target: string, { role }: WorkloadOptions): Promise<Subject> {
  try {
    return await getSubject(target, context.directory);
  } catch (error) {
    const isKms = role === 'kms' && /^https:/i.test(target) && URL.canParse(target);
    if (!isKms || !(error instanceof CliError) || error.code !== 'unreachable') throw error;
    context.debug(`${target} is no guest agent (${error.message}): its certificate is taken`);
    return { source: `the certificate of ${target}`, evidence: await peerCertificate(new URL(target)) };
  }
}

function timeOf(text: string): number {
  try {
    return parseTime(text);
  } catch (error) {
    if (!(error instanceof VerifierError)) throw error;
    throw new CliError('bad_argument', error.message, { cause: error, exitCode: EXIT.usage });
  }
}

function notVerified(source: string, report: Report, collateral: string): CliError {
  const failed = report.checks.find(({ ok }) => !ok);
  const { expected, found } = failed ?? {};
  return new CliError(
    'not_verified',
    `${source} does not verify: ${failed === undefined ? '' : `${failed.id}: `}${report.reason ?? 'it names no workload'}`,
    {
      ...(expected === undefined ? {} : { expected }),
      ...(found === undefined ? {} : { found }),
      hint: report.cannotJudge
        ? `Collateral is missing (${collateral}): nothing is registered without it`
        : 'Nothing was sent. See dstack-cloud verify for every check',
    },
  );
}
