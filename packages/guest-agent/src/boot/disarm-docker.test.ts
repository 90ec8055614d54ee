import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLogger } from '../log.ts';
import { disarmDocker } from './disarm-docker.ts';

const log = createLogger('test');
const RESTARTING = { Binds: ['/a:/b'], RestartPolicy: { Name: 'always', MaximumRetryCount: 3 } };
let top: string;
let root: string;
beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), 'disarm-docker-'));
  root = join(top, 'docker');
});
afterEach(() => rmSync(top, { recursive: true }));

function container(name: string, settings: string): string {
  const folder = join(root, 'containers', name);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'hostconfig.json'), settings);
  return join(folder, 'hostconfig.json');
}

describe('what an earlier boot left to Docker', () => {
  it('is nothing on a new disk', async () => {
    await disarmDocker(root, log);
    expect(existsSync(root)).toBe(false);
  });

  it('has no restart policy that Docker could read, in whatever case its name is written', async () => {
    const names = ['restartpolicy', 'RESTARTPOLICY', 'Re\u017ftartPolicy'];
    const others = Object.fromEntries(names.map((name) => [name, { Name: 'always' }]));
    const file = container('a'.repeat(64), JSON.stringify({ ...RESTARTING, ...others }));
    await disarmDocker(root, log);
    const text = readFileSync(file, 'utf8');
    expect(JSON.parse(text)).toMatchObject({ Binds: ['/a:/b'] });
    // Of members whose names are equal to it, Docker takes the last.
    expect(text.endsWith('"RestartPolicy":{"Name":"no","MaximumRetryCount":0}}')).toBe(true);
    expect(text.match(/"RestartPolicy"/g)).toHaveLength(1);
  });

  it.each([
    ['are more than is read here', 'b'.repeat(64), JSON.stringify({ ...RESTARTING, x: 'x'.repeat(2 ** 20) })],
    ['are half written', 'b'.repeat(64), '{half'],
    ['are no object', 'b'.repeat(64), '[]'],
    ['are below a name that Docker never gives', 'another', JSON.stringify(RESTARTING)],
  ])('is removed where its settings %s', async (_, name, settings) => {
    container(name, settings);
    await disarmDocker(root, log);
    expect(readdirSync(join(root, 'containers'))).toEqual([]);
  });

  it('loses its swarm and its plugins, and keeps images and volumes', async () => {
    for (const name of ['swarm', 'plugins/storage', 'volumes/data', 'image', 'overlay2'])
      mkdirSync(join(root, name), { recursive: true });
    await disarmDocker(root, log);
    expect(readdirSync(root).sort()).toEqual(['image', 'overlay2', 'volumes']);
  });

  it('leads nowhere by links', async () => {
    const other = join(top, 'other');
    mkdirSync(join(other, 'd'.repeat(64)), { recursive: true });
    const file = join(other, 'd'.repeat(64), 'hostconfig.json');
    writeFileSync(file, JSON.stringify(RESTARTING));
    mkdirSync(join(root, 'containers', 'c'.repeat(64)), { recursive: true });
    symlinkSync(file, join(root, 'containers', 'c'.repeat(64), 'hostconfig.json'));
    symlinkSync(join(other, 'd'.repeat(64)), join(root, 'containers', 'd'.repeat(64)));
    symlinkSync(other, join(root, 'swarm'));
    await disarmDocker(root, log);
    expect(readdirSync(join(root, 'containers'))).toEqual([]);
    rmSync(join(root, 'containers'), { recursive: true });
    symlinkSync(other, join(root, 'containers'));
    await disarmDocker(root, log);
    expect(readdirSync(root)).toEqual([]);
    expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(RESTARTING);
  });
});
