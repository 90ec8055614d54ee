/** Documentation is tried, not imagined: every command block of every page runs here, or is run by another test. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { repository, runCommand } from '../harness/run-command.ts';
import { markdownFiles, shellBlocks } from '../harness/shell-blocks.ts';
import { type Stack, startStack } from '../harness/stack.ts';

/** Blocks that cannot run inside a test, each with the test that runs them. */
const runElsewhere: Record<string, string> = {
  'npm ci && npm run demo': 'first-attested-app (after the installation that this run began with)',
  'npm run setup && npm test': 'this run',
  'npm run demo': 'interrupted-demo',
};

/**
 * Pages whose blocks are run by tests of their own: kms-documentation, simulator-documentation, conformance-documentation,
 * app-compose-documentation, release, nitro-documentation,
 * watch-documentation, gcp-documentation, gcp-kms, container-images, local-vm-documentation, contracts/src/tasks/tasks.test.ts.
 */
const ownTest = [
  'docs/kms.md',
  'docs/simulator.md',
  'docs/conformance.md',
  'docs/app-compose.md',
  'docs/install.md',
  'docs/containers.md',
  'docs/contracts.md',
  'docs/vmm.md',
  'docs/gcp.md',
  'docs/kms-on-gcp.md',
  'docs/nitro.md',
  'docs/governance.md',
  'docs/sealing.md',
  'docs/local-vm.md',
];

/** Pages whose blocks are run one after the other, in one shell, against a running stack. */
const walkthroughs = ['docs/first-app.md', 'docs/verify.md'];

/** What `status` prints of a running machine. */
const measurements = [
  'compose-hash',
  'os-image-hash',
  'app-id',
  'instance-id',
  'mrtd',
  'rtmr0',
  'rtmr1',
].concat(['rtmr2', 'rtmr3', 'mr-aggregated', 'device-id']);

let stack: Stack;
let directory: string;
beforeAll(async () => {
  stack = await startStack();
  directory = mkdtempSync(join(tmpdir(), 'dstack-docs-'));
}, 120_000);
afterAll(async () => {
  await stack?.stop();
  if (directory) rmSync(directory, { recursive: true, force: true });
}, 60_000);

describe('documentation', () => {
  test('documented-commands: every command block belongs to a test', () => {
    const loose = markdownFiles()
      .filter((path) => ![...walkthroughs, ...ownTest].includes(path))
      .flatMap((path) => shellBlocks(path).map((block) => `${path}: ${block}`))
      .filter((line) => !Object.keys(runElsewhere).some((block) => line.endsWith(`: ${block}`)));
    expect(loose).toEqual([]);
    expect(shellBlocks('README.md')).toEqual(['npm ci && npm run demo', 'npm run setup && npm test']);
  });

  test.each(walkthroughs)(
    'documented-walkthrough: %s works as it is written',
    async (page) => {
      const script = shellBlocks(page)
        .filter((block) => !(block in runElsewhere))
        .map(
          (block) => `echo '$ ${block.replaceAll("'", "'\\''").replaceAll('\n', "'\necho '$ ")}'\n${block}`,
        )
        .join('\n');
      const { code, stdout, stderr } = await runCommand(['bash', '-e', '-c', script], {
        cwd: directory,
        env: {
          DSTACK_CLOUD_CONFIG: stack.config,
          PATH: `${join(repository, 'dist/bin')}:${process.env['PATH'] ?? ''}`,
        },
        timeoutMs: 180_000,
      });
      expect(code, `${stdout}\n${stderr}`).toBe(0);
      expect(stdout + stderr).toMatch(/simulated/i);
      expect(stdout).toContain('Measurements:');
      expect(
        measurements.filter((name) => !new RegExp(`^  ${name}: +[0-9a-f]{40,96}$`, 'm').test(stdout)),
      ).toEqual([]);
    },
    200_000,
  );
});
