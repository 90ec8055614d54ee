import type { Server } from 'node:https';
import { type AddressInfo, connect } from 'node:net';
import { AttestationError } from '@dstack-cloud/attestation';
import { type AppKeys, deriveAppKeys, p256KeyPem } from '@dstack-cloud/keys';
import {
  createPrpcHandler,
  implement,
  KMS,
  type kms,
  type MessageInitShape,
  RpcError,
} from '@dstack-cloud/prpc';
import { afterEach, describe, expect, it } from 'vitest';
import { certificatePem } from '../certificate/issue-certificate.ts';
import { appLeaf } from '../certificate/profiles.ts';
import {
  attestationFor,
  bindingOnly,
  hollowAttestation,
  now,
  type TestKms,
  testKms,
} from '../testing/samples.ts';
import { onlyCertificate } from '../tls/agent.ts';
import { peerOf, readThen } from '../tls/peer.ts';
import { createRaTlsServer } from '../tls/server.ts';
import { kmsBaseUrl } from './kms-client.ts';
import {
  type KeyName,
  type KmsProgress,
  type ObtainAppKeysOptions,
  obtainAppKeys,
} from './obtain-app-keys.ts';

const keys: AppKeys = deriveAppKeys(
  { caScalar: new Uint8Array(32).fill(1), k256: new Uint8Array(32).fill(2) },
  new Uint8Array(20).fill(3),
  new Uint8Array(),
);

interface FakeKms {
  /** Root that GetTempCaCert and GetAppKey name; default the real one. */
  readonly caCert?: string;
  readonly answeredCaCert?: string;
  readonly keys?: AppKeys;
  readonly deny?: string;
  /** Added to its answer, or thrown. */
  readonly answer?: (request: kms.GetAppKeyRequest) => MessageInitShape<typeof kms.AppKeyResponseSchema>;
}

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

/** A KMS that asks for evidence and gives fixed keys. */
async function start(kms: TestKms, fake: FakeKms = {}): Promise<string> {
  const service = implement(KMS)<{ attested: boolean }>({
    GetTempCaCert: () => ({
      tempCaCert: kms.tempCaPem,
      tempCaKey: p256KeyPem(kms.tempKey),
      caCert: fake.caCert ?? kms.rootPem,
    }),
    GetAppKey: (request, { attested }) => {
      if (!attested) throw new RpcError('App not allowed: No attestation provided');
      if (fake.deny) throw new RpcError(fake.deny);
      const caCert = fake.answeredCaCert ?? fake.caCert ?? kms.rootPem;
      const osImageHash = new TextEncoder().encode(request.vmConfig);
      const common = { caCert, ...(fake.keys ?? keys), gatewayAppId: 'any', tproxyAppId: 'any', osImageHash };
      return { ...common, ...fake.answer?.(request) };
    },
  });
  const server = createRaTlsServer({
    key: p256KeyPem(kms.rpcKey),
    certChain: kms.rpcPem,
    clientCa: kms.tempCaPem,
    handler: createPrpcHandler({
      mounts: [{ path: '/prpc', trim: 'KMS.', services: [service] }],
      before: async (request) => ({
        attested: (await peerOf(request).attestation(readThen(bindingOnly))) !== undefined,
      }),
    }),
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const obtain = (url: string, options: Partial<ObtainAppKeysOptions> = {}): ReturnType<typeof obtainAppKeys> =>
  obtainAppKeys({
    kmsUrls: [url],
    attest: (reportData) => Promise.resolve(hollowAttestation(reportData)),
    vmConfig: '{"x":1}',
    verify: bindingOnly,
    now: () => now,
    ...options,
  });
const code = (expected: string): unknown => expect.objectContaining({ code: expected });

describe('keys from a KMS', () => {
  it('come with what is needed to talk to it again', async () => {
    const kms = testKms({ attested: true });
    const url = await start(kms);
    const events: KmsProgress[] = [];
    const got = await obtain(`${url}/`, { onEvent: (event) => events.push(event) });
    expect(got.keys).toEqual(keys);
    expect(got.kmsUrl).toBe(`${url}/prpc`);
    expect(got.caCert).toBe(kms.rootPem);
    expect(got.rootSpki).toEqual(kms.root.key.spki);
    expect(got.tempCaKey).toBe(p256KeyPem(kms.tempKey));
    expect(new TextDecoder().decode(got.osImageHash)).toBe('{"x":1}');
    expect(got.gatewayAppId).toBe('any');
    expect(got.kms?.simulated).toBe(true);
    expect(events.map((event) => event.step)).toEqual(['contact', 'attest', 'request']);
  });

  it('come over streams that the caller opens, and the certificate is held to the address of the URL', async () => {
    const url = await start(testKms());
    const dialled: string[] = [];
    const dial = async (host: string, port: number) => {
      dialled.push(host);
      return connect(port, host);
    };
    expect((await obtain(url, { dial })).keys).toEqual(keys);
    expect(dialled).toEqual(['127.0.0.1', '127.0.0.1']);
    const elsewhere = async (_: string, port: number) => connect(port, '127.0.0.1');
    await expect(obtain(url.replace('127.0.0.1', '127.0.0.2'), { dial: elsewhere })).rejects.toEqual(
      code('connection'),
    );
  });

  it('the URL may end in /prpc', () => {
    for (const url of ['https://a', 'https://a/', 'https://a/prpc', 'https://a/prpc//']) {
      expect(kmsBaseUrl(url)).toBe('https://a/prpc');
    }
  });

  it('the next URL is tried, and the error of the first is told when all fail', async () => {
    const good = await start(testKms());
    const denying = await start(testKms(), {
      deny: 'App not allowed: Boot denied: Compose hash not allowed',
    });
    expect((await obtain(good, { kmsUrls: ['https://127.0.0.1:1', good] })).keys).toEqual(keys);
    const failing = obtain('', { kmsUrls: [denying, 'https://127.0.0.1:1'] });
    await expect(failing).rejects.toThrow('App not allowed: Boot denied: Compose hash not allowed');
    await expect(failing).rejects.toEqual(code('kms-refused'));
    await expect(obtain('', { kmsUrls: ['https://127.0.0.1:1'] })).rejects.toEqual(code('connection'));
    await expect(obtain('', { kmsUrls: [] })).rejects.toEqual(code('connection'));
  });
});

describe('keys of other epochs and roots', () => {
  const rootId = new Uint8Array(20).fill(0xaa);
  const older = { keyEpoch: 1, rootId, ...keys };
  const asked = async (
    held: KeyName | undefined,
    answer: (request: kms.GetAppKeyRequest) => MessageInitShape<typeof kms.AppKeyResponseSchema>,
  ) => {
    const requests: kms.GetAppKeyRequest[] = [];
    const steps: string[] = [];
    const url = await start(testKms(), {
      answer: (request) => {
        requests.push(request);
        return answer(request);
      },
    });
    const got = obtain(url, { ...(held && { held }), onEvent: ({ step }) => steps.push(step) });
    return { got: await got.catch((error: unknown) => error as Awaited<typeof got>), requests, steps };
  };

  it('a KMS that knows of none gives epoch 0, and is asked for nothing that it does not know', async () => {
    const { got, requests } = await asked(undefined, () => ({}));
    expect([got.name, got.previous]).toEqual([{ epoch: 0 }, []]);
    expect([requests[0]!.keyEpoch, requests[0]!.rootId]).toEqual([undefined, undefined]);
    expect((await asked({ epoch: 3, rootId }, () => ({}))).got.name).toEqual({ epoch: 0 });
  });

  it('what is held is asked for, and comes beside the present keys', async () => {
    const { got, requests } = await asked({ epoch: 1, rootId }, () => ({
      keyEpoch: 2,
      previousKeys: [older],
    }));
    expect([requests[0]!.keyEpoch, requests[0]!.rootId]).toEqual([1, rootId]);
    expect(got).toMatchObject({ name: { epoch: 2 }, previous: [{ name: { epoch: 1, rootId }, keys }] });
  });

  it('what is released no longer is done without; any other refusal stands', async () => {
    const refuse =
      (errorCode: 'KEY_NOT_FOUND' | 'MEASUREMENT_NOT_FOUND') => (request: kms.GetAppKeyRequest) => {
        if (request.keyEpoch === undefined) return { keyEpoch: 2 };
        throw new RpcError('Key epoch 1 is not released', { code: errorCode });
      };
    const { got, requests, steps } = await asked({ epoch: 1 }, refuse('KEY_NOT_FOUND'));
    expect([got.name, requests.length]).toEqual([{ epoch: 2 }, 2]);
    expect(steps).toContain('held-keys-refused');
    const other = await asked({ epoch: 1 }, refuse('MEASUREMENT_NOT_FOUND'));
    expect([other.requests.length, other.got]).toEqual([1, code('kms-refused')]);
  });

  it('older keys of wrong length, and a root id that is none, are refused', async () => {
    for (const bad of [{ envCryptKey: new Uint8Array(31) }, { rootId: new Uint8Array(19) }]) {
      const { got } = await asked({ epoch: 1 }, () => ({ previousKeys: [{ ...older, ...bad }] }));
      expect(got).toEqual(code('kms-refused'));
    }
  });
});

describe('a KMS that is none', () => {
  it('an impostor with its own root is stopped by the pin, before it sees evidence', async () => {
    let attested = 0;
    const attest: ObtainAppKeysOptions['attest'] = (data) => {
      attested++;
      return Promise.resolve(hollowAttestation(data));
    };
    const url = await start(testKms());
    const pins = { rootSpkis: [testKms().root.key.spki] };
    await expect(obtain(url, { pins, attest })).rejects.toEqual(code('pin-mismatch'));
    expect(attested).toBe(0);
  });

  it('an impostor that names the real root cannot show a certificate under it', async () => {
    const real = testKms();
    const url = await start(testKms(), { caCert: real.rootPem });
    await expect(obtain(url, { pins: { rootSpkis: [real.root.key.spki] } })).rejects.toEqual(
      code('connection'),
    );
  });

  it('an impostor that adds a root of its own under another label', async () => {
    const real = testKms();
    const fake = testKms();
    const smuggled = fake.rootPem.replaceAll('CERTIFICATE', 'TRUSTED CERTIFICATE') + real.rootPem;
    const url = await start(fake, { caCert: smuggled });
    await expect(obtain(url, { pins: { rootSpkis: [real.root.key.spki] } })).rejects.toEqual(
      code('connection'),
    );
    expect(onlyCertificate(smuggled)).toBe(real.rootPem);
    expect(() => onlyCertificate(real.rootPem + fake.rootPem)).toThrow();
  });

  it('an application under the same root', async () => {
    const kms = testKms();
    const config = {
      subject: 'x',
      subjectAltNames: ['127.0.0.1'],
      usageServerAuth: true,
      usageClientAuth: true,
      extQuote: false,
      extAppInfo: false,
    };
    const leaf = appLeaf({ config, issuer: kms.root, spki: kms.rpcKey.spki, now });
    const url = await start({ ...kms, rpcPem: certificatePem(leaf) });
    await expect(obtain(url)).rejects.toEqual(code('wrong-usage'));
  });

  it('one without evidence, where it is required', async () => {
    const url = await start(testKms());
    await expect(obtain(url, { pins: { evidence: 'required' } })).rejects.toEqual(code('no-attestation'));
    const acceptKms = (): never => {
      throw new AttestationError('policy', 'unknown KMS');
    };
    await expect(obtain(url, { pins: { acceptKms } })).rejects.toThrow('unknown KMS');
  });

  it('one that changes its root, or gives keys of wrong length', async () => {
    const other = testKms().rootPem;
    await expect(obtain(await start(testKms(), { answeredCaCert: other }))).rejects.toEqual(
      code('pin-mismatch'),
    );
    const short = { ...keys, k256Key: new Uint8Array(31) };
    await expect(obtain(await start(testKms(), { keys: short }))).rejects.toEqual(code('kms-refused'));
    await expect(obtain(await start(testKms(), { caCert: 'no PEM' }))).rejects.toEqual(code('malformed'));
  });

  it('errors of this machine pass unchanged', async () => {
    const attest = (): Promise<never> => Promise.reject(new AttestationError('device', 'no TEE here'));
    await expect(obtain(await start(testKms()), { attest })).rejects.toThrow(AttestationError);
    expect(attestationFor(testKms().rpcKey).reportData.length).toBe(64);
  });
});
