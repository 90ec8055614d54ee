import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tunnelPlan } from './tunnel-plan.ts';

const [OWN, KEY, OTHER] = [1, 2, 3].map((n) => Buffer.alloc(32, n).toString('base64')) as [
  string,
  string,
  string,
];
const RULES = { ownPublicKey: OWN, localNetworks: [{ address: '10.0.2.15', prefix: 24 }] };
const SERVER = { pk: KEY, ip: '10.4.0.1/16', endpoint: '203.0.113.9:51820' };

describe('the tunnel of an answer', () => {
  it('is what the original answers, in the order of the keys', () => {
    const second = { pk: OTHER, ip: '10.4.0.2', endpoint: 'gw2.example.com:51820' };
    expect(tunnelPlan(answer('10.4.0.33', [second, SERVER]), RULES)).toEqual({
      clientIp: '10.4.0.33',
      servers: [
        { publicKey: KEY, ip: '10.4.0.1', host: '203.0.113.9', port: 51820 },
        { publicKey: OTHER, ip: '10.4.0.2', host: 'gw2.example.com', port: 51820 },
      ],
    });
  });

  it.each([
    ['no tunnel', {}],
    ['no gateway', answer('10.4.0.33', [])],
    [
      '65 gateways',
      answer(
        '10.4.0.33',
        Array.from({ length: 65 }, () => SERVER),
      ),
    ],
    ['a public address for the guest', answer('8.8.8.8', [SERVER])],
    ['no address for the guest', answer('', [SERVER])],
    ['a network for the guest', answer('10.4.0.33/8', [SERVER])],
    ['a line break after the address', answer('10.4.0.33\nPostUp = rm -rf /', [SERVER])],
    ['an address of the network of the machine', answer('10.0.2.2', [SERVER])],
    ['a route to a public address', withServer({ ip: '1.1.1.1/32' })],
    ['a route to a host of the own network', withServer({ ip: '10.0.2.2/32' })],
    ['a route to loopback', withServer({ ip: '127.0.0.1' })],
    ['a route to where collateral and metadata are', withServer({ ip: '169.254.169.254' })],
    ['a route to all', withServer({ ip: '0.0.0.0/0' })],
    ['two prefixes', withServer({ ip: '10.4.0.1/16/0' })],
    ['a prefix of 33', withServer({ ip: '10.4.0.1/33' })],
    ['the address of the guest itself', withServer({ ip: '10.4.0.33' })],
    ['the key of the guest itself', withServer({ pk: OWN })],
    ['a key with a line break', withServer({ pk: `${KEY}\nAllowedIPs = 0.0.0.0/0` })],
    ['no key', withServer({ pk: '' })],
    ['an endpoint with a line break', withServer({ endpoint: '203.0.113.9:1\nAllowedIPs = 0.0.0.0/0' })],
    ['an endpoint without a port', withServer({ endpoint: '203.0.113.9' })],
    ['an endpoint with port 0', withServer({ endpoint: '203.0.113.9:0' })],
    ['an endpoint with port 65536', withServer({ endpoint: '203.0.113.9:65536' })],
    ['an endpoint that is an option', withServer({ endpoint: '-h:1' })],
    ['one key twice', answer('10.4.0.33', [SERVER, { ...SERVER, ip: '10.4.0.2' }])],
    ['one address twice', answer('10.4.0.33', [SERVER, { ...SERVER, pk: OTHER }])],
  ])('is refused with %s', (_what, hostile) => {
    expect(() => tunnelPlan(hostile, RULES)).toThrow(expect.objectContaining({ code: 'gateway-refused' }));
  });

  it('holds nothing but addresses, keys, names and ports, whatever a gateway answers', () => {
    const text = fc.oneof(
      fc.string(),
      fc.ipV4(),
      fc.domain(),
      fc.constantFrom(KEY, OTHER, '10.4.0.1/16', 'a:1'),
    );
    const server = fc.record({ pk: text, ip: text, endpoint: text });
    fc.assert(
      fc.property(text, fc.array(server, { maxLength: 4 }), (clientIp, servers) => {
        try {
          const plan = tunnelPlan(answer(clientIp, servers), RULES);
          for (const line of [
            plan.clientIp,
            ...plan.servers.flatMap(({ publicKey, ip, host }) => [publicKey, ip, host]),
          ])
            expect(line).toMatch(/^[A-Za-z0-9+/=.-]+$/);
        } catch (error) {
          expect(error).toMatchObject({ code: 'gateway-refused' });
        }
      }),
    );
  });
});

type Server = { pk: string; ip: string; endpoint: string };

function answer(clientIp: string, servers: Server[]) {
  return { wg: { clientIp, servers } };
}

function withServer(fields: Partial<Server>) {
  return answer('10.4.0.33', [{ ...SERVER, ...fields }]);
}
