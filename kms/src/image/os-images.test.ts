import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { VerifiedAttestation } from '@dstack-cloud/attestation';
import { simulatedImageBoot, simulatedImageFiles } from '@dstack-cloud/tee-simulator';
import { tarOf } from '@dstack-cloud/test/tar-of';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { checkConfig } from '../config/check-config.ts';
import { createLog } from '../telemetry/log.ts';
import { createMetrics } from '../telemetry/metrics.ts';
import { type ImageServer, startImageServer, whole } from '../test/image-server.ts';
import { type OsImages, type OsImagesOptions, openOsImages } from './os-images.ts';

let server: ImageServer;
let directory: string;
let images: OsImages;
let time = 0;

beforeEach(async () => {
  server = await startImageServer();
  directory = mkdtempSync(join(tmpdir(), 'kms-os-images-'));
});
afterEach(async () => {
  await images.close();
  server.close();
  rmSync(directory, { recursive: true, force: true });
});

function open(options: Partial<OsImagesOptions> = {}): OsImages {
  const config = checkConfig(
    {
      core: {
        cert_dir: directory,
        auth_api: { type: 'webhook', webhook: { url: 'http://localhost:1' } },
        image: { cache_dir: directory, download_url: server.url, download_timeout: '5s' },
      },
    },
    {},
  );
  const metrics = createMetrics({ version: '0', simulated: true, imageVerified: true });
  images = openOsImages(config, { metrics, log: createLog('silent'), clock: () => time, ...options });
  return images;
}

/** An image on the server, and evidence of its boot as the image check sees it. */
function booted(name: string): { archive: Uint8Array; evidence: VerifiedAttestation } {
  const image = simulatedImageFiles(name);
  const boot = simulatedImageBoot(image);
  const names = ['acpi-loader', 'acpi-rsdp', 'acpi-tables'];
  const eventLog = boot.events.map(({ rtmr, type, digest, data }) => ({
    imr: rtmr,
    eventType: type,
    digest,
    event: Buffer.from(data).toString() === 'ACPI DATA' ? (names.shift() ?? '') : '',
    eventPayload: data,
  }));
  return {
    archive: gzipSync(tarOf([...image.directory].map(([file, data]) => ({ name: file, data })))),
    evidence: {
      mode: 'dstack-tdx',
      config: JSON.stringify(boot.vmConfig),
      evidence: { kind: 'tdx', td: { mrTd: boot.mrTd, rtmrs: boot.rtmrs } },
      attestation: { quote: { eventLog } },
    } as unknown as VerifiedAttestation,
  };
}

test('who waits too long is answered; the download goes on, and the next call finds it', async () => {
  const { archive, evidence } = booted('slow');
  server.serve = (_, response) => setTimeout(() => response.end(archive), 300);
  open({ answerMs: 50 });
  await expect(images.check(evidence)).rejects.toMatchObject({
    code: 'image-unavailable',
    message: 'The OS image is still being downloaded; try again',
  });
  await vi.waitFor(() => expect(readdirSync(join(directory, 'images'))).toHaveLength(2), 10_000);
  await images.close();
  await open({ answerMs: 5_000 }).check(evidence);
  expect(server.requests).toHaveLength(1);
});

test('the wait after a failure doubles, up to ten minutes', async () => {
  const { archive, evidence } = booted('failing');
  open();
  const waits: number[] = [];
  for (let i = 0; i < 9; i++) {
    await expect(images.check(evidence)).rejects.toThrow('HTTP status 404');
    const asked = server.requests.length;
    let wait = 0;
    while (server.requests.length === asked && wait < 1_000) {
      wait += 5;
      time += 5_000;
      await expect(images.check(evidence)).rejects.toThrow('HTTP status 404');
    }
    waits.push(wait);
  }
  expect(waits).toEqual([5, 10, 20, 40, 80, 160, 320, 600, 600]);
  server.serve = whole(archive);
  time += 600_000;
  await images.check(evidence);
});

test('a third image at the same time has to wait', async () => {
  server.serve = () => undefined;
  open({ answerMs: 20 });
  for (const name of ['one', 'two']) {
    await expect(images.check(booted(name).evidence)).rejects.toThrow('still being downloaded');
  }
  await expect(images.check(booted('three').evidence)).rejects.toThrow('Other images are being downloaded');
});

test('closing ends a download and removes what it had', async () => {
  const { archive, evidence } = booted('closing');
  server.serve = (_, response) => response.write(archive.subarray(0, 100));
  open({ answerMs: 200 });
  await expect(images.check(evidence)).rejects.toThrow('still being downloaded');
  expect(readdirSync(join(directory, 'images', 'tmp'))).toHaveLength(1);
  await images.close();
  expect(readdirSync(join(directory, 'images', 'tmp'))).toEqual([]);
});

test('a process that does not download asks the one that does, once, and reads what it brought', async () => {
  const { archive, evidence } = booted('shared');
  server.serve = whole(archive);
  const keeper = open();
  let asked = 0;
  const workers = [1, 2].map(() =>
    open({
      keeper: {
        obtain: (hash) => {
          asked += 1;
          return keeper.obtain(hash);
        },
        clear: (keys) => keeper.clear(keys),
      },
    }),
  );
  await Promise.all(workers.flatMap((worker) => [worker.check(evidence), worker.check(evidence)]));
  expect(asked).toBe(2);
  expect(server.requests).toHaveLength(1);
  // From now on each finds the measurements by itself.
  await Promise.all(workers.map((worker) => worker.check(evidence)));
  expect(asked).toBe(2);
});

test('a download that failed elsewhere fails here with its reason, until the cache is cleared', async () => {
  const { archive, evidence } = booted('failing elsewhere');
  const keeper = open();
  const worker = open({ keeper });
  const reason = /^Failed to download image [0-9a-f]{64}: .*404/;
  await expect(worker.check(evidence)).rejects.toMatchObject({ code: 'image-unavailable', message: reason });
  server.serve = whole(archive);
  await expect(worker.check(evidence)).rejects.toThrow('404');
  await worker.clear({ imageHash: '', configHash: '' });
  await worker.check(evidence);
  expect(server.requests).toHaveLength(2);
});

test('what was brought and is damaged before it is read is not taken', async () => {
  const { evidence } = booted('damaged');
  const worker = open({ keeper: { obtain: async () => undefined, clear: async () => undefined } });
  await expect(worker.check(evidence)).rejects.toMatchObject({ code: 'image-invalid' });
});
