/** A host of the original's newer line and our guest: the files with which the original's own guest booted. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decodeAttestation, systemPayloads } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { encryptEnv, x25519PublicKey } from '@dstack-cloud/keys';
import { describeWithFixtures, fixture, fixtureJson } from '@dstack-cloud/test/fixtures';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { parseGuestConfig } from '../config/guest-config.ts';
import { type FakeKms, startFakeKms } from '../test/fake-kms.ts';
import { SoftwareDevice } from '../test/software-device.ts';
import { prepare } from './prepare.ts';

const FOLDER = 'interop-original/gpu-policy-hash';
const FILES = ['app-compose.json', '.instance_info', '.user-config'];

let root = '';
let kms: FakeKms | undefined;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'dstack-interop-'));
});
afterEach(() => {
  kms?.close();
  rmSync(root, { recursive: true, force: true });
});

describeWithFixtures('host-shared of the newer line', `${FOLDER}/host-shared/app-compose.json`, () => {
  it('boots our guest, with the identities of the original one', async () => {
    kms = await startFakeKms();
    const shared = join(root, 'tmp/.host-shared');
    mkdirSync(shared, { recursive: true });
    for (const name of FILES) writeFileSync(join(shared, name), fixture(`${FOLDER}/host-shared/${name}`));
    // As recorded, but for the address of the KMS, and an environment for the key that this one gives.
    const system = fixtureJson<object>(`${FOLDER}/host-shared/.sys-config.json`);
    writeFileSync(join(shared, '.sys-config.json'), JSON.stringify({ ...system, kms_urls: [kms.url] }));
    const environment = encryptEnv(
      [{ key: 'SECRET', value: 's3' }],
      x25519PublicKey(new Uint8Array(32).fill(2)),
    );
    writeFileSync(join(shared, '.encrypted-env'), environment);

    const device = new SoftwareDevice();
    await prepare({
      config: parseGuestConfig(JSON.stringify({ root, require_kms_attestation: false }), root),
      openDevice: () => Promise.resolve(device),
      notify: () => Promise.resolve(),
      log: pino({ level: 'silent' }),
    });
    const { runtimeEvents } = decodeAttestation(fixture(`${FOLDER}/attestation.v0.bin`));
    for (const name of ['app-id', 'compose-hash', 'instance-id']) {
      const [ours, theirs] = [device.emitted, runtimeEvents].map((events) => systemPayloads(events, name));
      expect([name, ours!.map(toHex)]).toEqual([name, theirs!.map(toHex)]);
    }
    // This guest drives no GPU: it has no policy on one to measure.
    expect(device.names).not.toContain('gpu-policy-hash');
    expect(device.names.at(-1)).toBe('system-ready');
  });
});
