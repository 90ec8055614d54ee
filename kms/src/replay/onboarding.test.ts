/** The recorded onboarding listener: up to and after Bootstrap, Finish, the switch to HTTPS. */
import { join } from 'node:path';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Lab, openLab } from '../test/lab.ts';
import { type Receiver, startReceiver } from '../test/receiver.ts';
import type { RecordedBody, Transcript } from '../test/recorded.ts';
import type { FullItem } from '../test/recorded-full.ts';
import { replay } from '../test/replay-item.ts';
import { exchanges, type RecordedFile } from '../test/replay-plan.ts';
import { structureOf } from '../test/structure-of.ts';

/** Members that ours adds to JSON (docs/protocol/kms.md section 3). */
const EXTRAS = ['publicKey', 'measurement', 'simulated', 'attestation_mode', 'code', 'root_history'];
const INFO = {
  status: 'ok',
  kmsContractAddr: '0x00000000000000000000000000000000000000c1',
  gatewayAppId: '0x00000000000000000000000000000000000000aa',
  chainId: 31337,
  ethRpcUrl: 'http://127.0.0.1:8545',
  appImplementation: '0x00000000000000000000000000000000000000a2',
};

describeWithFixtures('replay of onboarding', 'kms-original/full/onboard-bootstrap.json', () => {
  let lab: Lab;
  let receiver: Receiver;
  let spare: Receiver;
  beforeAll(async () => {
    lab = await openLab();
    receiver = await startReceiver(lab, join(lab.directory, 'replayed'), { site_name: 'lab-kmsA' });
    spare = await startReceiver(lab, join(lab.directory, 'spare'));
  });
  afterAll(async () => {
    spare.stop.abort();
    await lab.close();
  });

  const compare = (recorded: unknown, found: unknown): void => {
    if (isError(recorded)) expect(found).toMatchObject(recorded);
    else expect(structureOf(found, EXTRAS)).toEqual(structureOf(recorded, EXTRAS));
  };

  async function send(item: FullItem, file: RecordedFile = 'onboard-bootstrap'): Promise<void> {
    const main = item.listener === 'main';
    // Ours allows an IPv6 address as the domain, and so bootstraps: elsewhere, not to spoil what follows.
    const onboarding = item.id === 'bootstrap-ipv6' ? spare : receiver;
    const port = main ? (await receiver.serving).main.port : onboarding.port;
    const kms = { webhook: lab.webhook, clock: { now: 0 }, clientOf: () => undefined };
    const json = /json|\/GetAttestationInfo/.test(item.request!.path) || item.request!.method === 'GET';
    await replay(kms, file, item, {
      port,
      plain: !main,
      policy: { info: { body: INFO }, ...item.webhook_policy },
      ...(json && item.response?.body?.utf8?.startsWith('{') === true ? { compare } : {}),
    });
  }

  // In the recorded order: bootstrap comes before what is answered after it.
  test.each(exchanges('onboard-bootstrap'))('$id', (item) => send(item));
});

function isError(value: unknown): value is { error: string } {
  return typeof value === 'object' && value !== null && 'error' in value;
}

type Recorded = Transcript['onboard'][number];

describeWithFixtures('replay of onboarding, smaller recording', 'kms-original/transcript.json', () => {
  const { onboard } = fixtureJson<Transcript>('kms-original/transcript.json');
  let lab: Lab;
  let bootstrapped: Receiver;
  let onboarded: Receiver;
  let sourcePort = 0;
  beforeAll(async () => {
    lab = await openLab();
    sourcePort = (await lab.start()).main.port;
    bootstrapped = await startReceiver(lab, join(lab.directory, 'c'), { site_name: 'lab-kmsc' });
    onboarded = await startReceiver(lab, join(lab.directory, 'b'));
  });
  afterAll(() => lab.close());

  /** Replication was recorded on a second program. */
  const runsOn = ({ name }: Recorded): Receiver =>
    /Onboard\.Onboard|Onboard\.Finish|\(onboarded\)/.test(name) ? onboarded : bootstrapped;

  test.each(onboard)('$name', async (recorded) => {
    const main = recorded.name.startsWith('after finish');
    const receiver = runsOn(recorded);
    const port = main ? (await receiver.serving).main.port : receiver.port;
    const { method, path, headers, body } = recorded.request;
    const item: FullItem = {
      id: recorded.name,
      request: { method, path, headers, body },
      response: { status: recorded.status, headers: recorded.headers, body: recorded.response },
    };
    const kms = { webhook: lab.webhook, clock: { now: 0 }, clientOf: () => undefined };
    const compares = recorded.response?.utf8?.startsWith('{') === true;
    await replay(kms, 'onboard-bootstrap', item, {
      port,
      plain: !main,
      policy: { info: { body: INFO } },
      body: withSource(body, sourcePort),
      ...(compares ? { compare: sameStructure } : {}),
    });
  });

  function sameStructure(recorded: unknown, found: unknown): void {
    if (isError(recorded)) {
      expect(found).toMatchObject(recorded);
      return;
    }
    // The replica's bootstrap record is the source's where it matches (6.4); the original has none.
    const { bootstrap_info: _theirs, ...expected } = structureOf(recorded, EXTRAS) as Record<string, unknown>;
    const { bootstrap_info: _ours, ...rest } = structureOf(found, EXTRAS) as Record<string, unknown>;
    expect(rest).toEqual(expected);
  }
});

/** The request with the address of our source in the place of the recorded one. */
function withSource(body: RecordedBody, port: number): string {
  return (body?.utf8 ?? '').replace('https://localhost:22200', `https://localhost:${port}`);
}
