/**
 * Who gets keys, who does not, and what they are told. Each test is named by the threat; the KMS is the real one,
 * in a machine of its own, with a real chain.
 */
import {
  bootInfo,
  pcsCollateral,
  ratlsReportData,
  vendorRoots,
  verifyAttestation,
  withTdxRoot,
} from '@dstack-cloud/attestation';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { generateP256Key, issuedKeyMessage, k256PublicKey, recoverK256 } from '@dstack-cloud/keys';
import { kmsClient } from '@dstack-cloud/ra-tls';
import { createPlatform, DEBUG_ATTRIBUTES } from '@dstack-cloud/tee-simulator';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { callKms, errorOf } from '../harness/call-kms.ts';
import { attest, clientIdentity, type Workload } from '../harness/simulated-workload.ts';
import { identityOf, registeredWorkload, type Stack, setAllowed, startStack } from '../harness/stack.ts';

let stack: Stack;
let workload: Workload;

beforeAll(async () => {
  stack = await startStack();
  workload = await registeredWorkload(stack, 'honest');
}, 120_000);
afterAll(async () => stack?.stop(), 60_000);

/** A head of the chain may serve the requests of a moment, one second at most (core.auth_api.chain.head_reuse_ms). */
const headReuse = () => new Promise((resolve) => setTimeout(resolve, 1_000));

const getAppKey = async (identity?: { cert: string; key: string }) =>
  callKms(stack.kms.url, 'GetAppKey', { api_version: 1, vm_config: '' }, identity);

describe('key release', () => {
  test('honest-workload: gets its keys, signed by the root that the chain names', async () => {
    const answer = await getAppKey(await identityOf(stack, workload));
    expect(answer.status, answer.body).toBe(200);
    const keys = JSON.parse(answer.body) as Record<string, string>;
    const key = fromHex(keys['k256_key']!);
    const signer = recoverK256(
      issuedKeyMessage(workload.appId, k256PublicKey(key)),
      fromHex(keys['k256_signature']!),
    );
    expect(toHex(signer)).toBe(stack.kms.k256Pubkey);
    expect(keys['disk_crypt_key']).toHaveLength(64);
  });

  test('same-keys-after-restart: another instance of the app gets the same wallet key, another disk key', async () => {
    const first = JSON.parse((await getAppKey(await identityOf(stack, workload))).body);
    const second = JSON.parse(
      (await getAppKey(await identityOf(stack, { ...workload, instanceId: new Uint8Array(20).fill(8) })))
        .body,
    );
    expect(second.k256_key).toBe(first.k256_key);
    expect(second.disk_crypt_key).not.toBe(first.disk_crypt_key);
  });

  test('temp-ca-without-evidence: a certificate of the public temporary CA alone gets nothing', async () => {
    expect(errorOf(await getAppKey())).toContain('No attestation provided');
  });

  test('revoked-between-requests: a revoked compose hash gets nothing any more', async () => {
    const app = await registeredWorkload(stack, 'revoked');
    const identity = await identityOf(stack, app);
    expect((await getAppKey(identity)).status).toBe(200);
    await setAllowed(stack, app, false);
    await headReuse();
    expect(errorOf(await getAppKey(identity))).toBe('App not allowed: Boot denied: Compose hash not allowed');
    await setAllowed(stack, app, true);
    expect((await getAppKey(identity)).status).toBe(200);
  });

  test('unregistered-app: an app id that no contract has gets nothing', async () => {
    const identity = await identityOf(stack, { ...workload, appId: new Uint8Array(20).fill(0x42) });
    expect(errorOf(await getAppKey(identity))).toBe('App not allowed: Boot denied: App not registered');
  });

  test('changed-image: an OS image that is not on chain gets nothing', async () => {
    const identity = await identityOf(stack, { ...workload, image: 'dstack-sim-evil' });
    expect(errorOf(await getAppKey(identity))).toContain('OS image is not allowed');
  });

  test('claimed-image: another image that claims the hash of the allowed one gets nothing', async () => {
    const honest = attest(stack.hardware, workload, new Uint8Array(64));
    const identity = await identityOf(
      stack,
      { ...workload, image: 'dstack-sim-evil' },
      { config: honest.config },
    );
    expect(errorOf(await getAppKey(identity))).toMatch(/os image|MRs do not match/i);
  });

  test('flipped-bit: a quote with any one bit changed gets nothing', async () => {
    for (const position of [40, 120, 200, 400, 560, 600, 640, 710, 800, 1160, 1230, 1300]) {
      const identity = await identityOf(stack, workload, {
        quote: (quote) => quote.map((byte, index) => (index === position ? byte ^ 0x10 : byte)),
      });
      const answer = await getAppKey(identity);
      expect(answer.status, `bit at ${position}`).toBe(400);
    }
  });

  test('debug-td: a TD in debug mode gets nothing', async () => {
    const identity = await identityOf(stack, workload, { td: { tdAttributes: DEBUG_ATTRIBUTES } });
    expect(errorOf(await getAppKey(identity))).toMatch(/debug/i);
  });

  test('unknown-root: evidence under another simulator root gets nothing', async () => {
    const identity = await clientIdentity({
      platform: createPlatform(new Uint8Array(32).fill(0x66)),
      workload,
      ...stack.tempCa,
    });
    expect((await getAppKey(identity)).status).toBe(400);
  });

  test('simulator-root-not-configured: a verifier that was not told refuses the simulator', async () => {
    const evidence = attest(stack.hardware, workload, new Uint8Array(64));
    const now = Math.floor(Date.now() / 1000);
    const collateral = pcsCollateral({ baseUrl: stack.pccs.pccsUrl });
    await expect(
      verifyAttestation(evidence, { roots: vendorRoots(), collateral, now }),
    ).rejects.toMatchObject({
      name: 'AttestationError',
    });
    const roots = withTdxRoot(vendorRoots(), stack.hardware.rootDer);
    const verified = await verifyAttestation(evidence, { roots, collateral, now });
    expect(verified.simulated).toBe(true);
    expect(bootInfo(verified, { bootTime: false }).simulated).toBe(true);
  });

  test('replayed-attestation: evidence of another key, in a certificate of mine, gets nothing', async () => {
    const other = generateP256Key();
    const identity = await identityOf(stack, workload, { reportData: ratlsReportData(other.spki) });
    expect(errorOf(await getAppKey(identity))).toContain('report data mismatch');
  });

  test('rewritten-events: an event log that is not what was measured gets nothing', async () => {
    const victim = await registeredWorkload(stack, 'victim');
    const shown = attest(stack.hardware, victim, new Uint8Array(64)).runtimeEvents;
    const identity = await identityOf(stack, workload, { shownEvents: [...shown] });
    expect(errorOf(await getAppKey(identity))).toMatch(/RTMR3/);
  });

  test('another-apps-certificate: its keys are its own, whoever asks', async () => {
    const other = await registeredWorkload(stack, 'other');
    const mine = JSON.parse((await getAppKey(await identityOf(stack, workload))).body);
    const theirs = JSON.parse((await getAppKey(await identityOf(stack, other))).body);
    expect(theirs.k256_key).not.toBe(mine.k256_key);
    expect(theirs.env_crypt_key).not.toBe(mine.env_crypt_key);
  });

  test('wrong-length-measurement: a compose hash of 31 bytes gets nothing', async () => {
    const identity = await identityOf(stack, { ...workload, composeHash: workload.composeHash.slice(0, 31) });
    expect((await getAppKey(identity)).status).toBe(400);
  });

  test('app-asks-for-root-keys: an allowed app does not get the root keys', async () => {
    const answer = await callKms(stack.kms.url, 'GetKmsKey', {}, await identityOf(stack, workload));
    expect(errorOf(answer)).toMatch(/not allowed|denied/i);
    expect(answer.body).not.toMatch(/PRIVATE KEY/);
  });

  test('empty-vm-config: a request cannot replace the attested configuration', async () => {
    const identity = await identityOf(stack, workload);
    for (const vm_config of ['{}', '[]', '{"os_image_hash":""}']) {
      const answer = await callKms(stack.kms.url, 'GetAppKey', { api_version: 1, vm_config }, identity);
      if (answer.status === 200) continue; // The attested configuration counts; the request's is ignored.
      expect(errorOf(answer)).toBeTruthy();
    }
    const identityWithout = await identityOf(stack, workload, { config: '' });
    expect(
      (await callKms(stack.kms.url, 'GetAppKey', { api_version: 1, vm_config: '{}' }, identityWithout))
        .status,
    ).toBe(400);
  });

  test('app-certificate-as-kms: a client of ours refuses an app that plays the KMS', async () => {
    // An app can get any DNS name certified under the same root, but never usage kms:rpc.
    const { createServer } = await import('node:https');
    const { appCertificate } = await import('../harness/app-certificate.ts');
    const certificate = await appCertificate(stack, workload, ['localhost']);
    const impostor = createServer({ key: certificate.key, cert: certificate.chain }, (_, response) =>
      response.end('{}'),
    );
    await new Promise<void>((resolve) => impostor.listen(0, 'localhost', resolve));
    try {
      const { port } = impostor.address() as { port: number };
      const client = kmsClient(`https://localhost:${port}`, {
        ca: stack.tempCa.rootCa,
        verifyServer: { evidence: 'ignore' },
      });
      await expect(client.call.getMeta({})).rejects.toThrow(/kms:rpc/);
      client.close();
    } finally {
      impostor.close();
    }
  });

  test('flood-of-garbage: bytes that are no TLS and no evidence do not disturb others', async () => {
    const { connect } = await import('node:net');
    const { hostname, port } = new URL(stack.kms.url);
    const sockets = Array.from({ length: 50 }, () => {
      const socket = connect(Number(port), hostname);
      socket.on('error', () => undefined);
      socket.write(Buffer.alloc(512, 0x41));
      return socket;
    });
    expect((await getAppKey(await identityOf(stack, workload))).status).toBe(200);
    for (const socket of sockets) socket.destroy();
  });
});
