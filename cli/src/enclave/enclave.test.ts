import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createNitro } from '@dstack-cloud/tee-simulator';
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { Sandbox } from '../testing.ts';

const APP_ID = '00112233445566778899aabbccddeeff00112233';
let box: Sandbox;
// Loaded once, outside of the time of the first test.
beforeAll(async () => {
  await import('../measurement/show-enclave.ts');
  await import('../commands/measurement-register.ts');
}, 240_000);
beforeEach(async () => {
  box = new Sandbox();
  mkdirSync(box.path('root/bin'), { recursive: true });
  writeFileSync(box.path('root/bin/app'), '#!app');
  mkdirSync(box.path('blobs'));
  for (const [name, text] of Object.entries({ bzImage: 'k', cmdline: 'c', init: 'i', 'nsm.ko': 'n' }))
    writeFileSync(box.path('blobs', name), text);
  mkdirSync(box.path('app'));
  writeFileSync(box.path('app/root_ca.pem'), createNitro(new Uint8Array(32)).rootPem);
  const words = ['--root', 'root', '--blobs', 'blobs', '-o', 'app.eif', '--', '/bin/app'];
  expect((await box.run('eif', 'build', ...words)).code).toBe(0);
  project({});
}, 60_000);
afterEach(() => box.remove());

function project(nitro: object, more: object = {}): void {
  const nitro_config = { host: 'local', eif: 'app.eif', kms_url: 'https://kms.example:12001', ...nitro };
  writeFileSync(
    box.path('app.json'),
    JSON.stringify({ name: 'demo', platform: 'nitro', app_id: APP_ID, nitro_config, ...more }),
  );
}

it('measures a prebuilt image as eif measure does, and keeps what it was built from', async () => {
  const own = JSON.parse((await box.run('eif', 'measure', 'app.eif', '--json')).stdout);
  const measured = await box.run('measure', '--json');
  expect(measured.code, measured.stderr).toBe(0);
  expect(JSON.parse(measured.stdout)).toMatchObject({ ...own, app_id: APP_ID });
  const kept = JSON.parse(readFileSync(box.path('output/measurements.json'), 'utf8'));
  expect(kept).toMatchObject({ ...own, inputs: { kms_url: 'https://kms.example:12001' } });
  const text = (await box.run('deploy', '--local')).stdout;
  expect(text).toContain(`OS_IMAGE_HASH: ${own.OS_IMAGE_HASH}`);
  expect(text).toContain(`kms:add-image ${own.OS_IMAGE_HASH}`);
}, 120_000);

it('without a KMS the image is the app id, and nothing is to be registered', async () => {
  project({}, { key_provider: 'none', app_id: undefined });
  const { stdout } = await box.run('deploy', '--local', '--json');
  const { OS_IMAGE_HASH: hash, app_id: appId, register } = JSON.parse(stdout);
  expect([appId, register]).toEqual([hash.slice(2, 42), []]);
});

it('an image for this host is SIMULATED: it is not registered without a word', async () => {
  const { code, stderr } = await box.run('measurement', 'register');
  expect([code, stderr]).toEqual([1, expect.stringContaining('is SIMULATED: it is not registered')]);
});

it.each<[string, object, string]>([
  ['a TPM', { key_provider: 'tpm' }, 'An enclave has no TPM'],
  ['no app id', { app_id: undefined }, 'app.json has no app_id'],
])('%s is refused', async (_, more, sentence) => {
  project({}, more);
  expect((await box.run('measure')).stderr).toContain(sentence);
});

it.each<[string, object, string]>([
  ['memory below four times the image', { memory_mib: 64, eif: 'large.eif' }, '4 times the image'],
  ['an image outside of the project', { eif: '../app.eif' }, 'leads out of the project'],
  ['an image behind a link', { eif: 'link.eif' }, 'leads out of the project'],
  ['an image that is not there', { eif: 'none.eif' }, 'none.eif does not exist'],
  ['two sources', { image: 'app.tar' }, 'image and eif are two sources'],
  ['a mistyped member', { memory: 64 }, 'nitro_config: unknown key memory'],
  [
    'an ingress without a port',
    { vsock: [{ direction: 'ingress', listen: 'x', enclave_port: 1 }] },
    'must be ADDRESS:PORT',
  ],
  ['a URL with a command', { kms_url: 'https://kms.example/`id`' }, 'cannot be put into an enclave image'],
  ['a KMS without TLS', { kms_url: 'http://kms.example' }, 'cannot be put into an enclave image'],
])('%s is refused', async (_, nitro, sentence) => {
  writeFileSync(box.path('root/bin/large'), Buffer.alloc(20 * 2 ** 20));
  const words = ['--root', 'root', '--blobs', 'blobs', '-o', 'large.eif', '--', '/bin/app'];
  if ('memory_mib' in nitro) await box.run('eif', 'build', ...words);
  symlinkSync('/etc/hostname', box.path('link.eif'));
  project(nitro);
  const { code, stderr } = await box.run('measure');
  expect([code, stderr]).toEqual([1, expect.stringContaining(sentence)]);
});

it('a damaged image is refused', async () => {
  const image = readFileSync(box.path('app.eif'));
  image[image.length - 1]! ^= 1;
  writeFileSync(box.path('app.eif'), image);
  expect((await box.run('measure')).stderr).toContain('its checksum is wrong');
});

it('variables for an enclave are refused before it is made', async () => {
  writeFileSync(box.path('.env'), 'SECRET=1\n');
  const { code, stderr } = await box.run('deploy');
  expect([code, stderr]).toEqual([1, expect.stringContaining('an enclave gets none from its host')]);
});
