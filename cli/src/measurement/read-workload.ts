import { open, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { readFileBounded } from '@dstack-cloud/app';
import { addressValue, listedHashValue } from '@dstack-cloud/contracts/tasks';
import { osImageHash, type Pcrs, parseMeasurements } from '@dstack-cloud/eif';
import { fromHex, isZero } from '@dstack-cloud/encoding';
import { type Address, type Hex, isAddressEqual } from 'viem';
import { loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { withEif } from '../eif/with-eif.ts';
import { CliError, EXIT } from '../errors.ts';
import { findProject, loadProject } from '../project/app-config.ts';
import { workloadOfEvidence } from './evidence-workload.ts';
import { workloadOfProject } from './project-workload.ts';
import type { Workload, WorkloadOptions } from './workload.ts';

const MAX_MEASUREMENTS = 64 * 1024;
/** The first bytes of an enclave image (EIF). */
const EIF_MAGIC = '.eif';

/**
 * What is to be registered: of evidence (a file, or the URL of a running machine), of an enclave image or its measurements,
 * or of the project in this folder.
 * @throws CliError `not_verified`, `refused` for what protects nothing; `bad_argument`, `usage`
 */
export async function readWorkload(
  context: Context,
  target: string | undefined,
  options: WorkloadOptions,
): Promise<Workload> {
  const found = await read(context, target, options);
  const appId = named('--app-id', options.appId, addressValue);
  const device = named('--device', options.device, listedHashValue);
  if (appId !== undefined && found.appId !== undefined && !isAddressEqual(appId, found.appId)) {
    throw new CliError('bad_argument', `${found.source} is of another app than --app-id names`, {
      ...{ expected: appId, found: found.appId },
    });
  }
  if (device !== undefined && found.deviceId !== undefined && device !== found.deviceId) {
    throw new CliError('bad_argument', `${found.source} is of another device than --device names`, {
      ...{ expected: device, found: found.deviceId },
    });
  }
  const workload = { ...found, appId: found.appId ?? appId, deviceId: found.deviceId ?? device };
  if (workload.role === 'app' && workload.appId === undefined) {
    throw new CliError('usage', `${found.source} does not say which app it is`, {
      ...{ exitCode: EXIT.usage, hint: 'Pass --app-id ADDRESS, or run this in the project of the app' },
    });
  }
  if (workload.simulated && !options.allowSimulated) throw simulatedRefused(workload);
  if (workload.simulated) {
    context.warn(
      'SIMULATED: anybody can make such measurements with a simulator. A KMS that trusts a simulated root gives the keys to anybody; one that trusts vendors alone gives nothing for them',
    );
  }
  return workload;
}

async function read(
  context: Context,
  target: string | undefined,
  options: WorkloadOptions,
): Promise<Workload> {
  if (target === undefined) {
    if ((await findProject(context.directory)) === undefined) {
      throw new CliError('usage', 'Name evidence (a URL or a file), or run this in a project', {
        ...{ exitCode: EXIT.usage, hint: `See dstack-cloud measurement ${options.command} --help` },
      });
    }
    return await workloadOfProject(
      context,
      await loadGlobalConfig(context),
      await loadProject(context),
      options,
    );
  }
  if (/^https?:/i.test(target)) return await workloadOfEvidence(context, target, options);
  const path = resolve(context.directory, target);
  const start = await firstBytes(path);
  if (start === EIF_MAGIC) {
    return await withEif(context, target, async (eif) => {
      if (eif.crc32 === eif.header.crc32) return ofPcrs(path, eif.pcrs, options);
      throw new CliError('not_verified', `${path} is damaged or was changed: its checksum is wrong`, {
        hint: 'See dstack-cloud eif verify',
      });
    });
  }
  const pcrs = start.trimStart().startsWith('{') ? await measurementsIn(path) : undefined;
  if (pcrs !== undefined) return ofPcrs(path, pcrs, options);
  return await workloadOfEvidence(context, target, options);
}

/** An enclave's image is its application: one hash is both. */
function ofPcrs(source: string, pcrs: Pcrs, { role }: WorkloadOptions): Workload {
  if ([pcrs.pcr0, pcrs.pcr1, pcrs.pcr2].some((pcr) => isZero(pcr))) {
    throw new CliError(
      'refused',
      `${source} has registers that are zero: those of an enclave in debug mode`,
      {
        hint: 'A debug enclave hides nothing from its host. Run it without --debug-mode, and measure its image (dstack-cloud eif measure)',
      },
    );
  }
  if (role === 'kms') {
    throw new CliError('refused', 'An enclave cannot be a key service for these contracts', {
      expected: 'evidence of a machine with a TCB status: isKmsAllowed demands one',
      found: source,
    });
  }
  const hash: Hex = `0x${osImageHash(pcrs)}`;
  return {
    ...{ role, source, appId: undefined, composeHash: hash, osImageHash: hash, mrAggregated: undefined },
    ...{ deviceId: undefined, tcbStatus: undefined, advisoryIds: [], simulated: false },
  };
}

/** Undefined when the file is something else, such as evidence as JSON. */
async function measurementsIn(path: string): Promise<Pcrs | undefined> {
  const text = new TextDecoder().decode(
    await readFileBounded(path, MAX_MEASUREMENTS).catch((error: unknown) => {
      if ((error as { code?: string }).code === 'file-too-large') return new Uint8Array();
      throw error;
    }),
  );
  if (!/"PCR0"/.test(text)) return undefined;
  const { PCR0 = '', PCR1 = '', PCR2 = '' } = parseMeasurements(text);
  return { pcr0: fromHex(PCR0), pcr1: fromHex(PCR1), pcr2: fromHex(PCR2) };
}

async function firstBytes(path: string): Promise<string> {
  const hint = 'Name a file, or a URL with http:// or https://';
  const found = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ENOENT') throw cause;
    throw new CliError('file_missing', `${path} does not exist`, { hint });
  });
  // Opening a pipe would wait for whoever writes to it.
  if (!found.isFile()) throw new CliError('bad_argument', `${path} is not a file`, { hint });
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
    return buffer.toString('latin1', 0, bytesRead);
  } finally {
    await file.close();
  }
}

function named<T extends Address | Hex>(
  name: string,
  text: string | undefined,
  parse: (name: string, text: string) => T,
): T | undefined {
  return text === undefined ? undefined : parse(name, text);
}

function simulatedRefused({ source }: Workload): CliError {
  return new CliError('refused', `${source} is SIMULATED: it is not registered`, {
    expected: 'evidence under a vendor’s root, or an image for real hardware',
    found: 'software instead of a TEE',
    hint: 'Anybody can make the same measurements. For a test chain pass --allow-simulated; on a chain with real value a KMS that trusts a simulated root would then give the keys to anybody',
  });
}
