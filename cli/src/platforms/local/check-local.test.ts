import { describe, expect, it } from 'vitest';
import type { Prepared } from '../../project/shared-files.ts';
import type { Place } from '../platform.ts';
import { checkGuest } from './check-local.ts';

const TOKEN = 'unit-test-launch-token-0000000001';
const TOKEN_HASH = '28faa1319055d733ad9651f5ab7689c15b04609846bcd27b3c5bc8df6246f5a3';

async function check(
  members: object,
  userConfig?: string,
  app_compose_file = '',
  driver: 'process' | 'vm' = 'process',
): Promise<void> {
  const compose = {
    ...{ manifest_version: '3', name: 'x', runner: 'docker-compose', docker_compose_file: 'services: {}' },
    ...members,
  };
  const files = {
    'app-compose.json': Buffer.from(JSON.stringify(compose)),
    ...(userConfig === undefined ? {} : { '.user-config': Buffer.from(userConfig) }),
  };
  const config = { app_compose_file, local_config: { driver } };
  const place = { project: { config } } as Place;
  checkGuest(place, { files } as unknown as Prepared);
}

describe('what a local guest would refuse', () => {
  it.each([
    [{ swap_size: 1 }, 'bad_compose_file', /swap_size/],
    [{ runner: 'nerdctl-compose' }, 'bad_compose_file', /runner: /],
    [{ requirements: { platforms: [] } }, 'bad_compose_file', /platforms: dstack-tdx is not listed/],
    [{ requirements: { launch_token_hash: TOKEN_HASH } }, 'bad_compose_file', /launch_token_hash/],
    [{ requirements: { os_version: '*' } }, 'bad_compose_file', /os_version/],
    [{ key_provider: 'tpm' }, 'bad_app_json', /tpm does not exist on platform local with driver process/],
    [{ local_key_provider_enabled: true }, 'bad_app_json', /local/],
  ])('%j', async (members, code, message) => {
    const refusal = { code, message: expect.stringMatching(message) };
    await expect(check(members)).rejects.toMatchObject(refusal);
  });

  it('says where to change it', async () => {
    await expect(check({ swap_size: 1 })).rejects.toMatchObject({
      hint: expect.stringContaining('app.json'),
    });
    await expect(check({ swap_size: 1 }, undefined, 'exact.json')).rejects.toMatchObject({
      hint: expect.stringContaining('exact.json'),
    });
  });

  it('lets the rest pass, also a launch token that .user-config holds', async () => {
    await check({ init_script: 'true', key_provider: 'kms' });
    const user = JSON.stringify({ dstack: { launch_token: TOKEN } });
    await check({ requirements: { launch_token_hash: TOKEN_HASH, platforms: ['dstack-tdx'] } }, user);
  });

  it('of a virtual machine is what its kernel, disk and TPM can do', async () => {
    await expect(check({ swap_size: 1, storage_fs: 'ext4' }, undefined, '', 'vm')).resolves.toBeUndefined();
    await expect(check({ storage_fs: 'zfs' }, undefined, '', 'vm')).rejects.toThrow(/storage_fs/);
    for (const key_provider of ['local', 'tpm'])
      await expect(check({ key_provider, storage_fs: 'ext4' }, undefined, '', 'vm')).resolves.toBeUndefined();
  });
});
