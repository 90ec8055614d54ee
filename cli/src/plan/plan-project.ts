import { join } from 'node:path';
import { HOST_SHARED_LIMITS, type HostSharedName, readFileBounded } from '@dstack-cloud/app';
import { equalBytes } from '@dstack-cloud/encoding';
import { CliError, messageOf } from '../errors.ts';
import { workloadOfPrepared } from '../measurement/project-workload.ts';
import type { CheckOptions, Place, PlannedChange, Platform } from '../platforms/platform.ts';
import { prepareProject } from '../platforms/prepare-project.ts';
import type { Prepared } from '../project/shared-files.ts';
import type { ProjectState } from '../project/state-file.ts';

export interface ProjectPlan {
  readonly lines: readonly string[];
  readonly resources: readonly PlannedChange[];
  readonly json: Readonly<Record<string, unknown>>;
}

/** What a deploy would change: measured files, hashes, resources, what somebody must sign, whether data stays readable. */
export async function planProject(
  place: Place,
  platform: Platform,
  before: ProjectState | undefined,
  options: CheckOptions,
): Promise<ProjectPlan> {
  const { context, config, project } = place;
  const prepared = await prepareProject(context, config, project);
  const files = await changedFiles(place, prepared, before !== undefined);
  const lines = files.map(({ name, change }) => `${change.padEnd(9)} ${name}`);
  const hashes = [
    ['compose-hash', before?.compose_hash, prepared.composeHash],
    ['os-image-hash', before?.os_image_hash, prepared.osImageHash],
    ['app-id', before?.app_id, prepared.appId],
  ] as const;
  for (const [name, old, next] of hashes)
    lines.push(old === next || !old ? `${name}: ${next}` : `${name}: ${old} -> ${next}`);
  const obstacle = await platform.check(place, prepared, before, options).then(
    () => undefined,
    (error: unknown) => error,
  );
  if (obstacle !== undefined && !(obstacle instanceof CliError)) throw obstacle;
  if (obstacle !== undefined) lines.push(`A deploy is refused: ${obstacle.message}`);
  const resources = (await platform.plan?.(place, prepared, options)) ?? [];
  const signing = await whatToSign(place, prepared);
  lines.push(...signing.lines);
  const data = dataNote(place, prepared, before, options);
  lines.push(`Data: ${data}`);
  const cost = 'not known here: no prices are fetched';
  if (project.config.platform !== 'local') lines.push(`Cost an hour: ${cost}`);
  return {
    lines,
    resources,
    json: {
      deployed:
        before === undefined
          ? null
          : { compose_hash: before.compose_hash, os_image_hash: before.os_image_hash },
      compose_hash: prepared.composeHash,
      os_image_hash: prepared.osImageHash,
      app_id: prepared.appId,
      files,
      resources,
      signatures: signing.json,
      data,
      cost_per_hour: null,
      refused: obstacle?.message ?? null,
    },
  };
}

/** Resources for people. */
export function changeLines(changes: readonly PlannedChange[]): string[] {
  return changes.map(
    ({ action, what, note }) => `${action.padEnd(7)} ${what}${note === undefined ? '' : ` (${note})`}`,
  );
}

/** Files against what was handed over last; the sealed environment is new at each deploy. */
async function changedFiles(
  { project }: Place,
  { files }: Prepared,
  isDeployed: boolean,
): Promise<{ name: string; change: 'new' | 'changed' | 'unchanged' | 'removed' }[]> {
  const found = [];
  for (const name of Object.keys(HOST_SHARED_LIMITS) as HostSharedName[]) {
    if (name === '.encrypted-env') continue;
    const next = files[name];
    const old = isDeployed
      ? await read(join(project.directory, 'shared', name), HOST_SHARED_LIMITS[name])
      : undefined;
    if (next === undefined && old === undefined) continue;
    const change =
      next === undefined
        ? ('removed' as const)
        : old === undefined
          ? ('new' as const)
          : equalBytes(old, next)
            ? ('unchanged' as const)
            : ('changed' as const);
    found.push({ name, change });
  }
  return found;
}

async function read(path: string, limit: number): Promise<Uint8Array | undefined> {
  try {
    return await readFileBounded(path, limit, { noFollow: true });
  } catch (error) {
    if ((error as { code?: string }).code === 'file-missing') return undefined;
    throw error;
  }
}

/** Calls that somebody must make before a key service releases keys; a plan does not fail because nobody can say. */
async function whatToSign(
  { context, config, project }: Place,
  prepared: Prepared,
): Promise<{ lines: readonly string[]; json: unknown }> {
  if (project.config.key_provider !== 'kms' || config.chain === undefined)
    return { lines: ['Signatures: none needed, or no chain is configured'], json: null };
  const { openRegistration } = await import('../measurement/open-registration.ts');
  const { planJson, planLines } = await import('../measurement/plan.ts');
  try {
    const workload = await workloadOfPrepared(context, config, project, prepared);
    const options = { anyDevice: false, allowDebug: false };
    const { view, registration, plan } = await openRegistration(context, workload, options, undefined);
    return { lines: planLines(view, registration, plan), json: planJson(view, registration, plan) };
  } catch (error) {
    return { lines: [`Signatures: not known: ${messageOf(error)}`], json: null };
  }
}

function dataNote(
  { project }: Place,
  { composeHash, osImageHash }: Prepared,
  before: ProjectState | undefined,
  { data, recreate }: CheckOptions,
): string {
  if (data === 'delete') return 'deleted for good';
  if (before === undefined) return 'a new data disk';
  switch (project.config.key_provider) {
    case 'kms':
      return 'stays readable: its key comes from the key service';
    case 'none':
      return 'lost: key provider none gives another key at each boot';
    default: {
      const isSame = composeHash === before.compose_hash && osImageHash === before.os_image_hash;
      if (isSame && recreate !== true) return 'stays readable: the TPM seals for the same system';
      return 'unreadable unless its owner approves the new system: the TPM seals for the system of before';
    }
  }
}
