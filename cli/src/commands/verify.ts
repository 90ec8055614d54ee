import type { GlobalConfig } from '../config/global-config.ts';
import { loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { loadPlatform } from '../platforms/platform.ts';
import { findProject, loadProject } from '../project/app-config.ts';
import { requireProjectState } from '../project/state-file.ts';
import { chainLinks } from '../verify/chain-links.ts';
import { getEvidence } from '../verify/evidence.ts';
import { printReport } from '../verify/print-report.ts';
import { loadTrust } from '../verify/trust.ts';
import { type Expectation, verifyEvidence } from '../verify/verify-evidence.ts';

/** `verify [URL|FILE]`: every link from the silicon to the policy, and one verdict; exit 1 when one is broken. */
export async function run(
  context: Context,
  args: readonly (string | undefined)[],
  flags: Readonly<Record<string, unknown>>,
): Promise<number> {
  const config = await loadGlobalConfig(context);
  const given = { composeHash: hex(flags['composeHash'], 64), appId: hex(flags['appId'], 40) };
  const subject =
    args[0] === undefined ? await deployed(context, config, given) : { target: args[0], ...given };
  const evidence = await getEvidence(subject.target, context.directory);
  const report = await verifyEvidence(
    evidence,
    await loadTrust(context, config),
    subject,
    Math.floor(context.now().getTime() / 1000),
    (info) => chainLinks(config.chain, info),
  );
  printReport(context, report);
  context.result(report);
  return report.is_valid ? EXIT.ok : EXIT.failure;
}

/** The project's running machine, and what it must be. */
async function deployed(
  context: Context,
  config: GlobalConfig,
  given: Expectation,
): Promise<Expectation & { target: string }> {
  if ((await findProject(context.directory)) === undefined)
    throw new CliError('usage', 'Name a URL or a file, or run this in a project', { exitCode: EXIT.usage });
  const project = await loadProject(context);
  const platform = await loadPlatform(project.config.platform);
  const state = await requireProjectState(context, project.directory);
  const { urls } = await platform.report({ context, config, project }, state);
  if (urls['agent'] === undefined)
    throw new CliError('not_deployed', `${state.instance_name} is not running`, {
      hint: 'dstack-cloud start',
    });
  return {
    target: urls['agent'],
    composeHash: given.composeHash ?? state.compose_hash,
    appId: given.appId ?? state.app_id,
  };
}

function hex(value: unknown, digits: number): string | undefined {
  if (value === undefined) return undefined;
  const text = String(value).replace(/^0x/i, '').toLowerCase();
  if (text.length === digits && /^[0-9a-f]+$/.test(text)) return text;
  throw new CliError('bad_argument', `${String(value)} has not ${digits} hex digits`, {
    exitCode: EXIT.usage,
  });
}
