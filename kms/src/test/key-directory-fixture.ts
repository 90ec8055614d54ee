import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodePem, fromHex } from '@dstack-cloud/encoding';

type FixtureFile = { text?: string; hex?: string; der_hex?: string };

/** Writes a key directory of the recordings as the original left it. */
export function writeKeyDirectory(directory: string, files: Readonly<Record<string, FixtureFile>>): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  for (const [name, { text, hex, der_hex: der }] of Object.entries(files)) {
    const content =
      text ?? (der === undefined ? Buffer.from(hex ?? '', 'hex') : encodePem('PRIVATE KEY', fromHex(der)));
    writeFileSync(join(directory, name), content, { mode: name.endsWith('.key') ? 0o600 : 0o644 });
  }
}
