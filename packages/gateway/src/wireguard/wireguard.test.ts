import { isWireGuardKey } from '@dstack-cloud/wireguard';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addressPlan } from './address-plan.ts';
import { wireGuardConfig } from './config-text.ts';

describe('the addresses of the tunnel', () => {
  it('begin with 10.0.0.2 by default, and leave out what is reserved', () => {
    const plan = addressPlan({
      ip: '10.0.0.1/24',
      reservedNet: ['10.0.0.1/32'],
      clientIpRange: '10.0.0.0/25',
    });
    const all = [...plan.clients()];
    expect([all[0], all.at(-1), all.length]).toEqual(['10.0.0.2', '10.0.0.126', 125]);
    expect(plan.isFree('10.0.0.1')).toBe(false);
    expect(plan.isFree('10.0.0.127')).toBe(false);
    expect(plan.isFree('10.0.1.2')).toBe(false);
    expect(plan.isFree('10.0.0.02')).toBe(false);
    expect(plan.isFree('10.0.0.2/24\nPublicKey = x')).toBe(false);
  });

  it.each([
    ['10.1.2.3/24', '10.1.2.0/30', '10.1.2.128/25', undefined],
    ['10.2.0.1/24', '10.1.0.0/16', '10.2.0.0/25', 'Reserved net is not in the network'],
    ['10.1.2.16/24', '10.1.2.0/30', '10.1.2.128/25', 'Wg peer IP is not in the reserved net'],
    ['10.1.2.3/24', '10.1.2.0/30', '10.1.3.128/25', 'Client IP range is not in the network'],
    ['10.1.2.3', '10.1.2.0/30', '10.1.2.128/25', 'no IPv4 network'],
    ['10.1.2.3/33', '10.1.2.0/30', '10.1.2.128/25', 'no IPv4 network'],
    ['10.1.2.300/24', '10.1.2.0/30', '10.1.2.128/25', 'no IPv4 network'],
  ])('%s with %s and %s: %s', (ip, reserved, clientIpRange, error) => {
    const make = () => addressPlan({ ip, reservedNet: [reserved], clientIpRange });
    if (error === undefined) expect(make().own).toBe('10.1.2.3');
    else expect(make).toThrow(error);
  });

  it('are free exactly when they are listed', () => {
    const plan = addressPlan({
      ip: '10.4.0.2/16',
      reservedNet: ['10.4.0.0/27'],
      clientIpRange: '10.4.0.0/20',
    });
    const listed = new Set(plan.clients());
    fc.assert(
      fc.property(fc.nat(20), fc.nat(255), (third, fourth) => {
        const address = `10.4.${third}.${fourth}`;
        expect(plan.isFree(address)).toBe(listed.has(address));
      }),
    );
  });
});

describe('the configuration of the interface', () => {
  it('is that of the original', () => {
    const peers = [0, 1].map((n) => ({ publicKey: `test-pubkey-${n}`, ip: `10.0.0.${n + 2}` }));
    expect(wireGuardConfig({ privateKey: '', listenPort: 51820 }, peers)).toBe(
      '[Interface]\nPrivateKey = \nListenPort = 51820\n\n\n[Peer]\nPublicKey = test-pubkey-0\nAllowedIPs = 10.0.0.2/32\nPersistentKeepalive = 25\n\n[Peer]\nPublicKey = test-pubkey-1\nAllowedIPs = 10.0.0.3/32\nPersistentKeepalive = 25\n',
    );
  });
});

describe('a WireGuard key', () => {
  it('is canonical base64 of 32 bytes, and nothing that could be more in a file', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
        expect(isWireGuardKey(Buffer.from(bytes).toString('base64'))).toBe(bytes.some((byte) => byte !== 0));
      }),
    );
    const key = Buffer.alloc(32, 1).toString('base64');
    const others = [
      `${key}\n[Peer]`,
      `${key} `,
      key.slice(0, -1),
      `${key.slice(0, -2)}F=`,
      '',
      Buffer.alloc(31, 1).toString('base64'),
      Buffer.alloc(33, 1).toString('base64'),
    ];
    for (const other of others) expect(isWireGuardKey(other), JSON.stringify(other)).toBe(false);
  });
});
