import { utf8 } from '@dstack-cloud/encoding';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { afterEach, expect, it } from 'vitest';
import type { LogQuery, ReadLog } from '../machine/containers.ts';
import { type FixtureAgent, startFixtureAgent } from '../test/fixture-agent.ts';
import { send } from '../test/replay.ts';

describeWithFixtures('the journal of a machine', 'simulator/attestation.bin', () => {
  let agent: FixtureAgent;
  afterEach(() => agent.stop());

  const asked: LogQuery[] = [];
  const journal: ReadLog = async function* (query) {
    asked.push(query);
    yield { channel: 'stdout', bytes: utf8('dstack-guest: ready\n') };
  };
  const start = async (isPublic: boolean, withJournal = true): Promise<void> => {
    const compose = { manifest_version: 2, name: 'x', runner: 'bash', public_logs: isPublic };
    agent = await startFixtureAgent({
      compose: JSON.stringify(compose),
      ...(withJournal ? { journal } : {}),
    });
  };
  const get = (target: string, socket = agent.sockets.external) => send(socket, { verb: 'GET', target });

  it('is shown when logs are public, on the external listener', async () => {
    await start(true);
    const answer = await get('/journal?text&bare&tail=3');
    expect(answer.status).toBe(200);
    expect(Buffer.from(answer.body).toString()).toContain('dstack-guest: ready');
    expect(asked).toEqual([{ since: 0, until: 0, follow: false, timestamps: false, tail: '3' }]);
    expect((await get('/journal?follow=2')).status).toBe(422);
    expect((await get('/journal', agent.sockets.internal)).status).toBe(404);
  });

  it('is not shown otherwise', async () => {
    await start(false);
    expect((await get('/journal')).status).toBe(404);
  });

  it('is none where a directory stands for the machine', async () => {
    await start(true, false);
    expect((await get('/journal')).status).toBe(404);
  });
});
