import { parseRaTlsCertificate } from '@dstack-cloud/ra-tls';
import {
  parseTime,
  readExpectations,
  splitExpectation,
  VerifierError,
  verify,
  withBundle,
} from '@dstack-cloud/verifier';
import { type GlobalConfig, loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT, messageOf } from '../errors.ts';
import { requireDeployment } from '../platforms/deployment.ts';
import { loadPlatform } from '../platforms/load-platform.ts';
import { prepareProject } from '../platforms/prepare-project.ts';
import { findProject, loadProject } from '../project/app-config.ts';
import { type AppReport, appReportJson } from '../verify/app-report.ts';
import { chainLinks } from '../verify/chain-links.ts';
import { evidenceLinks } from '../verify/evidence-links.ts';
import { deployedLinks, type ExpectedApp, expectationLinks } from '../verify/expected-app.ts';
import type { Link } from '../verify/link.ts';
import { printReport } from '../verify/print-report.ts';
import { getSubject } from '../verify/subject.ts';
import { loadTrust, pccsUrl } from '../verify/trust.ts';

/** What is to be verified, and what is wanted of it. */
interface Question {
  readonly target: string;
  readonly wanted: ExpectedApp;
  /** What stands in the way of an answer, however good the evidence is. */
  readonly problems: readonly Link[];
}

/** `verify [URL|FILE]`: every link from the silicon to the policy, and one verdict; exit 1 when one is broken. */
export async function run(
  context: Context,
  args: readonly (string | undefined)[],
  flags: Readonly<Record<string, unknown>>,
): Promise<number> {
  const given = understood(() => readExpectations(expectationsOf(flags)));
  const at = flags['at'] === undefined ? undefined : understood(() => parseTime(String(flags['at'])));
  const config = await loadGlobalConfig(context);
  const question =
    args[0] === undefined
      ? await ofProject(context, config, given)
      : { target: args[0], wanted: { values: given, fromFiles: [] }, problems: [] };
  const app = await appReport(context, config, question, at);
  printReport(context, app);
  context.result(appReportJson(app));
  return app.isValid ? EXIT.ok : EXIT.failure;
}

async function appReport(
  context: Context,
  config: GlobalConfig,
  { target, wanted, problems }: Question,
  at: number | undefined,
): Promise<AppReport> {
  const { source, evidence, nonce, bundle } = await getSubject(target, context.directory);
  const options = {
    ...(await loadTrust(context, config)),
    now: at ?? Math.floor(context.now().getTime() / 1000),
    policy: { expect: wanted.values },
    readRaTls: parseRaTlsCertificate,
    ...(nonce === undefined ? {} : { nonce }),
  };
  const report = await verify(
    evidence,
    bundle === undefined
      ? options
      : withBundle(bundle, options, { time: at !== undefined, collateral: false }),
  );
  const links = [
    ...evidenceLinks(report, source, pccsUrl(config)),
    ...problems,
    ...expectationLinks(report, wanted),
    ...deployedLinks(report, wanted),
    ...(report.isValid ? await chainLinks(config.chain, report) : []),
  ];
  return { report, source, links, isValid: links.every(({ ok }) => ok !== false) };
}

/** The project's running machine: it must be what the files here make now, and what was deployed last is told too. */
async function ofProject(
  context: Context,
  config: GlobalConfig,
  given: Readonly<Record<string, string>>,
): Promise<Question> {
  if ((await findProject(context.directory)) === undefined)
    throw new CliError('usage', 'Name a URL or a file, or run this in a project', { exitCode: EXIT.usage });
  const project = await loadProject(context);
  const platform = await loadPlatform(project.config.platform);
  const place = { context, config, project };
  const state = await requireDeployment(place, platform);
  const { urls } = await platform.report(place, state);
  const target = urls['agent'];
  if (target === undefined)
    throw new CliError('not_deployed', `${state.instance_name} is not running`, {
      hint: 'dstack-cloud start',
    });
  const deployed = {
    compose_hash: state.compose_hash,
    app_id: state.app_id,
    os_image_hash: state.os_image_hash,
  };
  try {
    const local = await prepareProject(context, config, project);
    const files = { compose_hash: local.composeHash, app_id: local.appId, os_image_hash: local.osImageHash };
    const appCompose = local.files['app-compose.json'];
    const wanted = {
      values: { ...files, ...given },
      fromFiles: Object.keys(files).filter((name) => !(name in given)),
      ...(appCompose && { appCompose }),
      deployed,
    };
    return { target, wanted, problems: [] };
  } catch (error) {
    const why = `The files in this project cannot be measured: ${messageOf(error)}`;
    const problems = [{ name: 'Project files', ok: false, why }];
    return { target, wanted: { values: given, fromFiles: [], deployed }, problems };
  }
}

/** Each flag is a name of the verifier's; one that is given twice is refused there. */
function expectationsOf(flags: Readonly<Record<string, unknown>>): [string, unknown][] {
  const named: readonly (readonly [string, unknown])[] = [
    ['compose_hash', flags['composeHash']],
    ['app_id', flags['appId']],
    ['os_image_hash', flags['osImageHash']],
  ];
  return [
    ...named.flatMap(([name, values]): [string, unknown][] =>
      ((values ?? []) as unknown[]).map((value) => [name, value]),
    ),
    ...((flags['expect'] ?? []) as string[]).map(splitExpectation),
  ];
}

/** A question that is not understood is the caller's error. */
function understood<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof VerifierError)) throw error;
    throw new CliError('bad_argument', error.message, { cause: error, exitCode: EXIT.usage });
  }
}
