import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { CvmManifest, ProcessManifest } from '../manifest/manifest.ts';
import { cvmPaths } from '../manifest/paths.ts';
import { endMachineContainers } from './machine-containers.ts';
import { removeMachineVolumes } from './machine-volumes.ts';

const ID = '11111111-1111-4111-8111-111111111111';
const CONTAINER = 'c'.repeat(64);

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vmm-engine-'));
  vi.stubEnv('PATH', `${dir}:${process.env['PATH']}`);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(dir, { recursive: true, force: true });
});

/** An engine that notes what it is asked, with the daemon it is asked of, and answers by the first two words. */
function engine(name: string, answers: Readonly<Record<string, string>>): void {
  const cases = Object.entries(answers).map(([words, answer]) => `  "${words}"*) ${answer};;`);
  const script = `#!/bin/sh\necho "$DOCKER_HOST $*" >> "${dir}/${name}.calls"\ncase "$*" in\n${cases.join('\n')}\nesac\n`;
  writeFileSync(join(dir, name), script);
  chmodSync(join(dir, name), 0o755);
}
const calls = (name: string): string[] =>
  readFileSync(join(dir, `${name}.calls`), 'utf8')
    .trimEnd()
    .split('\n');
const manifest = (wanted: ProcessManifest['runner']['engine']): CvmManifest =>
  ({
    id: ID,
    name: 'app',
    driver: 'process',
    runner: { engine: wanted, env: {}, engine_env: { DOCKER_HOST: 'unix:///d' } },
  }) as unknown as CvmManifest;

describe('what an engine keeps for a machine', () => {
  it('volumes and networks of its project alone, at the daemon of its deployment', async () => {
    engine('docker', {
      'volume ls': `echo dstack-${ID}_data; echo "--odd"`,
      'network ls': 'echo 0123456789ab',
    });
    await removeMachineVolumes(manifest('docker'));
    const filter = `--filter label=com.docker.compose.project=dstack-${ID}`;
    expect(calls('docker')).toEqual([
      `unix:///d volume ls --quiet ${filter}`,
      `unix:///d volume rm dstack-${ID}_data`,
      `unix:///d network ls --quiet ${filter}`,
      'unix:///d network rm 0123456789ab',
    ]);
  });

  it.each([
    ['does not answer', { 'volume ls': 'exit 1' }],
    ['refuses', { 'volume ls': 'echo data', 'volume rm': 'exit 1' }],
  ])('an engine that %s keeps the machine', async (_, answers) => {
    engine('docker', answers);
    await expect(removeMachineVolumes(manifest('docker'))).rejects.toMatchObject({ code: 'engine_down' });
  });

  it('an engine that only may have been used is not missed; plain processes have none', async () => {
    engine('docker', { 'volume ls': 'exit 1' });
    engine('podman', { 'volume ls': 'exit 1' });
    await removeMachineVolumes(manifest('auto'));
    await removeMachineVolumes(manifest('process'));
    expect([calls('docker'), calls('podman')].map((all) => all.length)).toEqual([1, 1]);
  });

  it('containers that are left are found by the folder and by the project', async () => {
    engine('docker', {
      'ps --all': `case "$*" in *working_dir*) echo "${CONTAINER} old-name";; *) echo "${CONTAINER} old-name"; echo "no-id x";; esac`,
      'network ls': 'echo 0123456789ab',
    });
    expect(await endMachineContainers(cvmPaths(dir), manifest('docker'))).toBe(1);
    expect(calls('docker').slice(2)).toEqual([
      `unix:///d rm --force ${CONTAINER}`,
      'unix:///d network ls --quiet --filter label=com.docker.compose.project=old-name',
      'unix:///d network rm 0123456789ab',
    ]);
  });
});
