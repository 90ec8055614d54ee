import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { ByteReader, ByteWriter, concatBytes, equalBytes, utf8 } from '@dstack-cloud/encoding';
import { hkdf, type RootKeys } from '@dstack-cloud/keys';

/**
 * Seconds in which a nonce must come back; as old as a Nitro document may be (docs/protocol/verification.md section 5
 * step 2).
 */
export const NONCE_SECONDS = 300;
/** How far the clocks of replicas may differ. */
const MAX_SKEW_SECONDS = 60;
/** Nonces remembered with the key that showed them; beyond that the oldest is forgotten. */
const MAX_SHOWN = 65_536;
/** Stands before every nonce of a KMS, so that it can be told from what others put into their documents. */
const MAGIC = utf8('dstack-kms-nonce:');
const RANDOM_BYTES = 16;
const MAC_BYTES = 32;

/** What is wrong with a nonce; `foreign`: it does not say that a KMS made it. */
export type NonceFault = 'foreign' | 'forged' | 'expired' | 'reused';

/** Nonces of this KMS for evidence to come (docs/protocol/kms.md section 4.4). */
export type ServerNonces = {
  issue(): Uint8Array;
  /**
   * Checks a nonce that came back in verified evidence of a key. The first key that shows it has it; nobody else may
   * show it again.
   * @param spki DER of the key
   */
  check(nonce: Uint8Array, spki: Uint8Array): NonceFault | undefined;
};

/**
 * Nonces carry their time and a MAC under a key of the root: all workers and replicas know each other's, also after a
 * restart, and none is kept until it is shown. Who showed one is remembered by this process, for as long as it lives.
 * @param now unix seconds
 */
export function serverNonces(
  roots: Pick<RootKeys, 'k256'>,
  now: () => number,
  maxShown: number = MAX_SHOWN,
): ServerNonces {
  const key = hkdf(roots.k256, [utf8('server-nonce-key')], 32);
  const mac = (body: Uint8Array): Uint8Array =>
    new Uint8Array(createHmac('sha256', key).update(body).digest());
  const shown = new Map<string, { readonly until: number; readonly spki: Uint8Array }>();

  function isFirst(nonce: Uint8Array, until: number, spki: Uint8Array): boolean {
    const name = Buffer.from(nonce).toString('base64');
    const before = shown.get(name);
    if (before !== undefined) return equalBytes(before.spki, spki);
    for (const [other, { until: end }] of shown) {
      if (end >= now() && shown.size < maxShown) break;
      shown.delete(other);
    }
    shown.set(name, { until, spki });
    return true;
  }

  return {
    issue() {
      const writer = new ByteWriter();
      writer.bytes(MAGIC);
      writer.u64be(BigInt(Math.floor(now())));
      writer.bytes(new Uint8Array(randomBytes(RANDOM_BYTES)));
      const body = writer.finish();
      return concatBytes(body, mac(body));
    },
    check(nonce, spki) {
      if (!equalBytes(nonce.subarray(0, MAGIC.length), MAGIC)) return 'foreign';
      if (nonce.length !== MAGIC.length + 8 + RANDOM_BYTES + MAC_BYTES) return 'forged';
      const body = nonce.subarray(0, -MAC_BYTES);
      if (!timingSafeEqual(mac(body), nonce.subarray(-MAC_BYTES))) return 'forged';
      const issued = Number(new ByteReader(body.subarray(MAGIC.length)).u64be());
      const age = now() - issued;
      if (age > NONCE_SECONDS || age < -MAX_SKEW_SECONDS) return 'expired';
      return isFirst(nonce, issued + NONCE_SECONDS, spki) ? undefined : 'reused';
    },
  };
}
