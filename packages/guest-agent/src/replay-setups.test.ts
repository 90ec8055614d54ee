import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { AppInfoSchema, guestApi } from '@dstack-cloud/prpc';
import { describeWithFixtures, fixtureText } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import { answeredShape, recordedShape } from './test/compare-answer.ts';
import { startDockerStub } from './test/docker-stub.ts';
import { type FixtureAgentOptions, startFixtureAgent } from './test/fixture-agent.ts';
import { type Answer, type Case, recordedCases, send, sha256Hex } from './test/replay.ts';

const RECORDING = 'guest-original/expected.json';

/** Info answers are equal after masking what is random or names a version. */
function checkInfo(one: Case, answer: Answer): void {
  expect(answer.status).toBe(200);
  const { response_json: expected, tcb_info: tcb } = one;
  // The same answer over another transport is recorded once.
  if (expected === undefined) return;
  const info = JSON.parse(answer.body.toString()) as Record<string, string>;
  for (const [name, value] of Object.entries(expected)) {
    if (value !== '<masked>' && value !== '<see tcb_info>' && name !== 'version')
      expect(info[name], name).toEqual(value);
  }
  expect(Object.keys(info).sort()).toEqual(Object.keys(expected).sort());
  if (tcb === undefined) return;
  expect(JSON.parse(info['tcb_info'] ?? '')).toMatchObject(tcb.values);
  expect(sha256Hex(info['tcb_info'] ?? '')).toBe(tcb.text_sha256);
}

/** Runs the recorded exchanges of one set-up that a filter picks. */
async function replay(
  variant: string | undefined,
  options: FixtureAgentOptions,
  check: (one: Case, answer: Answer) => void,
  pick: (one: Case) => boolean,
): Promise<number> {
  const agent = await startFixtureAgent(options);
  try {
    const cases = recordedCases(variant).filter(pick);
    for (const one of cases) {
      const answer = await send(agent.sockets[one.listener], one.request);
      try {
        check(one, answer);
      } catch (error) {
        throw new Error(`${one.id}: ${(error as Error).message}`, { cause: error });
      }
    }
    return cases.length;
  } finally {
    await agent.stop();
  }
}

const equal = (one: Case, answer: Answer): void =>
  expect(answeredShape(one, answer)).toEqual(recordedShape(one));
const isExact = ({ compare }: Case) => compare === 'exact' || compare === 'sha256';

describeWithFixtures('other set-ups recorded from the original', RECORDING, () => {
  it('Info of every service', async () => {
    expect(
      await replay(
        undefined,
        {},
        checkInfo,
        ({ compare, id }) => compare === 'json-mask' && id !== 'guestapi.ProxiedInfo',
      ),
    ).toBe(8);
  });

  it('Info in protobuf', async () => {
    const check = (one: Case, answer: Answer): void => {
      const isGuestApi = one.listener === 'guest-api';
      const info = isGuestApi
        ? fromBinary(guestApi.GuestInfoSchema, answer.body)
        : fromBinary(AppInfoSchema, answer.body);
      expect(sha256Hex(info.tcbInfo)).toBe(
        '672297abcb9dc2e9972a556ffca4fbb7e11fef31ad56a9a1a596f1c46c435ee1',
      );
      expect(info.appId).toHaveLength(20);
    };
    expect(await replay(undefined, {}, check, ({ compare }) => compare === 'protobuf-mask')).toBe(4);
  });

  it('Version, SysInfo and NetworkInfo by shape', async () => {
    const check = (one: Case, answer: Answer): void => {
      expect(answer.status).toBe(200);
      const shape = Object.keys(one.response_shape ?? {});
      expect(Object.keys(JSON.parse(answer.body.toString()) as object)).toEqual(shape);
    };
    expect(await replay(undefined, {}, check, ({ compare }) => compare === 'json-shape')).toBeGreaterThan(8);
  });

  it('HEAD answers with the headers of GET and no body', async () => {
    const check = (one: Case, answer: Answer): void => {
      const known = one.id === 'guest.route.22' ? 404 : one.status;
      expect([answer.status, answer.body.length]).toEqual([known, 0]);
    };
    expect(await replay(undefined, {}, check, ({ compare }) => compare === 'head')).toBe(4);
  });

  it('nothing public: the dashboard says little, logs and metrics are not there', async () => {
    const compose = JSON.parse(fixtureText('simulator/app-compose.json')) as Record<string, unknown>;
    const hidden = { name: 'a<b>&"q" ü☃', public_logs: false, public_sysinfo: false, public_tcbinfo: false };
    const options = { compose: JSON.stringify({ ...compose, ...hidden }) };
    const check = (one: Case, answer: Answer): void => {
      if (one.compare === 'exact') equal(one, answer);
      if (one.compare === 'page') {
        const page = answer.body.toString();
        expect(page).toContain('a&#60;b&#62;&#38;&#34;q&#34;');
        expect(page).toContain('TCB info is not public');
        expect(page).not.toMatch(/Kernel Version|<b>/);
      }
      if (one.compare === 'json-mask') {
        const outside = one.listener === 'external' || one.listener === 'guest-api';
        const info = JSON.parse(answer.body.toString()) as Record<string, string>;
        expect(info['tcb_info'] === '').toBe(outside);
        if (one.listener === 'external') expect(info['vm_config']).toBe('');
      }
    };
    expect(await replay('private', options, check, () => true)).toBeGreaterThan(6);
  });

  it('an engine with two containers; requests that leave its log route do not reach it', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'dstack-docker-'));
    const dockerSocket = join(directory, 'docker.sock');
    const engine = await startDockerStub(dockerSocket);
    const check = (one: Case, answer: Answer): void => {
      const leak = one.id.startsWith('logs.inspect') || one.id.startsWith('logs.info');
      if (leak) expect([answer.status, answer.body.includes('SECRET')]).toEqual([404, false]);
      else if (one.compare === 'page') expect(answer.body.toString()).toContain('&#60;b&#62;x');
      else equal(one, answer);
    };
    try {
      expect(await replay('docker-stub', { dockerSocket }, check, () => true)).toBe(16);
      expect(engine.requests.filter((path) => /inspect|info|web\/json/.test(path))).toEqual([]);
    } finally {
      engine.close();
      rmSync(directory, { recursive: true, force: true });
    }
  });

  it('report data left alone', async () => {
    expect(await replay('no-patch', { patchReportData: false }, equal, isExact)).toBeGreaterThan(3);
  });

  it('keys that no KMS signed for', async () => {
    const keys = JSON.parse(fixtureText('simulator/appkeys.json')) as Record<string, unknown>;
    const options = { keys: JSON.stringify({ ...keys, k256_signature: '' }) };
    expect(await replay('no-k256-signature', options, equal, isExact)).toBe(2);
  });
});

describeWithFixtures('expected outputs computed independently', 'simulator/expected.json', () => {
  it('GetQuote carries the documented registers, and base64 when asked', async () => {
    const agent = await startFixtureAgent();
    try {
      const get = async (target: string) => {
        const { body } = await send(agent.sockets.internal, { verb: 'GET', target });
        return JSON.parse(body.toString()) as Record<string, string>;
      };
      const hex = await get('/GetQuote?report_data=0x74657374');
      expect(hex['rtmr3']).toBe(
        'f28a1490ee924e9396c2ccf2d93ad536b83cbe159a1d45024d1fd7acdcc102145efcfcd0cfa209416446c70226affadf',
      );
      const base64 = await get('/GetQuote?report_data=0x74657374&encoding=base64');
      expect(Buffer.from(base64['quote'] ?? '', 'base64').toString('hex')).toBe(hex['quote']);
      const documented = await get('/GetAttestation?user_data=0x74657374');
      expect(documented).toMatchObject({
        document: null,
        quote: hex['quote'],
        report_data: hex['report_data'],
      });
    } finally {
      await agent.stop();
    }
  });
});
