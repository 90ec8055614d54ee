/** `GET /nonce` and what becomes of it in an enclave's document (docs/protocol/kms.md section 4.4). */
import { once } from 'node:events';
import { cpSync, statSync } from 'node:fs';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect, createServer } from 'node:net';
import { basename, join } from 'node:path';
import { encodeAttestation, ratlsReportData } from '@dstack-cloud/attestation';
import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { generateP256Key, type P256Key, p256KeyPem } from '@dstack-cloud/keys';
import { CONFIRM_WORD, encodeCsrV2, OID, obtainAppKeys, signCsr, USAGE } from '@dstack-cloud/ra-tls';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RunningKms } from '../start-kms.ts';
import { ask, type ClientIdentity, call } from '../test/ask.ts';
import { forgeCertificate } from '../test/forge-certificate.ts';
import { type Lab, openLab } from '../test/lab.ts';
import { MODES_NOW, modeClient, modesTrust, nitroEvidence, tdxEvidence } from '../test/mode-evidence.ts';

const attestation = { insecure_allow_external_trust_anchors: true };

describeWithFixtures('nonces', 'mock-evidence/expected.json', () => {
  let lab: Lab;
  let lax: RunningKms;
  let strict: RunningKms;
  const clock = { now: MODES_NOW };
  beforeAll(async () => {
    lab = await openLab();
    const options = { now: () => clock.now, trust: modesTrust(lab.platform) };
    lax = await lab.start({ core: { attestation }, options });
    strict = await lab.start({ core: { attestation: { ...attestation, require_nonce: true } }, options });
  });
  afterAll(() => lab.close());

  async function nonceOf({ main }: RunningKms): Promise<Uint8Array> {
    const { status, headers, body } = await ask(main.port, '/nonce', { method: 'GET' });
    expect([status, headers['content-type'], headers['cache-control']]).toEqual([
      200,
      'application/json',
      'no-store',
    ]);
    const answer = JSON.parse(body.toString()) as { nonce: string; expires_in: number };
    expect(answer.expires_in).toBe(300);
    return fromHex(answer.nonce);
  }
  const enclave = (nonce: Uint8Array | null, at = clock.now) =>
    nitroEvidence((draft) => {
      draft.members.set('nonce', nonce);
      draft.members.set('timestamp', at * 1000);
      for (const certificate of [draft.certificates.intermediate, draft.certificates.leaf]) {
        Object.assign(certificate, { notBefore: at - 3600, notAfter: at + 3600 });
      }
    });
  const getAppKey = ({ main }: RunningKms, client: ClientIdentity) =>
    call(main.port, 'GetAppKey', { api_version: 1 }, { client });
  const refused = async (kms: RunningKms, client: ClientIdentity): Promise<unknown> => {
    const { status, json } = await getAppKey(kms, client);
    expect([status, json['code']]).toEqual([400, 'UNAUTHORIZED']);
    return json['error'];
  };

  test('a fresh nonce releases keys, again for the same certificate, and needs no configuration', async () => {
    for (const kms of [lax, strict]) {
      const client = modeClient(enclave(await nonceOf(kms)));
      expect((await getAppKey(kms, client)).status).toBe(200);
      expect((await getAppKey(kms, client)).status).toBe(200);
    }
  });

  test('none, or one of somebody else’s: refused only where nonces are required', async () => {
    for (const nonce of [null, new Uint8Array(), new Uint8Array(32).fill(5)]) {
      const client = modeClient(enclave(nonce));
      expect((await getAppKey(lax, client)).status).toBe(200);
      expect(await refused(strict, client)).toBe(
        'invalid quote: the document has no nonce of this KMS: get one from /nonce',
      );
    }
  });

  test('one that says it is a KMS’s must be good, everywhere', async () => {
    for (const kms of [lax, strict]) {
      const foreign = await nonceOf(kms === lax ? strict : lax);
      expect(await refused(kms, modeClient(enclave(foreign)))).toBe(
        'invalid quote: the nonce was not made by this KMS',
      );
      const stale = await nonceOf(kms);
      const issued = clock.now;
      clock.now += 301;
      const client = modeClient(enclave(stale));
      expect(await refused(kms, client)).toBe(
        'invalid quote: the nonce has expired: get another from /nonce',
      );
      clock.now = issued;
    }
  });

  test('what was good a moment ago is not good for ever: the verdict is kept, the nonce ends', async () => {
    // The document itself is good for longer.
    const client = modeClient(enclave(await nonceOf(lax), clock.now + 100));
    expect((await getAppKey(lax, client)).status).toBe(200);
    clock.now += 301;
    expect(await refused(lax, client)).toMatch(/expired/);
    clock.now -= 301;
  });

  test('a nonce belongs to the key that showed it first', async () => {
    const nonce = await nonceOf(strict);
    expect((await getAppKey(strict, modeClient(enclave(nonce)))).status).toBe(200);
    expect(await refused(strict, modeClient(enclave(nonce)))).toBe(
      'invalid quote: the nonce was shown by another key before',
    );
    // A refusal must not use a nonce up: evidence comes first.
    const kept = await nonceOf(strict);
    await refused(strict, modeClient(enclave(kept), { boundTo: generateP256Key() }));
    expect((await getAppKey(strict, modeClient(enclave(kept)))).status).toBe(200);
  });

  test('all workers, restarts and replicas of one root know each other’s nonces', async () => {
    const directory = join(lab.directory, 'replica');
    cpSync(strict.kms.config.core.cert_dir, directory, {
      recursive: true,
      filter: (path) =>
        statSync(path).isDirectory()
          ? path.endsWith(basename(strict.kms.config.core.cert_dir))
          : !path.includes('lock'),
    });
    const replica = await lab.start({
      directory,
      core: {
        attestation: { ...attestation, require_nonce: true },
        audit: { dir: `${lab.directory}/other-audit` },
      },
      options: { now: () => clock.now, trust: modesTrust(lab.platform) },
    });
    expect((await getAppKey(replica, modeClient(enclave(await nonceOf(strict))))).status).toBe(200);
  });

  test('SignCert wants it too; other platforms have none', async () => {
    const sign = async (nonce: Uint8Array | null): Promise<Record<string, unknown>> => {
      const key = generateP256Key();
      const csr = csrOf(key, nonce);
      const input = { api_version: 2, csr: toHex(csr), signature: toHex(signCsr(csr, key)) };
      return (await call(strict.main.port, 'SignCert', input)).json;
    };
    expect((await sign(null))['error']).toMatch(/^Quote verification failed: the document has no nonce/);
    expect((await sign(await nonceOf(strict)))['certificate_chain']).toHaveLength(3);
    expect((await getAppKey(strict, modeClient(tdxEvidence()))).status).toBe(200);
  });

  function csrOf(key: P256Key, nonce: Uint8Array | null): Uint8Array {
    return encodeCsrV2({
      confirm: CONFIRM_WORD,
      pubkey: key.spki,
      config: {
        subject: 'app.example.com',
        subjectAltNames: [],
        usageServerAuth: true,
        usageClientAuth: false,
        extQuote: false,
        extAppInfo: false,
      },
      attestation: enclave(nonce)(ratlsReportData(key.spki)).attestation,
    });
  }

  test('a guest of ours asks for a nonce and is served where one is required; a KMS without any serves it too', async () => {
    // The guest's TLS client looks at the clock of this machine.
    const now = Math.floor(Date.now() / 1000);
    const unattested = { attest_rpc_cert: false, enforce_self_authorization: false };
    const options = { now: () => now, trust: modesTrust(lab.platform) };
    const [wanting, any] = await Promise.all(
      [true, false].map((require_nonce) =>
        lab.start({ core: { attestation: { ...attestation, require_nonce }, ...unattested }, options }),
      ),
    );
    const guest = (port: number) =>
      obtainAppKeys({
        kmsUrls: [`https://localhost:${port}`],
        attest: async (reportData, nonce) => {
          shown.push(nonce);
          return enclave(nonce ?? null, now)(reportData).attestation;
        },
        wantsNonce: true,
        vmConfig: '',
        verify: async (peer) => (await strict.kms.evidence.readAndVerify(() => peer)).verified(),
      });
    const shown: (Uint8Array | undefined)[] = [];
    const { keys } = await guest(wanting!.main.port);
    expect(keys.k256Key).toHaveLength(32);
    expect(shown[0]?.length).toBeGreaterThan(32);
    // Without the path, as with the original: the guest goes on without a nonce.
    const older = await withoutNonces(any!.main.port);
    expect((await guest(older.port)).keys.k256Key).toHaveLength(32);
    expect(shown[1]).toBeUndefined();
    older.close();
  });

  test('a document is not taken twice for two keys, nonce or not', async () => {
    const victim = generateP256Key();
    const content = encodeAttestation(enclave(await nonceOf(lax))(ratlsReportData(victim.spki)).attestation);
    const thief = generateP256Key();
    const client = {
      cert: forgeCertificate(thief, [{ oid: OID.attestation, content }]),
      key: p256KeyPem(thief),
    };
    expect(await refused(lax, client)).toBe('invalid quote: report data mismatch');
  });
});

/** A way to a KMS on which `/nonce` is not there. The TLS connection is the KMS's own for everything else. */
async function withoutNonces(port: number): Promise<{ port: number; close(): void }> {
  let connections = 0;
  const key = generateP256Key();
  const stranger = createTlsServer(
    {
      key: p256KeyPem(key),
      cert: forgeCertificate(key, [{ oid: OID.usage, content: utf8(USAGE.kmsRpc) }]),
    },
    (_, response) => {
      response.statusCode = 404;
      response.end('<html></html>');
    },
  );
  await once(stranger.listen(0, '127.0.0.1'), 'listening');
  const relay = createServer((socket) => {
    connections += 1;
    // GetTempCaCert, then /nonce, then GetAppKey, each on a connection of its own.
    const target = connections === 2 ? (stranger.address() as AddressInfo).port : port;
    const onward = connect(target, '127.0.0.1');
    socket.pipe(onward).pipe(socket);
    for (const end of [socket, onward]) end.on('error', () => end.destroy());
  });
  await once(relay.listen(0, '127.0.0.1'), 'listening');
  return {
    port: (relay.address() as AddressInfo).port,
    close: () => {
      relay.close();
      stranger.close();
    },
  };
}
