import { writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Sandbox } from '../testing.ts';

let sandbox: Sandbox;
beforeEach(() => {
  sandbox = new Sandbox();
});
afterEach(() => sandbox.remove());

async function measure(members: object) {
  const base = { name: 'web', os_image: 'dstack-sim-0.6.0', platform: 'local', key_provider: 'none' };
  writeFileSync(sandbox.path('app.json'), JSON.stringify({ ...base, ...members }));
  writeFileSync(sandbox.path('docker-compose.yaml'), 'services: {web: {image: x}}\n');
  return await sandbox.run('measure');
}

it.each([
  [{ requirements: { os_version: '' } }, 'requirements'],
  [{ init_script: 'exit 1' }, 'init_script'],
  [{ runner: 'bash' }, 'runner'],
  [{ port_policy: {} }, 'port_policy'],
  [{ verity_volumes: [] }, 'verity_volumes'],
  [{ swap_size: '1G' }, 'swap_size'],
])('refuses %j, which would be neither measured nor done', async (members, name) => {
  const { code, stderr } = await measure(members);
  expect([code, stderr]).toEqual([1, expect.stringContaining(`${name} is a member of app-compose.json`)]);
  expect(stderr).toContain('app_compose_file');
});

it.each([
  [{ envfile: 'x' }, 'did you mean env_file?'],
  [{ localconfig: {} }, 'did you mean local_config?'],
  [{ local_config: { prot: 1 } }, 'did you mean port?'],
])('refuses %j, which is mistyped', async (members, text) => {
  const { code, stderr } = await measure(members);
  expect([code, stderr]).toEqual([1, expect.stringContaining(text)]);
});

it('names members of other tools, and takes comments', async () => {
  const { stderr } = await measure({ someones_own_thing: 1, _comment: 'x', _comment_2: 'y' });
  expect(stderr).toContain('nobody reads the member someones_own_thing');
  expect(stderr).not.toContain('_comment');
  expect(stderr).not.toContain('is a member of app-compose.json');
});
