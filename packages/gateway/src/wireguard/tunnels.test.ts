import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { parseHandshakes } from '@dstack-cloud/wireguard';
import { afterAll, describe, expect, it } from 'vitest';
import { startWireGuard } from './wireguard.ts';

const folder = mkdtempSync(join(tmpdir(), 'gateway-wg-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the handshakes that wg shows', () => {
  it('are read by key, and lines of another form left out', () => {
    expect(parseHandshakes('a=\t1700000000\nb=\t0\n\nrubbish\nc=\tx\n')).toEqual(
      new Map([
        ['a=', 1_700_000_000],
        ['b=', 0],
      ]),
    );
  });
});

describeWithPrograms('WireGuard in user space', ['wg', 'wireguard-go', 'ip'], () => {
  const unique = `dgw${process.pid}`.slice(0, 13);
  const sh = (line: string): string => execFileSync('sh', ['-c', line], { encoding: 'utf8' }).trim();
  const key = (): { secret: string; public: string } => {
    const secret = sh('wg genkey');
    return { secret, public: execFileSync('wg', ['pubkey'], { input: secret, encoding: 'utf8' }).trim() };
  };

  it('shakes hands with a guest, gives it another address, ends its tunnel, and has thousands of peers', async () => {
    const [own, guest] = [key(), key()];
    const errors: unknown[] = [];
    const port = 20_000 + (process.pid % 12_000);
    const gateway = await startWireGuard({
      interfaceName: `${unique}a`,
      privateKey: own.secret,
      publicKey: own.public,
      listenPort: port,
      address: '10.231.77.1/24',
      folder,
      driver: 'userspace',
      onError: (error) => errors.push(error),
    });
    const guestSide = await startWireGuard({
      interfaceName: `${unique}b`,
      privateKey: guest.secret,
      publicKey: guest.public,
      listenPort: port + 1,
      address: '10.231.77.2/32',
      folder,
      driver: 'auto',
      onError: (error) => errors.push(error),
    });
    try {
      expect(statSync(join(folder, `${unique}a.conf`)).mode & 0o777).toBe(0o600);
      gateway.set({ publicKey: guest.public, ip: '10.231.77.2' });
      sh(
        `wg set ${unique}b peer ${own.public} allowed-ips 10.231.77.1/32 endpoint 127.0.0.1:${port} persistent-keepalive 1`,
      );
      await expect
        .poll(async () => (await gateway.handshakes()).get(guest.public) ?? 0, { timeout: 15_000 })
        .toBeGreaterThan(1_700_000_000);
      expect(sh(`wg show ${unique}a allowed-ips`)).toBe(`${guest.public}\t10.231.77.2/32`);
      gateway.remove(guest.public);
      await expect.poll(() => sh(`wg show ${unique}a peers`)).toBe('');
      await gateway.reconcile([{ publicKey: guest.public, ip: '10.231.77.9' }]);
      expect(sh(`wg show ${unique}a allowed-ips`)).toBe(`${guest.public}\t10.231.77.9/32`);
      await expect.poll(async () => (await gateway.handshakes()).has(guest.public)).toBe(true);
      const many = Array.from({ length: 2_000 }, (_, n) => {
        const bytes = Buffer.alloc(32, 7);
        bytes.writeUInt32BE(n, 4);
        return { publicKey: bytes.toString('base64'), ip: `10.231.${100 + (n >> 8)}.${n & 255}` };
      });
      for (const peer of many) gateway.set(peer);
      await expect.poll(() => sh(`wg show ${unique}a peers | wc -l`), { timeout: 20_000 }).toBe('2001');
      const options = {
        interfaceName: `${unique}a`,
        listenPort: port,
        address: '10.231.77.1/24',
        folder,
        driver: 'userspace' as const,
        onError: () => undefined,
      };
      const other = key();
      await expect(
        startWireGuard({ ...options, privateKey: other.secret, publicKey: other.public }),
      ).rejects.toThrow(/has another key/);
      await startWireGuard({ ...options, privateKey: own.secret, publicKey: own.public });
      expect(sh(`wg show ${unique}a peers | wc -l`)).toBe('2001');
      expect(errors).toEqual([]);
    } finally {
      await guestSide.close();
      await gateway.close();
    }
    expect(sh(`ip link show ${unique}a 2>&1 || true`)).toContain('does not exist');
    expect(readdirSync(folder)).toEqual([]);
  });

  it('says what is wrong with a name, and which program failed', async () => {
    const options = {
      privateKey: key().secret,
      publicKey: '',
      listenPort: 1,
      address: 'nonsense',
      folder,
      driver: 'userspace' as const,
      onError: () => undefined,
    };
    await expect(startWireGuard({ ...options, interfaceName: 'a b; rm' })).rejects.toThrow(
      /no name of an interface/,
    );
    await expect(startWireGuard({ ...options, interfaceName: `${unique}c` })).rejects.toThrow(
      /ip address replace nonsense failed/,
    );
    expect(sh(`ip link show ${unique}c 2>&1 || true`)).toContain('does not exist');
  });
});
