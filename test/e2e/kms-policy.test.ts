/** What a real KMS does when those it depends on, or those who ask, go wrong: its auth API, its disk, its callers. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromHex } from '@dstack-cloud/encoding';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { callKms, errorOf } from '../harness/call-kms.ts';
import { signCertBody } from '../harness/csr-request.ts';
import { getAppKey, type KmsHost, type KmsLab, labWorkload, startKmsLab } from '../harness/kms-lab.ts';
import type { KmsProcess } from '../harness/kms-process.ts';
import { ALLOW, deny } from '../harness/policy-webhook.ts';
import type { Workload } from '../harness/simulated-workload.ts';

const DOMAIN = 'kms.lab.example';
const canMount = process.platform === 'linux' && process.getuid?.() === 0;

let lab: KmsLab;
let host: KmsHost;
let kms: KmsProcess;

beforeAll(async () => {
  lab = await startKmsLab();
  host = await lab.host('policy', {
    core: { onboard: { auto_bootstrap_domain: DOMAIN }, auth_api: { webhook: { timeout: '2s' } } },
  });
  kms = await host.serve();
}, 120_000);
afterAll(async () => lab?.stop());
beforeEach(() => {
  lab.webhook.app = () => ALLOW;
  lab.webhook.kms = () => ALLOW;
});

const ask = async (workload: Workload) => getAppKey(kms, await lab.identity(kms, workload));
const signCert = (config: Parameters<typeof signCertBody>[0]['config']) =>
  callKms(
    kms.url,
    'SignCert',
    signCertBody({ hardware: lab.hardware, workload: labWorkload('certified'), config }),
  );

describe('auth API', () => {
  test('auth-answer-multibyte: a long reason of other scripts neither stops the KMS nor is cut inside a letter', async () => {
    // 512 bytes end inside a letter for one of these, whatever stands before the reason.
    for (const filler of ['', 'x', 'xx']) {
      const reason = `${filler}${'署'.repeat(400)}`;
      lab.webhook.app = () => deny(reason);
      const error = errorOf(await ask(labWorkload('multibyte')));
      expect(error).toContain('Boot denied: ');
      expect(error).not.toContain('\ufffd');
      expect(Buffer.byteLength(error)).toBeLessThan(2048);
    }
    lab.webhook.app = () => ({ isAllowed: true, reason: '署'.repeat(400), gatewayAppId: 'any' });
    expect((await ask(labWorkload('multibyte'))).status).toBe(200);
    expect(kms.process.exitCode).toBeNull();
  });

  test('webhook-hangs: no answer is a refusal, in bounded time, and open methods do not wait', async () => {
    const identity = await lab.identity(kms, labWorkload('waiting'));
    lab.webhook.app = () => 'hang';
    const started = Date.now();
    const waiting = getAppKey(kms, identity);
    const meta = await callKms(kms.url, 'GetMeta');
    expect(meta.status).toBe(200);
    expect(Date.now() - started).toBeLessThan(1_800);
    const error = errorOf(await waiting);
    expect(error).toMatch(/^App not allowed: /);
    expect(error).not.toContain(new URL(lab.webhook.url).port);
    expect(Date.now() - started).toBeLessThan(5_000);
    lab.webhook.app = () => ALLOW;
    expect((await getAppKey(kms, identity)).status).toBe(200);
  });
});

describe('certificates', () => {
  test('signcert-year-10000: a date beyond what certificates can say is refused, and the KMS goes on', async () => {
    for (const notAfter of [253_402_300_800n, 400_000_000_000n, 2n ** 63n, 2n ** 64n - 1n]) {
      expect(errorOf(await signCert({ notAfter }))).toContain('Failed to sign certificate');
      expect(errorOf(await signCert({ notBefore: notAfter }))).toContain('Failed to sign certificate');
    }
    expect(kms.process.exitCode).toBeNull();
    expect((await signCert({})).status).toBe(200);
  });

  test('signcert-kms-domain: no app gets a certificate for the name of the KMS, however it is spelt', async () => {
    const names = [DOMAIN, DOMAIN.toUpperCase(), `${DOMAIN}.`, '*.lab.example', '*.LAB.example.'];
    for (const name of names) {
      expect(errorOf(await signCert({ subject: name })), name).toContain('belongs to the KMS');
      expect(errorOf(await signCert({ subjectAltNames: ['app.example', name] })), name).toContain(
        'belongs to the KMS',
      );
    }
    for (const name of ['*.example', 'a.kms.lab.example', 'kms.lab.example.org', '*.kms.lab.example']) {
      expect((await signCert({ subjectAltNames: [name] })).status, name).toBe(200);
    }
  });
});

describe('audit', () => {
  test.skipIf(!canMount)(
    'audit-disk-full: nothing is released that cannot be recorded, and all is well when there is room',
    async () => {
      const directory = join(lab.directory, 'audit-disk');
      mkdirSync(directory);
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=128k,mode=0700', 'tmpfs', directory]);
      try {
        const full = await lab.host('disk-full', {
          rpc: { workers: 2 },
          core: { audit: { dir: directory } },
        });
        const service = await full.serve();
        const identity = await lab.identity(service, labWorkload('recorded'));
        expect((await getAppKey(service, identity)).status).toBe(200);
        const ballast = join(directory, 'ballast');
        const { bavail, bsize } = statfsSync(directory);
        writeFileSync(ballast, Buffer.alloc(bavail * bsize));
        // The last page of the log may have room for a few more records.
        let refused = 0;
        for (let attempt = 0; attempt < 40 && refused < 3; attempt += 1) {
          const answer = await getAppKey(service, identity);
          if (answer.status === 200) {
            expect(refused, 'released after a record was refused').toBe(0);
            continue;
          }
          expect(errorOf(answer)).toContain('audit log cannot be written');
          expect(answer.body).not.toMatch(/"k256_key"/);
          refused += 1;
        }
        expect(refused).toBe(3);
        expect((await callKms(service.url, 'GetMeta')).status).toBe(200);
        rmSync(ballast);
        expect((await getAppKey(service, identity)).status).toBe(200);
        // The log is whole: the service itself refuses to start on one that does not chain.
        expect(await service.stop()).toBe(0);
        const again = await full.serve();
        expect((await getAppKey(again, identity)).status).toBe(200);
        const head = JSON.parse((await callKms(again.url, 'GetAuditHead')).body) as { root_hash: string };
        expect(fromHex(head.root_hash)).toHaveLength(32);
        await again.stop();
      } finally {
        execFileSync('umount', ['-l', directory]);
      }
    },
    60_000,
  );
});
