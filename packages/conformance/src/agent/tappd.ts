import { reportData } from '@dstack-cloud/attestation';
import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { type ConformanceCase, expectSame, NotApplicable } from '../case.ts';
import type { Endpoint } from '../endpoint.ts';
import { call, expectRefusal, hexListOf, hexOf, refusal } from '../rpc.ts';
import { type AgentTarget, tappdOf } from './target.ts';
import { tdReportOf } from './td-report.ts';

const CONTENT = toHex(utf8('test data'));
const HASHES = [
  'sha256',
  'sha384',
  'sha512',
  'sha3-256',
  'sha3-384',
  'sha3-512',
  'keccak256',
  'keccak384',
  'keccak512',
];

async function tdxQuote(tappd: Endpoint, args: object) {
  const answer = await call(tappd, '/prpc/Tappd.TdxQuote', args);
  const quote = hexOf(answer, 'quote');
  if (quote === '') throw new NotApplicable('the machine has no TDX');
  return { answer, reportData: toHex(tdReportOf(fromHex(quote)).reportData) };
}

function hashed(tag: string, hash: string): string {
  return toHex(reportData({ tag, content: fromHex(CONTENT), hash }));
}

/** The older service, which clients of before 0.5 use. */
export const TAPPD_CASES: readonly ConformanceCase<AgentTarget>[] = [
  {
    id: 'agent.tappd.prefix',
    checks: 'The prefix Tappd. may be there, be missing, or be there twice.',
    section: 'guest-agent.md 1',
    run: async (target) => {
      for (const path of ['/prpc/Tappd.Info', '/prpc/Info', '/prpc/Tappd.Tappd.Info'])
        hexOf(await call(tappdOf(target), path), 'app_id', 20);
      await refusal(tappdOf(target), '/prpc/Worker.Info');
    },
  },
  {
    id: 'agent.tappd.derive-k256-key',
    checks: 'DeriveK256Key gives key and signatures of GetKey.',
    section: 'guest-agent.md 2',
    run: async (target) => {
      const args = { path: 'conformance', purpose: 'p' };
      const answer = await call(tappdOf(target), '/prpc/Tappd.DeriveK256Key', args);
      const expected = await call(target.dstack, '/GetKey', args);
      expectSame('k256_key', hexOf(answer, 'k256_key', 32), expected['key']);
      expectSame(
        'k256_signature_chain',
        hexListOf(answer, 'k256_signature_chain', 2),
        expected['signature_chain'],
      );
    },
  },
  {
    id: 'agent.tappd.quote-hashes',
    checks: 'TdxQuote hashes app-data, a colon and the content with each of nine hashes, SHA-512 by default.',
    section: 'evidence.md 2.1',
    run: async (target) => {
      const tappd = tappdOf(target);
      for (const hash of HASHES) {
        const quote = await tdxQuote(tappd, { report_data: CONTENT, hash_algorithm: hash });
        expectSame(`Report data with ${hash}`, quote.reportData, hashed('app-data', hash));
        expectSame('hash_algorithm', quote.answer['hash_algorithm'], hash);
      }
      const quote = await tdxQuote(tappd, { report_data: CONTENT });
      expectSame('Report data by default', quote.reportData, hashed('app-data', 'sha512'));
      expectSame('hash_algorithm', quote.answer['hash_algorithm'], 'sha512');
    },
  },
  {
    id: 'agent.tappd.quote-prefix',
    checks: 'TdxQuote takes another tag, and adds the colon.',
    section: 'guest-agent.md 4.4',
    run: async (target) => {
      const quote = await tdxQuote(tappdOf(target), { report_data: CONTENT, prefix: 'mine' });
      expectSame('Report data', quote.reportData, hashed('mine', 'sha512'));
    },
  },
  {
    id: 'agent.tappd.quote-prefix-echo',
    checks: 'The answer of TdxQuote has the tag that counted.',
    section: 'guest-agent.md 3',
    isExtension: true,
    run: async (target) => {
      const tappd = tappdOf(target);
      const { answer } = await tdxQuote(tappd, { report_data: CONTENT, prefix: 'mine' });
      expectSame('prefix', answer['prefix'], 'mine');
      expectSame('prefix', (await tdxQuote(tappd, { report_data: CONTENT })).answer['prefix'], 'app-data');
    },
  },
  {
    id: 'agent.tappd.raw-quote',
    checks: 'RawQuote takes exactly 64 bytes, as they are.',
    section: 'guest-agent.md 4.4',
    run: async (target) => {
      const tappd = tappdOf(target);
      const report_data = 'ab'.repeat(64);
      const answer = await call(tappd, '/prpc/Tappd.RawQuote', { report_data });
      const quote = hexOf(answer, 'quote');
      if (quote === '') throw new NotApplicable('the machine has no TDX');
      expectSame('Report data', toHex(tdReportOf(fromHex(quote)).reportData), report_data);
      for (const wrong of ['ab'.repeat(63), 'ab'.repeat(65), ''])
        await expectRefusal(tappd, '/prpc/Tappd.RawQuote', { report_data: wrong }, /invalid content length/);
    },
  },
  {
    id: 'agent.tappd.unknown-hash',
    checks: 'TdxQuote refuses an unknown hash.',
    section: 'guest-agent.md 4.4',
    run: (target) =>
      expectRefusal(
        tappdOf(target),
        '/prpc/Tappd.TdxQuote',
        { report_data: CONTENT, hash_algorithm: 'md5' },
        /invalid hash algorithm/,
      ),
  },
  {
    id: 'agent.tappd.dstack-methods',
    checks: 'Methods of DstackGuest answer on tappd.sock too, at / and at /prpc/Tappd.',
    section: 'guest-agent.md 1',
    isExtension: true,
    run: async (target) => {
      const { key } = await call(target.dstack, '/GetKey', { path: 'conformance' });
      for (const path of ['/GetKey', '/prpc/Tappd.GetKey'])
        expectSame(
          `key of ${path}`,
          (await call(tappdOf(target), path, { path: 'conformance' }))['key'],
          key,
        );
    },
  },
];
