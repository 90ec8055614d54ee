import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VmmError } from '../errors.ts';

const SOURCES: Readonly<Record<string, string>> = {
  'dstack-cloud': 'cli/src/main.ts',
  'dstack-kms': 'kms/src/main.ts',
  'dstack-prepare': 'packages/guest-agent/src/prepare-main.ts',
  'dstack-guest-agent': 'packages/guest-agent/src/agent-main.ts',
  'dstack-app-runner': 'packages/guest-agent/src/runner-main.ts',
  'dstack-vmm': 'packages/vmm/src/main.ts',
  'dstack-tee-simulator': 'packages/tee-simulator/src/main.ts',
  'dstack-vsock-proxy': 'packages/vsock/src/proxy/vsock-proxy-main.ts',
  'dstack-verifier': 'packages/verifier/src/main.ts',
};

/** Folder with the bundled programs, or undefined when this runs from source and nothing was said. */
export function programDirectory(): string | undefined {
  const named = process.env['DSTACK_BIN_DIR'];
  if (named !== undefined && named !== '') return named;
  const here = dirname(fileURLToPath(import.meta.url));
  // A bundle puts this module into `<bin>/x.js` or `<bin>/chunks/x.js`.
  for (const directory of [here, dirname(here)])
    if (existsSync(join(directory, 'dstack-vmm.js'))) return directory;
  return undefined;
}

/** Folder with the programs that an OS image gets. */
export function guestProgramDirectory(): string {
  return besidePrograms('guest');
}

/** Folder with the programs that container images get, a folder for each. */
export function containerProgramsDirectory(): string {
  return besidePrograms('containers');
}

/** Folder with the programs that enclave images get. */
export function enclaveProgramsDirectory(): string {
  return besidePrograms('enclave');
}

/** Folder with what the parent instance of enclaves on AWS gets. */
export function nitroHostDirectory(): string {
  return besidePrograms('nitro-host');
}

/** A folder beside that of the bundles, or where the build puts it. */
function besidePrograms(name: string): string {
  const directory = programDirectory();
  return directory === undefined
    ? join(dirname(fileURLToPath(import.meta.url)), '../../../../dist', name)
    : join(dirname(directory), name);
}

/**
 * The argument vector that starts a program of this product: the bundle beside this one, or the source
 * through tsx when this process itself runs from source. `DSTACK_BIN_DIR` names another folder of bundles.
 */
export function resolveProgram(name: string): string[] {
  const source = Object.hasOwn(SOURCES, name) ? SOURCES[name] : undefined;
  if (source === undefined) throw new VmmError('program_missing', `There is no program named ${name}`);
  const directory = programDirectory();
  const path =
    directory === undefined
      ? join(dirname(fileURLToPath(import.meta.url)), '../../../..', source)
      : join(directory, `${name}.js`);
  if (!existsSync(path))
    throw new VmmError('program_missing', `${path} is missing: run \`npm run build\` in the checkout first`);
  if (directory !== undefined) return [process.execPath, path];
  return [process.execPath, '--import', import.meta.resolve('tsx'), '-C', '@dstack/source', path];
}
