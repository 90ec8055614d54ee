import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { answeredShape, recordedShape } from './test/compare-answer.ts';
import { type FixtureAgent, startFixtureAgent } from './test/fixture-agent.ts';
import { recordedCases, send } from './test/replay.ts';

/** Exchanges where ours differs on purpose, with the reason. Differences of every answer are in compare-answer.ts. */
const WANTED: readonly [id: RegExp, reason: string][] = [
  [
    /GetKey\.array-/,
    'an array is no request: the original takes its items as fields in order (1.2: do not copy)',
  ],
  [/GetKey\.ct\.9$/, 'application/json with empty parameters is JSON'],
  [/guest\.route\.(2|3|3\.json)$/, 'EmitEvent is served; these requests name no event'],
  [/guest\.route\.29$/, 'the target * belongs to OPTIONS (RFC 9112 section 3.2.4), it is no method name'],
  [/guest\.route\.30$/, 'a target without a slash does not pass the HTTP parser'],
  [/guest\.route\.method-override$/, 'a form field does not change the verb'],
  [/limit\.json-ct\.10MiB\+1$/, 'a JSON request gets its error in JSON (1.2)'],
  [/\.0X$/, '0X is taken like 0x'],
  [/secp256k1_prehashed\.digest-/, 'a digest has 32 bytes (1.8)'],
  [
    /tappd\.route\.(5|6|8|9|10|12|13|sdk-getkey|sdk-py-getkey)$/,
    'the SDKs call DstackGuest on tappd.sock (1.3)',
  ],
  [/external\.route\.(9|10)$/, '/healthz and /attestation are served (1.13)'],
];

describeWithFixtures('exchanges recorded from the original', 'guest-original/expected.json', () => {
  let agent: FixtureAgent;
  beforeAll(async () => {
    agent = await startFixtureAgent();
  });
  afterAll(() => agent.stop());
  const cases = recordedCases(undefined).filter((one) => one.compare === 'exact' || one.compare === 'sha256');
  const wanted = (id: string) => WANTED.some(([pattern]) => pattern.test(id));
  it.each(cases.filter(({ id }) => !wanted(id)))('$id', async (one) => {
    const answer = await send(agent.sockets[one.listener], one.request);
    expect(answeredShape(one, answer)).toEqual(recordedShape(one));
  });
  it.each(WANTED)('%s differs: %s', async (pattern) => {
    const listed = cases.filter(({ id }) => pattern.test(id));
    expect(listed).not.toEqual([]);
    for (const one of listed) {
      const answer = await send(agent.sockets[one.listener], one.request).catch(() => undefined);
      expect(answer && answeredShape(one, answer), one.id).not.toEqual(recordedShape(one));
    }
  });
});
