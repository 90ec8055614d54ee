import { existsSync } from 'node:fs';
import { fixture, fixturePath } from '@dstack-cloud/test/fixtures';
import { describe, expect, it } from 'vitest';
import { bytesSource } from './byte-source.ts';
import { describeEif } from './describe.ts';
import { EifError } from './errors.ts';
import { readEif } from './measure/read-eif.ts';
import { measurements } from './measurements.ts';
import { makeSignature } from './sign/make-signature.ts';
import { keySigner } from './sign/signer.ts';
import { assembleEif, PLAIN, plainReading, withCrc } from './test/assemble-eif.ts';
import { signingKey } from './test/signing-key.ts';
import { verifyEif } from './verify.ts';

/** `EIF_MUTANTS=100000 EIF_SEED=1 npx vitest run packages/eif/src/mutants.test.ts` tries more, or others. */
const COUNT = Number(process.env['EIF_MUTANTS'] ?? 1_500);
const SEED = Number(process.env['EIF_SEED'] ?? 20_261_130);
const MOST_MS = 50;
const NOW = new Date('2027-01-01T00:00:00Z');

/** Numbers from a seed (mulberry32), below a bound. */
function random(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

type Pick = (below: number) => number;
const INTERESTING = [0, 1, 2, 0x7f, 0x80, 0xff];

/** One change; places in header and section headers are as likely as all others together. */
function mutate(image: Buffer, pick: Pick): Buffer {
  const out = Buffer.from(image);
  if (out.length === 0) return out;
  const at = pick(2) === 0 ? pick(640) % out.length : pick(out.length);
  switch (pick(7)) {
    case 0:
      out[at]! ^= 1 << pick(8);
      return out;
    case 1:
      out[at] = INTERESTING[pick(INTERESTING.length)]!;
      return out;
    case 2:
      return out.subarray(0, at);
    case 3:
      return Buffer.concat([out.subarray(0, at), out.subarray(Math.min(out.length, at + 1 + pick(64)))]);
    case 4:
      return Buffer.concat([out.subarray(0, at), Buffer.alloc(1 + pick(64), pick(256)), out.subarray(at)]);
    case 5: {
      const from = pick(out.length);
      out.copyWithin(at, from, from + 1 + pick(64));
      return out;
    }
    default:
      out.fill(pick(256), at, Math.min(out.length, at + 1 + pick(16)));
      return out;
  }
}

interface Outcome {
  readonly verdict: 'refused' | 'same' | 'read';
  readonly ms: number;
}

async function describing(bytes: Uint8Array) {
  const eif = await readEif(bytesSource('mutant', bytes));
  return { eif, description: describeEif(eif) };
}

async function judge(original: Buffer, mutant: Buffer): Promise<Outcome> {
  const started = performance.now();
  const bytes = new Uint8Array(mutant);
  const read = await describing(bytes).catch((error: unknown) => {
    if (error instanceof EifError) return undefined;
    throw error;
  });
  if (read === undefined) return { verdict: 'refused', ms: performance.now() - started };
  const { eif, description } = read;
  let isVerified = true;
  try {
    verifyEif(eif, { now: NOW, requireSignature: true });
  } catch (error) {
    if (!(error instanceof EifError)) throw error;
    isVerified = false;
  }
  const ms = performance.now() - started;
  const { crcIsRight, ...registers } = plainReading(bytes);
  expect(measurements(eif.pcrs, undefined)).toMatchObject(registers);
  expect(description.CheckCRC).toBe(crcIsRight);
  if (mutant.equals(original)) return { verdict: 'same', ms };
  // What is verified is what was signed: other bytes may only be in what nobody measures.
  if (isVerified) expect(registers.PCR0).toBe(plainReading(original).PCR0);
  return { verdict: 'read', ms };
}

async function signedImage(): Promise<Buffer> {
  const key = signingKey();
  const unsigned = await readEif(bytesSource('unsigned', assembleEif(PLAIN)));
  const signer = keySigner(key.certificate, key.privateKey);
  const payload = await makeSignature(signer, unsigned.pcrs.pcr0, NOW);
  return Buffer.from(assembleEif([...PLAIN, { type: 4, payload }]));
}

describe('changed images', () => {
  it(`${COUNT} mutants (seed ${SEED}) are refused or read right, none for over ${MOST_MS} ms`, async () => {
    const files = ['unsigned-x86_64.eif', 'three-ramdisks-aarch64.eif', 'signed-x86_64.eif'];
    const originals: Buffer[] = existsSync(fixturePath('eif'))
      ? files.map((file) => Buffer.from(fixture(`eif/${file}`)))
      : [];
    originals.push(Buffer.from(assembleEif(PLAIN)), await signedImage());
    const pick = random(SEED);
    const verdicts = { refused: 0, same: 0, read: 0 };
    for (let i = 0; i < COUNT; i++) {
      const original: Buffer = originals[i % originals.length]!;
      let mutant: Buffer = mutate(original, pick);
      while (pick(3) === 0) mutant = mutate(mutant, pick);
      // Half of them pass the checksum, so that what comes after it is tried.
      if (pick(2) === 0 && mutant.length >= 548) mutant = withCrc(mutant);
      let { verdict, ms } = await judge(original, mutant);
      // Another process may have had the processor.
      for (let again = 0; ms > MOST_MS && again < 5; again++)
        ({ verdict, ms } = await judge(original, mutant));
      expect(ms, `mutant ${i} of seed ${SEED}`).toBeLessThan(MOST_MS);
      verdicts[verdict] += 1;
    }
    // The mutations reach both sides.
    expect(verdicts.refused).toBeGreaterThan(COUNT / 10);
    expect(verdicts.read).toBeGreaterThan(COUNT / 10);
  }, 600_000);
});
