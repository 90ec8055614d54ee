import {
  chmodSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Project } from './app-config.ts';
import { parseAppConfig } from './app-schema.ts';
import { changeEnvFile } from './change-env-file.ts';
import { parseDotEnv } from './dotenv.ts';

let directory: string;
let path: string;
let project: Project;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'env-'));
  path = join(directory, '.env');
  project = { directory, path: '', config: parseAppConfig({}, 'app.json').config };
});
afterEach(() => rmSync(directory, { recursive: true }));

const text = (): string => readFileSync(path, 'utf8');

describe('env set and unset', () => {
  it('change their own line and nothing else', async () => {
    writeFileSync(path, '# head\nexport A = 1 # one\n\nB="x\n# y"\n');
    expect(await changeEnvFile(project, 'A', 'two words')).toBe(true);
    expect(text()).toBe(`# head\nexport A = 'two words' # one\n\nB="x\n# y"\n`);
    expect(await changeEnvFile(project, 'C', undefined)).toBe(false);
    expect(await changeEnvFile(project, 'B', undefined)).toBe(true);
    expect(text()).toBe(`# head\nexport A = 'two words' # one\n\n`);
    expect(await changeEnvFile(project, 'C', '3')).toBe(true);
    expect(text()).toBe(`# head\nexport A = 'two words' # one\n\nC=3\n`);
  });

  it('keep line ends, a byte order mark and a missing last line end', async () => {
    writeFileSync(path, '\ufeffA=1\r\nB=2');
    await changeEnvFile(project, 'C', '3');
    expect(text()).toBe('\ufeffA=1\r\nB=2\r\nC=3\r\n');
    await changeEnvFile(project, 'A', undefined);
    expect(text()).toBe('\ufeffB=2\r\nC=3\r\n');
  });

  it('remove every line of a name, so that no earlier one counts again', async () => {
    writeFileSync(path, 'A=1\nB=2\nA=3\n');
    await changeEnvFile(project, 'A', '4');
    expect(text()).toBe('A=1\nB=2\nA=4\n');
    await changeEnvFile(project, 'A', undefined);
    expect(text()).toBe('B=2\n');
  });

  it('make a file that only its owner reads, and keep mode and link of one that is there', async () => {
    await changeEnvFile(project, 'A', '1');
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const real = join(directory, 'real.env');
    writeFileSync(real, 'A=1\n');
    chmodSync(real, 0o640);
    rmSync(path);
    symlinkSync('real.env', path);
    await changeEnvFile(project, 'A', '2');
    expect(lstatSync(path).isSymbolicLink()).toBe(true);
    expect(readFileSync(real, 'utf8')).toBe('A=2\n');
    expect(statSync(real).mode & 0o777).toBe(0o640);
  });

  it.each([
    ['a damaged file', 'A: 1\n', 'B', '1'],
    ['a NUL', '', 'A', 'x\0'],
    ['too many variables', Array.from({ length: 1024 }, (_, i) => `A${i}=1\n`).join(''), 'B', '1'],
    ['a value that is too long', '', 'A', 'é'.repeat(64 * 1024 + 1)],
    [
      'what does not fit when sealed',
      `A=${'x'.repeat(120_000)}\nB=${'x'.repeat(120_000)}\n`,
      'C',
      'x'.repeat(30_000),
    ],
    ['the loss of a variable that another one names', 'A=1\nB=$A\n', 'A', undefined],
  ])('refuse %s and change nothing', async (_name, before, name, value) => {
    writeFileSync(path, before);
    await expect(changeEnvFile(project, name, value)).rejects.toMatchObject({ code: 'bad_env' });
    expect(text()).toBe(before);
  });

  it('write what is read back, whatever stands around it', async () => {
    const value = fc.string({ unit: fc.constantFrom(...'aZ \t\n\r"\'\\$`#{}=é😀:'), maxLength: 12 });
    const line = fc.constantFrom('', '# c', 'B=1', 'export C="x\ny" # c', "D='z'", ' A = 1 # a', 'A="1\n2"');
    await fc.assert(
      fc.asyncProperty(
        fc.array(line, { maxLength: 4 }),
        value,
        fc.boolean(),
        async (lines, wanted, ended) => {
          writeFileSync(path, lines.join('\n') + (ended ? '\n' : ''));
          const others = () => parseDotEnv(text(), '.env').entries.filter(({ key }) => key !== 'A');
          const before = others().map((entry) => [entry.key, entry.value]);
          await changeEnvFile(project, 'A', wanted);
          expect(new Map(parseDotEnv(text(), '.env').vars.map((one) => [one.key, one.value])).get('A')).toBe(
            wanted,
          );
          expect(others().map((entry) => [entry.key, entry.value])).toEqual(before);
          await changeEnvFile(project, 'A', undefined);
          expect(others().map((entry) => [entry.key, entry.value])).toEqual(before);
          expect(text()).not.toMatch(/^ *A/m);
        },
      ),
    );
  });
});
