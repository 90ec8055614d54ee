import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkPorts } from './port-rules.ts';

const rules = {
  enabled: true,
  address: '127.0.0.1',
  range: [
    { protocol: 'tcp' as const, from: 8000, to: 8999 },
    { protocol: 'udp' as const, from: 5000, to: 5000 },
  ],
};
const want = (protocol: string, hostPort: number, vmPort = 80, hostAddress = '') => ({
  protocol,
  hostPort,
  vmPort,
  hostAddress,
});
const refusal = (code: string, message?: RegExp) =>
  expect.objectContaining({
    code,
    ...(message === undefined ? {} : { message: expect.stringMatching(message) }),
  });

describe('mapped ports', () => {
  it('are taken within the ranges, by protocol, at the configured address when none is named', () => {
    expect(checkPorts([want('tcp', 8000), want('udp', 5000, 53, '127.0.0.2')], rules, [])).toEqual([
      { protocol: 'tcp', address: '127.0.0.1', from: 8000, to: 80 },
      { protocol: 'udp', address: '127.0.0.2', from: 5000, to: 53 },
    ]);
  });

  it.each([
    ['below the range', want('tcp', 7999), /not allowed/],
    ['above the range', want('tcp', 9000), /not allowed/],
    ['of the range of another protocol', want('udp', 8000), /not allowed/],
    ['with another protocol', want('sctp', 8000), /unknown protocol/],
    ['with a name as address', want('tcp', 8000, 80, 'localhost'), /no IPv4 address/],
    [
      "with QEMU's own characters",
      want('tcp', 8000, 80, '127.0.0.1:1-:1,hostfwd=tcp::22'),
      /no IPv4 address/,
    ],
    ['without a port in the machine', want('tcp', 8000, 0), /no port/],
    ['beyond all ports', want('tcp', 8000, 65_536), /no port/],
    ['zero', want('tcp', 0), /no port/],
  ])('%s are refused', (_name, port, message) => {
    expect(() => checkPorts([port], rules, [])).toThrow(refusal('bad_option', message));
  });

  it('are refused where mapping is disabled, and none is fine there', () => {
    expect(() => checkPorts([want('tcp', 8000)], { ...rules, enabled: false }, [])).toThrow(
      refusal('bad_option', /disabled/),
    );
    expect(checkPorts([], { ...rules, enabled: false }, [])).toEqual([]);
  });

  it('of another machine, or twice of one, are refused; every address is the same port', () => {
    const other = { protocol: 'tcp' as const, address: '127.0.0.1', from: 8000, to: 1, machine: 'web' };
    expect(() => checkPorts([want('tcp', 8000)], rules, [other])).toThrow(refusal('port_in_use', /web/));
    expect(() => checkPorts([want('tcp', 8000, 80, '0.0.0.0')], rules, [other])).toThrow(
      refusal('port_in_use'),
    );
    expect(checkPorts([want('tcp', 8000, 80, '127.0.0.2')], rules, [other])).toHaveLength(1);
    expect(() => checkPorts([want('tcp', 8001), want('tcp', 8001, 81)], rules, [])).toThrow(
      refusal('port_in_use', /this machine/),
    );
  });

  it('that are let through are always inside a range, whatever is asked for', () => {
    const anyPort = fc.record({
      protocol: fc.constantFrom('tcp', 'udp', 'TCP', ''),
      hostPort: fc.integer({ min: -1, max: 70_000 }),
      vmPort: fc.integer({ min: -1, max: 70_000 }),
      hostAddress: fc.constantFrom('', '127.0.0.1', '0.0.0.0', '::1'),
    });
    fc.assert(
      fc.property(fc.array(anyPort, { maxLength: 5 }), (ports) => {
        let mapped: ReturnType<typeof checkPorts> = [];
        try {
          mapped = checkPorts(ports, rules, []);
        } catch {
          return;
        }
        for (const { protocol, from } of mapped)
          expect(
            rules.range.some((one) => one.protocol === protocol && one.from <= from && from <= one.to),
          ).toBe(true);
      }),
    );
  });
});
