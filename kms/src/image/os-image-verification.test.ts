/** Key release to TDs whose OS image must be downloaded (docs/protocol/images.md section 5.2). */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { toHex } from '@dstack-cloud/encoding';
import { type ImageMachine, simulatedImageBoot, simulatedImageFiles } from '@dstack-cloud/tee-simulator';
import { tarOf } from '@dstack-cloud/test/tar-of';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { RunningKms } from '../start-kms.ts';
import { ask, call } from '../test/ask.ts';
import { type ImageServer, startImageServer, whole } from '../test/image-server.ts';
import { type Lab, openLab } from '../test/lab.ts';
import type { SimulatedGuest } from '../test/simulated-guest.ts';

const TOKEN = 'image-test-token';
const image = simulatedImageFiles('kms-image');
const hash = toHex(image.osImageHash);
const archive = gzipSync(tarOf([...image.directory].map(([name, data]) => ({ name: `./${name}`, data }))));

let lab: Lab;
let server: ImageServer;
let kms: RunningKms;
let cache: string;
let caches = 0;

beforeAll(async () => {
  [lab, server] = await Promise.all([openLab(), startImageServer()]);
});
beforeEach(async () => {
  cache = join(lab.directory, `image-cache-${caches++}`);
  kms = await lab.start({
    core: {
      image: { cache_dir: cache, download_url: server.url, download_timeout: '2s' },
      admin: { enabled: true, port: 0, auth_token: TOKEN },
    },
  });
  server.requests.length = 0;
  server.serve = whole(archive);
});
afterEach(async () => {
  lab.webhook.policy = {};
  await kms.close();
});
afterAll(async () => {
  server.close();
  await lab.close();
});

const legacyGuest = (machine: ImageMachine = {}): SimulatedGuest =>
  lab.guest({ boot: simulatedImageBoot(image, machine) });
const getAppKey = (guest: SimulatedGuest, vmConfig = ''): ReturnType<typeof call> =>
  call(kms.main.port, 'GetAppKey', { api_version: 1, vm_config: vmConfig }, { client: lab.client(guest) });

async function metric(name: string): Promise<number> {
  const { body } = await ask(kms.main.port, '/metrics', { method: 'GET' });
  return Number(new RegExp(`^dstack_kms_image_cache_${name}_total (\\d+)$`, 'm').exec(body.toString())?.[1]);
}

test('a TD whose registers are those of the downloaded image gets its keys, and the image is kept', async () => {
  const first = await getAppKey(legacyGuest());
  expect(first.json).toMatchObject({
    os_image_hash: hash,
    k256_key: expect.stringMatching(/^[0-9a-f]{64}$/),
  });
  const second = await getAppKey(legacyGuest({ memorySize: 8 * 1024 ** 3 }));
  expect(second.json['k256_key']).toBe(first.json['k256_key']);
  expect(server.requests).toEqual([{ path: `/mr_${hash}.tar.gz`, range: undefined }]);
  expect(readdirSync(join(cache, 'images', hash)).sort()).toEqual([...image.directory.keys()].sort());
  expect([await metric('hits'), await metric('misses')]).toEqual([1, 1]);
});

test('measurements of a genuine boot are kept, and enough without the image', async () => {
  await getAppKey(legacyGuest());
  const [name] = readdirSync(join(cache, 'measurements'));
  expect(name).toMatch(/^[0-9a-f]{64}\.json$/);
  const boot = simulatedImageBoot(image);
  expect(JSON.parse(readFileSync(join(cache, 'measurements', name!), 'utf8'))).toEqual({
    version: 1,
    measurements: {
      mrtd: toHex(boot.mrTd),
      ...Object.fromEntries(boot.rtmrs.map((register, i) => [`rtmr${i}`, toHex(register)])),
    },
  });
  await kms.kms.images.clear({ imageHash: 'all', configHash: '' });
  expect((await getAppKey(legacyGuest())).status).toBe(200);
  expect(server.requests).toHaveLength(1);
  writeFileSync(join(cache, 'measurements', name!), '{"version":1,"measurements":{}}');
  expect((await getAppKey(legacyGuest())).status).toBe(200);
  expect(server.requests).toHaveLength(2);
});

test('many at once share one download', async () => {
  const guests = [1, 2, 3, 4].map((gib) => legacyGuest({ memorySize: (gib + 3) * 1024 ** 3 }));
  server.serve = (_, response) => setTimeout(() => response.end(archive), 200);
  const answers = await Promise.all(guests.map((guest) => getAppKey(guest)));
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  expect(server.requests).toHaveLength(1);
});

test('a TD that booted something else gets nothing, and leaves no measurements', async () => {
  const other = simulatedImageFiles('something else');
  const boot = simulatedImageBoot({ ...image, kernel: other.kernel });
  const { status, json } = await getAppKey(lab.guest({ boot }));
  expect(status).toBe(400);
  expect(json).toEqual({
    error: expect.stringMatching(
      /^App not allowed: (Failed to verify os image hash: ){2}MRs do not match: RTMR1 mismatch: expected=[0-9a-f]{96}, actual=[0-9a-f]{96}$/,
    ),
    code: 'MEASUREMENT_NOT_FOUND',
  });
  expect(existsSync(join(cache, 'measurements'))).toBe(false);
});

test('nothing is downloaded for what the policy does not allow', async () => {
  lab.webhook.policy = {
    app: { body: { isAllowed: false, gatewayAppId: '', reason: 'OS image is not allowed' } },
  };
  const { json } = await getAppKey(legacyGuest());
  expect(json['error']).toBe('App not allowed: Boot denied: OS image is not allowed');
  expect(server.requests).toEqual([]);
});

test('revoked-while-downloading: the policy is asked again when the image is there', async () => {
  server.serve = (_, response) => {
    lab.webhook.policy = { app: { body: { isAllowed: false, gatewayAppId: '', reason: 'revoked' } } };
    response.end(archive);
  };
  const { json } = await getAppKey(legacyGuest());
  expect(json['error']).toBe('App not allowed: Boot denied: revoked');
});

test('a failure is answered at once until some time has passed, or the cache is cleared', async () => {
  server.serve = (_, response) => response.writeHead(404).end();
  const expected = {
    error: `App not allowed: Failed to verify os image hash: Failed to verify os image hash: Failed to download image ${hash}: Failed to download image: HTTP status 404 Not Found`,
    code: 'UNAVAILABLE',
  };
  expect((await getAppKey(legacyGuest())).json).toEqual(expected);
  server.serve = whole(archive);
  expect((await getAppKey(legacyGuest())).json).toEqual(expected);
  expect(server.requests).toHaveLength(1);
  const cleared = await ask(kms.admin!.port, '/prpc/Admin.ClearImageCache?json', {
    plain: true,
    headers: { Authorization: `Bearer ${TOKEN}` },
    body: JSON.stringify({ image_hash: 'all', config_hash: 'all' }),
  });
  expect(cleared.status).toBe(200);
  expect((await getAppKey(legacyGuest())).status).toBe(200);
});

test.each<[string, () => void, RegExp]>([
  [
    'a server that hangs',
    () => {
      server.serve = (_, response) => response.write(archive.subarray(0, 50));
    },
    /Download image timeout$/,
  ],
  [
    'another image under the hash',
    () => {
      const other = simulatedImageFiles('x').directory;
      server.serve = whole(gzipSync(tarOf([...other].map(([name, data]) => ({ name, data })))));
    },
    /os_image_hash does not match sha256sum of the sha256sum.txt$/,
  ],
])('%s: no keys, and nothing that counts as an image', async (_, prepare, message) => {
  prepare();
  const { status, json } = await getAppKey(legacyGuest());
  expect([status, json['error']]).toEqual([400, expect.stringMatching(message)]);
  expect(readdirSync(join(cache, 'images'))).toEqual(['tmp']);
  expect(readdirSync(join(cache, 'images', 'tmp'))).toEqual([]);
});

test('a configuration of the request that names another image downloads that one, and fits no register', async () => {
  const other = simulatedImageFiles('named only');
  const files = [...other.directory].map(([name, data]) => ({ name, data }));
  server.serve = whole(gzipSync(tarOf(files)));
  const config = { ...simulatedImageBoot(other).vmConfig };
  const { json } = await getAppKey(legacyGuest(), JSON.stringify(config));
  expect(json['error']).toMatch(/MRs do not match: MRTD mismatch/);
  expect(createHash('sha256').update(other.directory.get('sha256sum.txt')!).digest('hex')).toBe(
    config['os_image_hash'],
  );
});
