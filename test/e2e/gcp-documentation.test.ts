/** `docs/gcp.md` as its reader follows it: every command, in order, with the program as it is shipped. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from '@dstack-cloud/scripts/build';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type GcpLab, gcpLab, leftovers } from '../harness/gcp/gcp-lab.ts';
import { repository, runCommand } from '../harness/run-command.ts';
import { shellBlocks } from '../harness/shell-blocks.ts';

const OS_IMAGE = 'dstack-cloud-0.6.0';
const BLOCK_MS = 120_000;

let lab: GcpLab;
beforeAll(async () => {
  await build();
  lab = await gcpLab();
}, 300_000);
afterAll(async () => lab?.cleanUp());

describe('documentation of Google Cloud', () => {
  test('documented-gcp: deploy, look, update, roll back and remove work as written', async () => {
    const archive = join(lab.root, `${OS_IMAGE}-uki.tar.gz`);
    execFileSync('tar', ['-czf', archive, '-C', lab.images, OS_IMAGE]);
    const images = join(lab.root, 'pulled');
    const config = join(lab.root, 'reader.json');
    writeFileSync(config, JSON.stringify({ platform: 'gcp', image_search_paths: [images] }));
    mkdirSync(join(lab.root, 'work'));
    const [make, doctor, ...others] = shellBlocks('docs/gcp.md');
    const run = async (script: string, folder: string) =>
      await runCommand(['bash', '-e', '-u', '-o', 'pipefail', '-c', script], {
        cwd: join(lab.root, 'work', folder),
        env: {
          ...{ HOME: lab.root, DSTACK_CLOUD_CONFIG: config, ...lab.gcp.env },
          ...{ PROJECT: lab.gcp.project, OS_IMAGE: archive, MY_NETWORK: '203.0.113.0/24' },
          PATH: `${join(repository, 'dist/bin')}:${process.env['PATH'] ?? ''}`,
        },
        timeoutMs: BLOCK_MS,
      });
    const must = async (script: string, folder = 'my-app'): Promise<string> => {
      const { code, stdout, stderr } = await run(script, folder);
      expect(code, [script, stdout, stderr].join('\n')).toBe(0);
      return stdout;
    };
    await must(make!, '.');
    // No key service and no chain: it says so of each, and of the rest that it is as it should be.
    const examined = await run(doctor!, 'my-app');
    expect(examined.stdout, examined.stderr).toMatch(/zone/);
    const [deploy, update, remove] = others as [string, string, string];
    expect(others).toHaveLength(3);
    const shown = await must(deploy);
    expect(shown).toMatch(/^Status: {7}RUNNING$/m);
    expect(shown).toContain('dstack-my-app-allow-tcp-8080');
    const compose = readFileSync(join(lab.root, 'work/my-app/docker-compose.yaml'), 'utf8');
    await must(update);
    // Only the machine went back.
    expect(readFileSync(join(lab.root, 'work/my-app/docker-compose.yaml'), 'utf8')).not.toBe(compose);
    const state = JSON.parse(readFileSync(join(lab.root, 'work/my-app/state.json'), 'utf8'));
    expect(state.compose_hash).toBe(state.revisions[0].compose_hash);
    await must(remove);
    expect(leftovers(lab)).toEqual({
      ...{ instances: [], disks: [], images: [], firewalls: [], buckets: [], objects: [] },
    });
    expect(lab.gcp.schemaErrors).toEqual([]);
  }, 600_000);
});
