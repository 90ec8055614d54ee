import { lstatSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { SimulatorError } from '@dstack-cloud/tee-simulator';
import { parse } from 'smol-toml';

const MAX_CONFIG = 64 * 1024;

/** Member `simulator` of the guest agent's configuration. */
export interface FixtureFiles {
  readonly keys_file: string;
  readonly compose_file: string;
  readonly sys_config_file: string;
  readonly attestation_file: string;
  readonly patch_report_data?: boolean;
}

/** The files of a recorded identity in a folder. @throws SimulatorError `argument` naming the one that is missing */
export function fixtureFiles(directory: string): FixtureFiles {
  return checked({
    keys_file: join(directory, 'appkeys.json'),
    compose_file: join(directory, 'app-compose.json'),
    sys_config_file: join(directory, 'sys-config.json'),
    attestation_file: join(directory, 'attestation.bin'),
  });
}

/**
 * The files that the original simulator's dstack.toml names; paths are relative to its folder. Addresses in it are not
 * read: the sockets have the same names in the simulator's own folder.
 *
 * @throws SimulatorError `argument`
 */
export function filesOfConfig(file: string): FixtureFiles {
  const core = coreOf(file);
  const simulator = table(core['simulator'], file, 'default.core.simulator');
  const patch = simulator['patch_report_data'];
  if (patch !== undefined && typeof patch !== 'boolean')
    throw new SimulatorError('argument', `${file}: patch_report_data must be true or false`);
  const at = (value: unknown, name: string): string => {
    if (typeof value === 'string' && value !== '') return resolve(dirname(file), value);
    throw new SimulatorError('argument', `${file}: default.core has no ${name}`);
  };
  return checked({
    keys_file: at(core['keys_file'], 'keys_file'),
    compose_file: at(core['compose_file'], 'compose_file'),
    sys_config_file: at(core['sys_config_file'], 'sys_config_file'),
    attestation_file: at(simulator['attestation_file'] ?? 'attestation.bin', 'simulator.attestation_file'),
    ...(patch === undefined ? {} : { patch_report_data: patch }),
  });
}

function coreOf(file: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new SimulatorError('argument', `${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
  if (text.length > MAX_CONFIG)
    throw new SimulatorError('argument', `${file} is larger than ${MAX_CONFIG} bytes`);
  try {
    return table(table(parse(text)['default'], file, 'default')['core'], file, 'default.core');
  } catch (cause) {
    if (cause instanceof SimulatorError) throw cause;
    const [line = ''] = (cause as Error).message.split('\n');
    throw new SimulatorError('argument', `${file} is not TOML: ${line}`, { cause });
  }
}

function table(value: unknown, file: string, name: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new SimulatorError('argument', `${file} has no table ${name}`);
}

function checked(files: FixtureFiles): FixtureFiles {
  for (const path of [files.keys_file, files.compose_file, files.sys_config_file, files.attestation_file]) {
    const status = lstatSync(path, { throwIfNoEntry: false });
    if (status === undefined) throw new SimulatorError('argument', `The fixture has no ${path}`);
    if (status.isDirectory()) throw new SimulatorError('argument', `${path} of the fixture is a folder`);
  }
  return files;
}
