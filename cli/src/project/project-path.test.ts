import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Sandbox } from '../testing.ts';

const IDS = { app_id: '11'.repeat(20), instance_id_seed: '22'.repeat(20) };

let sandbox: Sandbox;
beforeEach(() => {
  sandbox = new Sandbox();
});
afterEach(() => sandbox.remove());

/** A project of somebody else, beside a file of this machine that nobody may publish. */
function project(config: object): void {
  writeFileSync(sandbox.path('private'), 'KEY=secret\n');
  mkdirSync(sandbox.path('app'));
  const text = {
    name: 'web',
    os_image: 'dstack-sim-0.6.0',
    platform: 'local',
    key_provider: 'kms',
    ...IDS,
    ...config,
  };
  writeFileSync(sandbox.path('app/app.json'), JSON.stringify(text));
  writeFileSync(sandbox.path('app/docker-compose.yaml'), 'services: {web: {image: x}}\n');
  writeFileSync(sandbox.path('app/.env'), 'KEY=secret\n');
}

const measure = () => sandbox.run('-C', 'app', 'measure', '--json');

it.each(['docker_compose_file', 'prelaunch_script', 'app_compose_file', 'env_file'])(
  'refuses a %s outside of the project, by name and through a link',
  async (member) => {
    project({ [member]: '../private' });
    symlinkSync('../private', sandbox.path('app/link'));
    const outside = await measure();
    expect([outside.code, JSON.parse(outside.stdout).error.message]).toEqual([
      1,
      `${member} leads out of the project`,
    ]);
    writeFileSync(
      sandbox.path('app/app.json'),
      JSON.stringify({ name: 'web', platform: 'local', key_provider: 'kms', ...IDS, [member]: 'link' }),
    );
    const linked = await measure();
    expect([linked.code, JSON.parse(linked.stdout).error.message]).toEqual([
      1,
      `${member} leads out of the project`,
    ]);
    expect(outside.stdout + linked.stdout).not.toContain('secret');
  },
);

it.each(['docker_compose_file', 'prelaunch_script', 'app_compose_file'])(
  'refuses to publish the environment file as %s',
  async (member) => {
    project({ [member]: '.env' });
    expect((await measure()).stderr).toContain('whose secrets would be published');
  },
);

it('takes links inside of the project', async () => {
  project({ prelaunch_script: 'start.sh' });
  writeFileSync(sandbox.path('app/real.sh'), '# nothing\n');
  symlinkSync('real.sh', sandbox.path('app/start.sh'));
  const { code, stderr } = await measure();
  expect(code, stderr).toBe(0);
});

it('refuses a .user-config that is a link out of the project', async () => {
  project({});
  symlinkSync('../private', sandbox.path('app/.user-config'));
  const { code, stdout, stderr } = await measure();
  expect([code, stderr]).toEqual([1, expect.stringContaining('.user-config leads out of the project')]);
  expect(stdout + stderr).not.toContain('secret');
});
