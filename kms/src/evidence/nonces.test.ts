import { fromHex } from '@dstack-cloud/encoding';
import { describe, expect, test } from 'vitest';
import { serverNonces } from './nonces.ts';

const roots = { k256: new Uint8Array(32).fill(7) };
const [mine, theirs] = [new Uint8Array(91).fill(1), new Uint8Array(91).fill(2)];

describe('nonces of the service', () => {
  function at(start = 1_795_000_000) {
    let now = start;
    const clock = () => now;
    return { nonces: serverNonces(roots, clock), pass: (seconds: number) => (now += seconds), clock };
  }

  test('is good for the key that shows it first, for five minutes, and for no other key', () => {
    const { nonces, pass } = at();
    const nonce = nonces.issue();
    expect(nonces.check(nonce, mine)).toBeUndefined();
    expect(nonces.check(nonce, mine)).toBeUndefined();
    expect(nonces.check(nonce, theirs)).toBe('reused');
    pass(300);
    expect(nonces.check(nonce, mine)).toBeUndefined();
    pass(1);
    expect(nonces.check(nonce, mine)).toBe('expired');
  });

  test('no two are alike, and each is known to every replica of the root and to none of another', () => {
    const { nonces, clock } = at();
    const issued = Array.from({ length: 100 }, () => nonces.issue());
    expect(new Set(issued.map(String)).size).toBe(100);
    const replica = serverNonces(roots, clock);
    const stranger = serverNonces({ k256: new Uint8Array(32).fill(8) }, clock);
    expect(replica.check(issued[0]!, mine)).toBeUndefined();
    expect(stranger.check(issued[0]!, mine)).toBe('forged');
  });

  test('of a clock a minute ahead it is good, of one further ahead not', () => {
    const { nonces, pass } = at();
    const nonce = nonces.issue();
    pass(-60);
    expect(nonces.check(nonce, mine)).toBeUndefined();
    pass(-1);
    expect(nonces.check(nonce, mine)).toBe('expired');
  });

  test('every changed byte of the body and of the MAC is a forgery; other text is foreign', () => {
    const { nonces } = at();
    const nonce = nonces.issue();
    for (let i = 0; i < nonce.length; i++) {
      const changed = nonce.map((byte, index) => (index === i ? byte ^ 1 : byte));
      expect(nonces.check(changed, mine)).toBe(i < 17 ? 'foreign' : 'forged');
    }
    expect(nonces.check(nonce.subarray(0, -1), mine)).toBe('forged');
    expect(nonces.check(fromHex('00'.repeat(32)), mine)).toBe('foreign');
    expect(nonces.check(new Uint8Array(), mine)).toBe('foreign');
  });

  test('remembers no more than it must: the oldest is forgotten, all others stay with their keys', () => {
    const now = 1_795_000_000;
    const nonces = serverNonces(roots, () => now, 3);
    const issued = Array.from({ length: 4 }, () => nonces.issue());
    for (const nonce of issued) expect(nonces.check(nonce, mine)).toBeUndefined();
    for (const nonce of issued.slice(1)) expect(nonces.check(nonce, theirs)).toBe('reused');
    expect(nonces.check(issued[0]!, theirs)).toBeUndefined();
    // That took the place of the next one.
    expect(nonces.check(issued[2]!, theirs)).toBe('reused');
    expect(nonces.check(issued[1]!, theirs)).toBeUndefined();
  });
});
