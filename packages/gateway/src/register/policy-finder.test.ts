import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { Instance, PortPolicy } from '../routes/instance.ts';
import { RoutingTable } from '../routes/routing-table.ts';
import { instance } from '../test/lab.ts';
import { askPortPolicy, policyFrom } from './ask-port-policy.ts';
import { PolicyFinder } from './policy-finder.ts';

const RESTRICTED =
  '{"manifest_version":2,"port_policy":{"ports":[{"port":8080,"pp":true}],"restrict_mode":true}}';
const servers: Server[] = [];

afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

describe('the policy in the TCB information of a guest', () => {
  it('is that of the app-compose that was attested', () => {
    expect(policyFrom(tcb(RESTRICTED), hashOf(RESTRICTED))).toEqual({
      ports: [{ port: 8080, proxyProtocol: true }],
      restrict: true,
    });
    expect(policyFrom(tcb('{"name":"x"}'), hashOf('{"name":"x"}'))).toEqual({ ports: [], restrict: false });
  });

  it('is open where the application shows no TCB information', () => {
    expect(policyFrom('', hashOf(RESTRICTED))).toEqual({ ports: [], restrict: false });
  });

  it.each([
    ['another app-compose than the attested one', tcb('{}'), hashOf(RESTRICTED), /hash/],
    ['no JSON', '{', hashOf('{}'), /not JSON/],
    ['null', 'null', hashOf('{}'), /no app_compose/],
    ['no app-compose', '{"mrtd":""}', hashOf('{}'), /no app_compose/],
    ['port 0', ...attested('{"port_policy":{"ports":[{"port":0}]}}'), /port 0/],
    ['port 65536', ...attested('{"port_policy":{"ports":[{"port":65536}]}}'), /port_policy/],
    ['a policy of another form', ...attested('{"port_policy":{"restrict_mode":"yes"}}'), /restrict_mode/],
    ['two policies', ...attested('{"port_policy":{},"port_policy":{"restrict_mode":true}}'), /app-compose/],
  ])('is none with %s', (_what, tcbInfo, composeHash, why) => {
    expect(() => policyFrom(tcbInfo, composeHash)).toThrow(why);
    expect(() => policyFrom(tcbInfo, composeHash)).toThrow(
      expect.objectContaining({ name: 'PolicyUnusable' }),
    );
  });
});

describe('asking the agent of a guest', () => {
  it('reads Info as the original and this guest answer it', async () => {
    const port = await agent((answer) => answer(200, JSON.stringify({ tcb_info: tcb(RESTRICTED) })));
    expect((await ask(port)).restrict).toBe(true);
  });

  it.each([
    ['an error', 400, '{"error":"no"}'],
    ['a redirection', 302, ''],
    ['more than may come', 200, JSON.stringify({ tcb_info: 'x'.repeat(5 * 2 ** 20) })],
    ['rubbish', 200, 'rubbish'],
  ])('takes %s for no answer', async (_what, status, body) => {
    const port = await agent((answer) => answer(status, body));
    await expect(ask(port)).rejects.not.toMatchObject({ name: 'PolicyUnusable' });
  });

  async function ask(port: number): Promise<PortPolicy> {
    const one = instance(1, { ip: '127.0.0.1', composeHash: hashOf(RESTRICTED) });
    return await askPortPolicy(one, port, AbortSignal.timeout(5_000));
  }

  async function agent(handle: (answer: (status: number, body: string) => void) => void): Promise<number> {
    const server = createServer((request, response) => {
      request.resume();
      expect(request.url).toMatch(/^\/prpc\/Info/);
      handle((status, body) => response.writeHead(status, { 'Content-Type': 'application/json' }).end(body));
    });
    servers.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  }
});

describe('finding port policies', () => {
  it('asks once at a time, later and later, and again when it was given up and is wanted', async () => {
    const lab = finder(() => Promise.reject(new Error('no answer')));
    const one = lab.add(1);
    for (let i = 0; i < 10; i++) lab.finder.want(one);
    await expect.poll(() => lab.givenUp).toEqual(['no answer']);
    expect(lab.waits).toEqual([1_000, 2_000, 4_000, 8_000, 16_000]);
    expect(lab.asked).toHaveLength(6);
    lab.finder.want(one);
    await expect.poll(() => lab.givenUp).toHaveLength(2);
    lab.finder.close();
    lab.finder.want(one);
    expect(lab.asked).toHaveLength(12);
  });

  it('does not ask again who showed something unusable, until it is another one', async () => {
    const lab = finder(async () => policyFrom('rubbish', ''));
    const one = lab.add(1);
    lab.finder.want(one);
    await expect.poll(() => lab.givenUp).toHaveLength(1);
    lab.finder.want(one);
    expect(lab.asked).toHaveLength(1);
    lab.finder.want(lab.add(1, { composeHash: 'f'.repeat(64) }));
    await expect.poll(() => lab.givenUp).toHaveLength(2);
  });

  it('asks eight at once at most, and each of many in the end', async () => {
    let [now, most] = [0, 0];
    const lab = finder(async () => {
      most = Math.max(most, ++now);
      await new Promise((resolve) => setImmediate(resolve));
      now -= 1;
      return { ports: [], restrict: false };
    });
    for (let n = 1; n <= 50; n++) lab.finder.want(lab.add(n));
    await expect.poll(() => lab.learned).toHaveLength(50);
    expect(most).toBe(8);
  });

  it('does not ask for who is gone or is known meanwhile', async () => {
    const lab = finder(async () => ({ ports: [], restrict: false }));
    const gone = lab.add(1);
    lab.table.remove(gone.instanceId);
    lab.finder.want(gone);
    lab.finder.want(lab.add(2, { portPolicy: { ports: [], restrict: true } }));
    lab.finder.want(lab.add(3));
    await expect.poll(() => lab.learned).toHaveLength(1);
    expect(lab.asked).toEqual([instance(3).instanceId]);
  });

  function finder(ask: () => Promise<PortPolicy>) {
    const table = new RoutingTable();
    const asked: string[] = [];
    const learned: string[] = [];
    const givenUp: string[] = [];
    const waits: number[] = [];
    return {
      table,
      asked,
      learned,
      givenUp,
      waits,
      add: (n: number, fields: Partial<Instance> = {}): Instance => {
        const { portPolicy: _open, ...unknown } = instance(n);
        table.put({ ...unknown, ...fields });
        return table.get(unknown.instanceId)!;
      },
      finder: new PolicyFinder({
        table,
        ask: ({ instanceId }) => {
          asked.push(instanceId);
          return ask();
        },
        learn: async ({ instanceId }) => learned.push(instanceId),
        onGivenUp: (_instance, why) => givenUp.push(why),
        wait: async (ms) => waits.push(ms),
      }),
    };
  }
});

function tcb(compose: string): string {
  return JSON.stringify({ app_compose: compose });
}

function attested(compose: string): [string, string] {
  return [tcb(compose), hashOf(compose)];
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
