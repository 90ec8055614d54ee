import { confirm } from '../ask.ts';
import { readApp, requireChain, setComposeHash } from '../chain/app-contract.ts';
import { checkImagePolicy, checkPolicy } from '../chain/check-policy.ts';
import { connectReader } from '../chain/connect.ts';
import { createProjectApp } from '../chain/create-app.ts';
import { type SendingOptions, sendingOptions } from '../chain/sending-options.ts';
import type { Context } from '../context.ts';
import { CliError, messageOf } from '../errors.ts';
import { sealEnvironment } from '../kms/seal-environment.ts';
import { workloadOfPrepared } from '../measurement/project-workload.ts';
import { changeLines } from '../plan/plan-project.ts';
import { findDeployment } from '../platforms/deployment.ts';
import { isSimulated, SIMULATED_TEXT } from '../platforms/is-simulated.ts';
import { loadPlace } from '../platforms/load-place.ts';
import { loadPlatform } from '../platforms/load-platform.ts';
import type { CheckOptions, DeployOptions, Place } from '../platforms/platform.ts';
import { prepareProject } from '../platforms/prepare-project.ts';
import { loadProject } from '../project/app-config.ts';
import { type Prepared, writeShared } from '../project/shared-files.ts';

export const changesProject = true;

/** `deploy`: measure, check all that can be checked, seal the environment; only then the machine is touched. */
export async function run(
  context: Context,
  _args: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  const sending = sendingOptions(context, flags);
  const place = await loadPlace(context);
  const platform = await loadPlatform(place.project.config.platform);
  if (flags['local'] === true) {
    const { showEnclave } = await import('../measurement/show-enclave.ts');
    await showEnclave(place);
    return undefined;
  }
  const { state: before, problem } = await findDeployment(place, platform);
  if (problem !== undefined) throw problem;
  const checked = await prepareProject(context, place.config, place.project);
  refuseBlocked(checked);
  const isDry = flags['dryRun'] === true;
  const deletesData = flags['deleteData'] === true;
  const recreate = flags['delete'] === true;
  const options: DeployOptions = {
    ...{ before, recreate, data: deletesData ? 'delete' : 'keep' },
    ...{ forceBootImage: flags['forceBootImage'] === true, wait: flags['wait'] !== false },
  };
  const { data, forceBootImage = false } = options;
  const intent: CheckOptions = { recreate, data, forceBootImage, force: flags['force'] === true };
  await platform.check(place, checked, before, intent);
  if (deletesData && before !== undefined && !isDry)
    await confirm(context, `Delete the data disk of ${before.instance_name} for good?`);
  const register = typeof flags['register'] === 'boolean' ? flags['register'] : undefined;
  const registers = willRegister(place, register);
  // An enclave's image holds the app id: only with its contract is it what it will be.
  if (registers && flags['policyCheck'] !== false && place.project.config.platform !== 'nitro')
    await checkImagePolicy(requireChain(place.config.chain), checked);
  const { project, config } = registers && !isDry ? await registerApp(place, register, sending) : place;
  const prepared = await prepareProject(context, config, project);
  for (const warning of prepared.warnings) context.warn(warning);
  context.info(`App ${project.config.name} (${prepared.appId})`);
  context.info(`Compose hash ${prepared.composeHash}`);
  const asksChain = flags['policyCheck'] !== false && project.config.key_provider === 'kms';
  if (isDry && !registers && asksChain && config.chain !== undefined) await showPlan(place, prepared);
  if (asksChain && config.chain !== undefined && !(isDry && registers))
    await checkPolicy(config.chain, prepared);
  const changes = (await platform.plan?.(place, prepared, intent)) ?? [];
  for (const line of changeLines(changes)) {
    if (isDry) context.print(line);
    else context.info(line);
  }
  if (isDry) {
    context.print(`Would deploy compose hash ${prepared.composeHash} as app ${prepared.appId}`);
    context.result({ dry_run: true, ...identities(prepared), resources: changes });
    return undefined;
  }
  const trust = typeof flags['trustSigner'] === 'string' ? flags['trustSigner'] : undefined;
  const sealed = await sealEnvironment(context, config, project, prepared.appId, trust);
  const files = sealed === undefined ? prepared.files : { ...prepared.files, '.encrypted-env': sealed };
  if (project.config.platform !== 'nitro') await writeShared(project, files);
  if (isSimulated(project)) context.info(SIMULATED_TEXT);
  const state = await platform.deploy({ context, config, project }, { ...prepared, files }, options);
  context.print(`Deployed ${state.instance_name}`);
  for (const [name, url] of Object.entries(state.urls)) context.print(`  ${name}: ${url}`);
  const silent = await platform.silentUrls({ context, config, project }, prepared, state);
  for (const problem of silent) context.warn(problem);
  context.info(
    project.config.platform === 'nitro' ? 'Next: dstack-cloud status' : 'Next: dstack-cloud verify',
  );
  context.result({
    simulated: isSimulated(project),
    ...identities(prepared),
    ...state,
    silent_urls: silent,
  });
  return undefined;
}

/** What would have to be signed; a dry run does not fail because nobody can say. */
async function showPlan({ context, config, project }: Place, prepared: Prepared): Promise<void> {
  const { openRegistration } = await import('../measurement/open-registration.ts');
  const { planLines } = await import('../measurement/plan.ts');
  try {
    const workload = await workloadOfPrepared(context, config, project, prepared);
    const options = { anyDevice: false, allowDebug: false };
    const { view, registration, plan } = await openRegistration(context, workload, options, undefined);
    for (const line of planLines(view, registration, plan)) context.print(line);
  } catch (error) {
    context.warn(`Who would have to sign is not known: ${messageOf(error)}`);
  }
}

/** What is known to keep the application from starting, all of it at once. */
function refuseBlocked({ blockers }: Prepared): void {
  if (blockers.length === 0) return;
  throw new CliError('bad_compose_file', `The application could not start:\n${blockers.join('\n')}`, {
    hint: 'Change the compose file, or make the files in prelaunch.sh, inside the machine',
  });
}

function identities(prepared: Prepared): object {
  return {
    app_id: prepared.appId,
    compose_hash: prepared.composeHash,
    os_image_hash: prepared.osImageHash,
    instance_id: prepared.instanceId ?? null,
  };
}

function willRegister({ config, project }: Place, register: boolean | undefined): boolean {
  if (project.config.key_provider !== 'kms' || register === false) return false;
  return register === true || config.chain?.create_apps === true;
}

/**
 * With `--register` the app gets its contract and this compose hash is allowed. Without either flag,
 * `chain.create_apps` makes the contract of an app that has none; a later change must be allowed by its owner.
 */
async function registerApp(
  place: Place,
  register: boolean | undefined,
  { maxCost, limited }: SendingOptions,
): Promise<Place> {
  const { context, config, project } = place;
  const chain = requireChain(config.chain);
  const isNitro = project.config.platform === 'nitro';
  const before = await prepareProject(context, config, project);
  const app = await limited(async (within) =>
    readApp(within, await connectReader(chain, within), before.appId, before.appPolicyHash),
  );
  if (app.deployed && app.registered) {
    if (register === true && app.compose_hash_allowed !== true) {
      await limited((within) =>
        setComposeHash(within, chain, maxCost, before.appId, before.appPolicyHash, true),
      );
      context.info(`Allowed compose hash ${before.appPolicyHash}`);
    }
    return place;
  }
  const appId = await limited((within) =>
    createProjectApp(within, project, chain, maxCost, isNitro ? undefined : before.appPolicyHash),
  );
  const created = { context, config, project: await loadProject(context) };
  if (isNitro) {
    // The image holds the app id, so it is another one now.
    const { appPolicyHash: hash } = await prepareProject(context, config, created.project);
    await limited((within) => setComposeHash(within, chain, maxCost, appId, hash, true));
  }
  context.info(`Created app contract 0x${appId}, which allows this ${isNitro ? 'image' : 'compose file'}`);
  return created;
}
