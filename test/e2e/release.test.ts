/**
 * A release as somebody gets it: two builds are equal; what docs/install.md says works in an empty folder, and so does the first
 * application. Runs by name: it builds everything twice and installs from a registry.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { repository, runCommand } from '../harness/run-command.ts';
import { shellBlocks } from '../harness/shell-blocks.ts';
import { type Stack, startStack } from '../harness/stack.ts';

const RELEASE_MS = 400_000;
const END_JOBS = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT";

let directory: string;
let release: string;

async function makeRelease(output: string): Promise<void> {
  const command = ['npm', 'run', '-s', 'release', '--', '--dry-run', '--output', output];
  const { code, stderr } = await runCommand(command, { cwd: repository, timeoutMs: RELEASE_MS });
  expect(code, stderr).toBe(0);
}

/** Only what an ordinary machine has, and what was installed. */
function outsideEnvironment(): Record<string, string> {
  const home = join(directory, 'home');
  const path = [join(home, '.local/bin'), join(process.execPath, '..'), '/usr/bin:/bin'].join(':');
  return { HOME: home, PATH: path, DSTACK_BIN_DIR: '' };
}

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'dstack-release-'));
  release = join(directory, 'release');
  mkdirSync(join(directory, 'home'));
  await makeRelease(release);
}, RELEASE_MS);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('release', () => {
  test(
    'release-reproducible: two builds are equal byte for byte',
    async () => {
      const again = join(directory, 'again');
      await makeRelease(again);
      const sums = (folder: string) => readFileSync(join(folder, 'SHA256SUMS'), 'utf8');
      expect(sums(again)).toBe(sums(release));
      expect(sums(release).trim().split('\n')).toHaveLength(10);
    },
    RELEASE_MS,
  );

  test(
    'release-installed: the page about installing works as it is written',
    async () => {
      const work = join(directory, 'work');
      cpSync(release, work, { recursive: true });
      const script = [END_JOBS, ...shellBlocks('docs/install.md')].join('\n');
      const { code, stdout, stderr } = await runCommand(['bash', '-e', '-c', script], {
        cwd: work,
        env: outsideEnvironment(),
        timeoutMs: RELEASE_MS,
      });
      expect(code, `${stdout}\n${stderr}`).toBe(0);
      expect(stdout).toContain('a key of 32 bytes');
    },
    RELEASE_MS,
  );

  test('release-old-node: a Node that is too old is told so in one sentence', () => {
    const launcher = join(directory, 'home/.local/lib/node_modules/dstack-cloud/bin/dstack-cloud.cjs');
    const script = `Object.defineProperty(process.versions, 'node', { value: '18.20.0' }); require(${JSON.stringify(launcher)})`;
    expect(() => execFileSync(process.execPath, ['-e', script], { stdio: 'pipe' })).toThrow(
      'dstack-cloud needs Node 20.19 or newer',
    );
  });

  describe('an installed dstack-cloud', () => {
    let stack: Stack | undefined;
    afterAll(async () => stack?.stop(), 60_000);

    test(
      'release-first-app: deploys the first application from an empty folder',
      async () => {
        stack = await startStack();
        const empty = join(directory, 'empty');
        mkdirSync(empty);
        // The page begins with the demo of a checkout, which this stack stands for.
        const blocks = shellBlocks('docs/first-app.md').filter((block) => block !== 'npm run demo');
        const script = blocks.join('\n');
        const { code, stdout, stderr } = await runCommand(['bash', '-e', '-c', script], {
          cwd: empty,
          env: { ...outsideEnvironment(), DSTACK_CLOUD_CONFIG: stack.config },
          timeoutMs: RELEASE_MS,
        });
        expect(code, `${stdout}\n${stderr}`).toBe(0);
        expect(stdout).toContain('VALID');
      },
      RELEASE_MS,
    );
  });
});
