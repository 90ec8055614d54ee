/** What evidence is worth at a real KMS: each test is named by the attack, and says what the attacker is told. */
import { rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { type Attestation, ratlsReportData } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { generateP256Key } from '@dstack-cloud/keys';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { callKms, errorOf } from '../harness/call-kms.ts';
import { forgedIdentity } from '../harness/forged-certificate.ts';
import { getAppKey, type KmsLab, labWorkload, startKmsLab, tempCa } from '../harness/kms-lab.ts';
import type { KmsProcess } from '../harness/kms-process.ts';
import { ALLOW, deny } from '../harness/policy-webhook.ts';
import {
  createEnclave,
  type Enclave,
  enclaveEvents,
  enclaveImageHash,
} from '../harness/simulated-enclave.ts';
import { attest, bootEvents } from '../harness/simulated-workload.ts';

let lab: KmsLab;
let enclave: Enclave;
let kms: KmsProcess;

beforeAll(async () => {
  lab = await startKmsLab();
  enclave = await createEnclave();
  const nitroRoot = `${lab.directory}/nitro-root.pem`;
  writeFileSync(nitroRoot, enclave.rootPem);
  const host = await lab.host('evidence', {
    rpc: { tls: { handshake_timeout: '2s' } },
    core: { image: { verify: false }, attestation: { root_ca: { aws_nitro_enclave: nitroRoot } } },
  });
  kms = await host.serve();
}, 120_000);
afterAll(async () => lab?.stop());
beforeEach(() => {
  lab.webhook.app = () => ALLOW;
  lab.webhook.seen.length = 0;
});

const keysOf = (body: string) => JSON.parse(body) as Record<string, string>;

/** A self-signed certificate that carries this evidence. */
async function carrying(
  make: (reportData: Uint8Array) => Promise<Attestation> | Attestation,
): Promise<{ cert: string; key: string }> {
  const key = generateP256Key();
  return forgedIdentity(key, [await make(ratlsReportData(key.spki))]);
}

describe('evidence', () => {
  test('two-instances: two machines of an app share its wallet and have a disk each', async () => {
    const [one, two] = await Promise.all(
      ['first', 'second'].map(async (name) => {
        const instanceId = labWorkload(name).instanceId;
        const answer = await getAppKey(kms, await lab.identity(kms, labWorkload('twins', { instanceId })));
        expect(answer.status, answer.body).toBe(200);
        return keysOf(answer.body);
      }),
    );
    expect(one?.['k256_key']).toBe(two?.['k256_key']);
    expect(one?.['env_crypt_key']).toBe(two?.['env_crypt_key']);
    expect(one?.['disk_crypt_key']).not.toBe(two?.['disk_crypt_key']);
  });

  test('no-instance-id: all machines of such an app share one disk key, which no named instance gets', async () => {
    const nameless = labWorkload('nameless', { instanceId: new Uint8Array() });
    const named = labWorkload('nameless');
    const half = labWorkload('nameless', { instanceId: new Uint8Array(19).fill(1) });
    const [one, two, other] = await Promise.all(
      [nameless, nameless, named].map(async (workload) =>
        keysOf((await getAppKey(kms, await lab.identity(kms, workload))).body),
      ),
    );
    expect(one?.['disk_crypt_key']).toMatch(/^[0-9a-f]{64}$/);
    expect(two).toEqual(one);
    expect(other?.['disk_crypt_key']).not.toBe(one?.['disk_crypt_key']);
    expect(errorOf(await getAppKey(kms, await lab.identity(kms, half)))).toMatch(/instance.id/);
  });

  test('rtmr3-extended-twice: what was measured twice and shown once, or the reverse, gets nothing', async () => {
    const workload = labWorkload('doubled');
    const once = bootEvents(workload);
    const event = { event: 'app-id', payload: workload.appId };
    const measuredTwice = { ...workload, laterEvents: [event] };
    for (const [measured, shown] of [
      [measuredTwice, once],
      [workload, bootEvents(measuredTwice)],
    ] as const) {
      const answer = await getAppKey(kms, await lab.identity(kms, measured, { shownEvents: shown }));
      expect(errorOf(answer)).toContain('RTMR3');
    }
    // An honest log of a second, other app id does not make it that app.
    const victim = labWorkload('victim');
    const second = { ...workload, laterEvents: [{ event: 'app-id', payload: victim.appId }] };
    expect(errorOf(await getAppKey(kms, await lab.identity(kms, second)))).toMatch(/app.id/);
    expect((await getAppKey(kms, await lab.identity(kms, workload))).status).toBe(200);
  });

  test('duplicate-extension: two attestations in one certificate get nothing, in either order', async () => {
    const key = generateP256Key();
    const reportData = ratlsReportData(key.spki);
    const mine = attest(lab.hardware, labWorkload('mine'), reportData);
    const theirs = attest(lab.hardware, labWorkload('theirs'), reportData);
    const ca = await tempCa(kms);
    for (const pair of [
      [mine, theirs],
      [theirs, mine],
      [mine, mine],
    ]) {
      const identity = await forgedIdentity(key, pair, ca);
      expect(errorOf(await getAppKey(kms, identity))).toMatch(/duplicate|twice/);
      // Damaged evidence is refused on open methods too.
      expect((await callKms(kms.url, 'GetMeta', {}, identity)).status).toBe(400);
    }
    // Without the temporary CA to chain to, such a connection is not even kept.
    await expect(getAppKey(kms, await forgedIdentity(key, [mine, mine]))).rejects.toThrow(/hang up|reset/i);
    const single = await getAppKey(kms, await forgedIdentity(key, [mine], ca));
    expect(single.status, single.body).toBe(200);
    expect(lab.webhook.seen.map(({ body }) => JSON.parse(body).appId)).not.toContain(
      toHex(labWorkload('theirs').appId),
    );
  });

  test('tampered-quote-costs-no-fetch: forged evidence causes no request to the collateral service', async () => {
    const fresh = await lab.host('no-fetch');
    const other = await fresh.serve();
    // The service has looked at its own evidence; from here on every fetch would be the attacker's.
    const honest = await lab.identity(other, labWorkload('honest'));
    const flip = (position: number) => (quote: Uint8Array) =>
      quote.map((byte, index) => (index === position ? byte ^ 0x10 : byte));
    const forged = await Promise.all(
      [48 + 520, 640, 700].map((position) =>
        lab.identity(other, labWorkload('honest'), { quote: flip(position) }),
      ),
    );
    // A KMS that has no collateral at all yet shows it best.
    await other.stop();
    rmSync(`${fresh.certDir}/collateral`, { recursive: true, force: true });
    const again = await fresh.serve();
    lab.pccs.seen.length = 0;
    for (const identity of forged) {
      expect(errorOf(await getAppKey(again, identity))).toMatch(/invalid quote/);
    }
    expect(lab.pccs.seen).toEqual([]);
    expect(lab.webhook.seen.filter(({ path }) => path === '/bootAuth/app')).toEqual([]);
    expect((await getAppKey(again, honest)).status).toBe(200);
    await again.stop();
  });

  test('silent-connection: who says nothing is cut off, and nobody else waits', async () => {
    const port = Number(new URL(kms.url).port);
    const started = Date.now();
    const sockets = Array.from({ length: 20 }, () => connect(port, '127.0.0.1'));
    const cut = Promise.all(
      sockets.map(
        (socket) =>
          new Promise<number>((resolve) => {
            socket.on('error', () => undefined);
            socket.on('close', () => resolve(Date.now() - started));
          }),
      ),
    );
    const answer = await getAppKey(kms, await lab.identity(kms, labWorkload('patient')));
    expect(answer.status).toBe(200);
    expect(Date.now() - started).toBeLessThan(1_800);
    expect(Math.max(...(await cut))).toBeLessThan(5_000);
  });

  test('debug-enclave-unverified-image: a debug enclave gets nothing even where images are not verified', async () => {
    const appId = labWorkload('enclave').appId;
    for (const config of [undefined, JSON.stringify({ os_image_hash: 'ab'.repeat(32) })]) {
      const identity = await carrying((reportData) =>
        enclave.attest({
          pcr: 0,
          reportData,
          runtimeEvents: enclaveEvents(appId),
          ...(config === undefined ? {} : { config }),
        }),
      );
      expect(errorOf(await getAppKey(kms, identity))).toMatch(/debug/i);
    }
    expect(lab.webhook.seen.filter(({ path }) => path === '/bootAuth/app')).toEqual([]);
  });

  test('nitro-claims-other-app: an enclave gets the keys of the app its image is allowed for, no other', async () => {
    const own = labWorkload('enclave-own').appId;
    const victim = labWorkload('enclave-victim').appId;
    lab.webhook.app = ({ appId, composeHash, osImageHash }) =>
      appId === toHex(own) && composeHash === enclaveImageHash(7) && osImageHash === enclaveImageHash(7)
        ? ALLOW
        : deny('Compose hash not allowed');
    const claims = (appId: Uint8Array, config?: string) =>
      carrying((reportData) =>
        enclave.attest({
          pcr: 7,
          reportData,
          runtimeEvents: enclaveEvents(appId),
          ...(config === undefined ? {} : { config }),
        }),
      );
    const honest = await getAppKey(kms, await claims(own));
    expect(honest.status, honest.body).toBe(200);
    expect(keysOf(honest.body)['os_image_hash']).toBe(enclaveImageHash(7));
    expect(errorOf(await getAppKey(kms, await claims(victim)))).toContain('Compose hash not allowed');
    // Nor by naming another image: that is checked whatever core.image.verify says.
    const lie = JSON.stringify({ os_image_hash: enclaveImageHash(9) });
    expect(errorOf(await getAppKey(kms, await claims(own, lie)))).toMatch(/os_image_hash/);
  });
});
