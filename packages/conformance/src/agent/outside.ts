import { createHash } from 'node:crypto';
import { decodeAttestation } from '@dstack-cloud/attestation';
import { fromHex, toBase64Url, toHex, utf8 } from '@dstack-cloud/encoding';
import { type ConformanceCase, expectSame, expectText, expectThat, reading } from '../case.ts';
import { exchange, jsonOf } from '../endpoint.ts';
import { call, expectRefusal, hexOf, textMember, textOf } from '../rpc.ts';
import { expectVersion } from './info.ts';
import { type AgentTarget, externalOf, hostOf } from './target.ts';
import { tdReportOf } from './td-report.ts';

const TAGS = { secp256k1: 'dip1::secp256k1c-pk:', ed25519: 'dip1::ed25519-pk:' } as const;

/** What strangers and the host may ask. */
export const OUTSIDE_CASES: readonly ConformanceCase<AgentTarget>[] = [
  {
    id: 'agent.worker.version',
    checks: 'Version of Worker answers with and without the prefix, with the header X-App-Version.',
    section: 'guest-agent.md 2',
    run: async (target) => {
      const external = externalOf(target);
      for (const path of ['/prpc/Worker.Version', '/prpc/Version']) expectVersion(await call(external, path));
      const { headers } = await exchange(external, { method: 'GET', path: '/prpc/Worker.Version' });
      expectText('X-App-Version', headers['x-app-version'], /^v[0-9].* \(.+\)$/);
    },
  },
  {
    id: 'agent.worker.info',
    checks:
      'Info of Worker has the identities; tcb_info and vm_config only where app-compose makes them public.',
    section: 'guest-agent.md 4.6',
    run: async (target) => {
      const [info, inside] = [
        await call(externalOf(target), '/prpc/Worker.Info'),
        await call(target.dstack, '/Info'),
      ];
      for (const name of ['app_id', 'instance_id', 'compose_hash', 'mr_aggregated'])
        expectSame(name, info[name], inside[name]);
      const tcb = JSON.parse(textMember(inside, 'tcb_info')) as { app_compose: string };
      const isPublic = (JSON.parse(tcb.app_compose) as Record<string, unknown>)['public_tcbinfo'] !== false;
      expectSame('tcb_info is there', info['tcb_info'] !== '', isPublic);
      if (!isPublic) expectSame('vm_config', info['vm_config'], '');
    },
  },
  {
    id: 'agent.worker.no-keys',
    checks: 'Strangers get no key: GetKey, Sign and GetQuote are no methods of the external listener.',
    section: 'guest-agent.md 2',
    run: async (target) => {
      const external = externalOf(target);
      for (const path of [
        '/prpc/GetKey',
        '/GetKey',
        '/prpc/Sign',
        '/prpc/GetQuote',
        '/prpc/DstackGuest.GetKey',
      ]) {
        const answer = await exchange(external, {
          path,
          headers: { 'Content-Type': 'application/json' },
          body: '{}',
        });
        expectThat(answer.status >= 400, `${path} answers ${answer.status}`);
      }
    },
  },
  {
    id: 'agent.worker.app-key',
    checks: 'GetAttestationForAppKey quotes the public key of Sign behind its tag.',
    section: 'guest-agent.md 4.7',
    run: async (target) => {
      for (const algorithm of ['secp256k1', 'ed25519'] as const) {
        const { public_key } = await call(target.dstack, '/Sign', { algorithm, data: '00' });
        const text = TAGS[algorithm] + toBase64Url(fromHex(String(public_key))).replace(/=+$/, '');
        const answer = await call(externalOf(target), '/prpc/Worker.GetAttestationForAppKey', { algorithm });
        expectSame('report_data', answer['report_data'], toHex(utf8(text)).padEnd(128, '0'));
        const quote = hexOf(answer, 'quote');
        if (quote !== '')
          expectSame(
            'Report data of the quote',
            toHex(tdReportOf(fromHex(quote)).reportData),
            answer['report_data'],
          );
      }
    },
  },
  {
    id: 'agent.worker.app-key-unsupported',
    checks: 'GetAttestationForAppKey refuses an empty algorithm and rsa.',
    section: 'guest-agent.md 4.7',
    run: async (target) => {
      for (const algorithm of ['', 'rsa'])
        await expectRefusal(
          externalOf(target),
          '/prpc/Worker.GetAttestationForAppKey',
          { algorithm },
          /Unsupported algorithm/,
        );
    },
  },
  {
    id: 'agent.worker.page',
    checks: 'GET / is a page that names the application.',
    section: 'guest-agent.md 5',
    run: async (target) => {
      const answer = await exchange(externalOf(target), { method: 'GET', path: '/' });
      expectSame('Status', answer.status, 200);
      expectText('Content-Type', answer.headers['content-type'], /^text\/html\b/);
      const { app_id } = await call(target.dstack, '/Info');
      expectThat(
        new TextDecoder().decode(answer.body).includes(String(app_id)),
        'The page does not have the app id',
      );
    },
  },
  {
    id: 'agent.worker.log-names',
    checks: 'The route of logs reaches nothing but logs, whatever is in the name.',
    section: 'guest-agent.md 5',
    run: async (target) => {
      for (const name of ['web%2Fjson%3F', '..%2Finfo%3F', '.%2E/info', 'a%00b']) {
        const answer = await exchange(externalOf(target), {
          method: 'GET',
          path: `/logs/${name}?text&bare`,
        });
        expectThat(answer.status >= 400, `/logs/${name} answers ${answer.status}`);
      }
    },
  },
  {
    id: 'agent.worker.attestation',
    checks:
      'GET /attestation gives evidence over the hash of a tag and the nonce, never over the bytes themselves.',
    section: 'guest-agent.md 5.1',
    isExtension: true,
    run: async (target) => {
      const nonce = 'ab'.repeat(64);
      const answer = jsonOf(
        await exchange(externalOf(target), { method: 'GET', path: `/attestation?nonce=${nonce}` }),
      );
      const expected = createHash('sha512')
        .update('dstack-public-attestation:')
        .update(fromHex(nonce))
        .digest('hex');
      expectSame('report_data', answer['report_data'], expected);
      const bytes = fromHex(hexOf(answer, 'attestation'));
      expectSame(
        'Report data of the attestation',
        toHex(reading('attestation', () => decodeAttestation(bytes)).reportData),
        expected,
      );
    },
  },
  {
    id: 'agent.worker.health',
    checks: 'GET /healthz answers ok.',
    section: 'guest-agent.md 5',
    isExtension: true,
    run: async (target) => {
      const answer = await exchange(externalOf(target), { method: 'GET', path: '/healthz' });
      expectSame('Status', answer.status, 200);
      expectSame('status', jsonOf(answer)['status'], 'ok');
    },
  },
  {
    id: 'agent.worker.metrics',
    checks: 'GET /metrics is text of Prometheus where app-compose makes system information public, else 404.',
    section: 'guest-agent.md 5',
    run: async (target) => {
      const { app_compose } = JSON.parse(textMember(await call(target.dstack, '/Info'), 'tcb_info')) as {
        app_compose: string;
      };
      const isPublic = (JSON.parse(app_compose) as Record<string, unknown>)['public_sysinfo'] === true;
      const answer = await exchange(externalOf(target), { method: 'GET', path: '/metrics' });
      expectSame('Status', answer.status, isPublic ? 200 : 404);
      if (isPublic) expectText('Body', new TextDecoder().decode(answer.body), /^system_num_cpus \d+$/m);
    },
  },
  {
    id: 'agent.host.info',
    checks: 'Info of GuestApi has version and identities, at /api without a prefix.',
    section: 'host-shared.md 7',
    run: async (target) => {
      const host = hostOf(target);
      const [info, inside] = [await call(host, '/api/Info'), await call(target.dstack, '/Info')];
      expectText('version', info['version'], /./);
      for (const name of ['app_id', 'instance_id']) expectSame(name, info[name], inside[name]);
    },
  },
  {
    id: 'agent.host.system',
    checks: 'SysInfo of GuestApi has numbers of processors, memory and load.',
    section: 'host-shared.md 7',
    run: async (target) => {
      const info = await call(hostOf(target), '/api/SysInfo');
      for (const name of ['num_cpus', 'total_memory', 'free_memory', 'uptime', 'loadavg_one'])
        expectThat(
          Number.isSafeInteger(info[name]),
          `${name} is no whole number: ${textOf(utf8(String(info[name])))}`,
        );
      expectThat(Number(info['num_cpus']) > 0, 'num_cpus is 0');
      expectText('os_name', info['os_name'], /./);
    },
  },
  {
    id: 'agent.host.no-keys',
    checks: 'The host gets no key: GetKey is no method of its listener.',
    section: 'host-shared.md 7',
    run: async (target) => {
      for (const path of ['/api/GetKey', '/GetKey', '/prpc/GetKey']) {
        const answer = await exchange(hostOf(target), {
          path,
          headers: { 'Content-Type': 'application/json' },
          body: '{}',
        });
        expectThat(answer.status >= 400, `${path} answers ${answer.status}`);
      }
    },
  },
];
