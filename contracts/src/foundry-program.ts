import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { ContractsError } from './errors.ts';

/** Path of a Foundry program that npm installed for this platform. */
export function foundryProgram(name: 'anvil' | 'cast' | 'forge'): string {
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  const ofPlatform = `@foundry-rs/${name}-${process.platform}-${architecture}`;
  const require = createRequire(import.meta.url);
  try {
    // The platform package is an optional dependency of the main one, so look from there.
    const fromMain = createRequire(require.resolve(`@foundry-rs/${name}/package.json`));
    const program = process.platform === 'win32' ? `${name}.exe` : name;
    return join(dirname(fromMain.resolve(`${ofPlatform}/package.json`)), 'bin', program);
  } catch (cause) {
    throw new ContractsError(
      'foundry-missing',
      `No ${name} for ${process.platform}-${process.arch}: npm package ${ofPlatform} is not installed. Run \`npm ci\` without --omit=optional.`,
      { cause },
    );
  }
}
