import { fromHex } from '@dstack-cloud/encoding';
import { describe, expect, it } from 'vitest';
import { CheckRecorder } from '../check-recorder.ts';
import { appraiseTcb } from '../tcb-policy/tcb-policy.ts';
import { mergeAdvisories, worstStatus } from '../tcb-status.ts';
import { parseTdReport, type TdReport } from '../tdx-quote/reports.ts';
import type { PckPlatform } from './pck-extension.ts';
import { parseTcbInfo } from './tcb-info.ts';
import { moduleLevel, platformLevel } from './tcb-level.ts';
import { checkTdAttributes } from './td-attributes.ts';

const DATE = '2025-01-01T00:00:00Z';
const components = (...svns: number[]) => Array.from({ length: 16 }, (_, i) => ({ svn: svns[i] ?? 0 }));

function level(sgx: number[], pcesvn: number, tdx: number[], tcbStatus: string, advisoryIDs?: string[]) {
  const tcb = { sgxtcbcomponents: components(...sgx), pcesvn, tdxtcbcomponents: components(...tdx) };
  return { tcb, tcbDate: DATE, tcbStatus, ...(advisoryIDs ? { advisoryIDs } : {}) };
}

const zero48 = '00'.repeat(48);
const signer = { mrsigner: zero48, attributes: '00'.repeat(8), attributesMask: 'ff'.repeat(8) };

function info(change: object = {}) {
  return parseTcbInfo(
    JSON.stringify({
      id: 'TDX',
      version: 3,
      issueDate: DATE,
      nextUpdate: '2025-02-01T00:00:00Z',
      fmspc: '00A067110000',
      pceId: '0000',
      tcbType: 0,
      tcbEvaluationDataNumber: 17,
      tdxModule: signer,
      tdxModuleIdentities: [
        {
          id: 'TDX_03',
          ...signer,
          tcbLevels: [
            { tcb: { isvsvn: 2 }, tcbDate: DATE, tcbStatus: 'OutOfDate', advisoryIDs: ['INTEL-SA-1'] },
            { tcb: { isvsvn: 4 }, tcbDate: DATE, tcbStatus: 'UpToDate' },
          ],
        },
      ],
      tcbLevels: [
        level([1], 5, [1, 0, 1], 'OutOfDate'),
        level([3, 2], 11, [5, 1, 6], 'UpToDate'),
        level([3, 2], 11, [2, 1, 6], 'SWHardeningNeeded'),
      ],
      ...change,
    }),
  );
}

const pck = (cpu: number[], pceSvn: number): PckPlatform => ({
  ppid: new Uint8Array(16),
  cpuSvn: Uint8Array.from({ length: 16 }, (_, i) => cpu[i] ?? 0),
  pceSvn,
  pceId: new Uint8Array(2),
  fmspc: new Uint8Array(6),
});
const svn = (...bytes: number[]) => Uint8Array.from({ length: 16 }, (_, i) => bytes[i] ?? 0);

function td(
  teeTcbSvn: Uint8Array,
  attributes = '0000001000000000',
  change: Partial<TdReport> = {},
): TdReport {
  const body = new Uint8Array(584);
  body.set(teeTcbSvn, 0);
  body.set(fromHex(attributes), 120);
  return { ...parseTdReport(body), ...change };
}

describe('platform level', () => {
  it.each<[string, number[], number, Uint8Array, string]>([
    ['the highest that fits', [3, 2], 11, svn(5, 0, 6), 'OutOfDate'],
    ['with a module major version, TDX SVN 0 and 1 are not compared', [3, 2], 11, svn(0, 3, 6), 'UpToDate'],
    ['without one they are', [3, 2], 11, svn(0, 0, 6), 'none'],
    ['a lower PCESVN', [3, 2], 10, svn(5, 1, 6), 'OutOfDate'],
    ['a lower CPUSVN', [3, 1], 11, svn(5, 1, 6), 'OutOfDate'],
    ['a lower TDX SVN above index 1', [3, 2], 11, svn(5, 1, 5), 'OutOfDate'],
    ['nothing fits', [0], 11, svn(5, 1, 6), 'none'],
  ])('%s', (_name, cpu, pceSvn, tee, expected) => {
    const found = () => platformLevel(info(), pck(cpu, pceSvn), tee).status;
    if (expected === 'none') expect(found).toThrow(expect.objectContaining({ code: 'tcb' }));
    else expect(found()).toBe(expected);
  });

  it('does not depend on the order in which levels are served', () => {
    const levels = [level([3, 2], 11, [5, 1, 6], 'UpToDate'), level([1], 5, [1, 0, 1], 'Revoked')];
    for (const tcbLevels of [levels, [...levels].reverse()]) {
      expect(platformLevel(info({ tcbLevels }), pck([3, 2], 11), svn(5, 1, 6)).status).toBe('UpToDate');
    }
  });

  it('refuses levels without all components, and unknown statuses', () => {
    const short = level([1], 5, [1], 'UpToDate');
    short.tcb.sgxtcbcomponents.pop();
    expect(() => info({ tcbLevels: [short] })).toThrow('wrong number of sgxtcbcomponents');
    expect(() => info({ tcbLevels: [level([1], 5, [1], 'Fine')] })).toThrow('Unknown TCB status');
  });
});

describe('TDX module', () => {
  it.each<[string, Uint8Array, string | undefined]>([
    ['level of its identity', svn(4, 3), 'UpToDate'],
    ['a lower level', svn(3, 3), 'OutOfDate'],
    ['no identity of its own before version 1', svn(0, 0), undefined],
  ])('%s', (_name, tee, expected) => {
    expect(moduleLevel(info(), td(tee))?.status).toBe(expected);
  });

  it.each<[string, TdReport, string]>([
    ['below every level', td(svn(1, 3)), 'tcb'],
    ['an unknown major version', td(svn(4, 2)), 'tcb'],
    ['another signer', td(svn(4, 3), undefined, { mrSignerSeam: new Uint8Array(48).fill(1) }), 'mismatch'],
    ['attributes', td(svn(4, 3), undefined, { seamAttributes: new Uint8Array(8).fill(1) }), 'mismatch'],
    [
      'another signer before version 1',
      td(svn(4, 0), undefined, { mrSignerSeam: new Uint8Array(48).fill(1) }),
      'mismatch',
    ],
  ])('refuses %s', (_name, report, code) => {
    expect(() => moduleLevel(info(), report)).toThrow(expect.objectContaining({ code }));
  });

  it('refuses attribute bits outside of the mask', () => {
    const loose = { ...signer, attributesMask: '00'.repeat(8) };
    const report = td(svn(4, 0), undefined, { seamAttributes: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 1) });
    expect(() => moduleLevel(info({ tdxModule: loose }), report)).toThrow('SEAMATTRIBUTES');
  });
});

describe('TD attributes', () => {
  it.each<[string, string, string]>([
    ['0000001000000000', 'production', ''],
    ['000000d000000080', 'PKS, KL and PERFMON', ''],
    ['0100001000000000', 'DEBUG', 'debug'],
    ['0200001000000000', 'TUD bit 1', 'attributes'],
    ['8000001000000000', 'TUD bit 7', 'attributes'],
    ['0001001000000000', 'SEC bit 8', 'attributes'],
    ['0000003000000000', 'SEC bit 29', 'attributes'],
    ['0000001001000000', 'OTHER bit 32', 'attributes'],
    ['0000001000000040', 'OTHER bit 62', 'attributes'],
    ['0000000000000000', 'no SEPT_VE_DISABLE', 'attributes'],
  ])('%s: %s', (attributes, _name, code) => {
    const check = () => checkTdAttributes(td(svn(), attributes), false, new CheckRecorder());
    if (code === '') check();
    else expect(check).toThrow(expect.objectContaining({ code }));
  });

  it('refuses a service TD unless it is allowed', () => {
    const report = td(svn(), undefined, { mrServiceTd: new Uint8Array(48).fill(1) });
    expect(() => checkTdAttributes(report, false, new CheckRecorder())).toThrow('service TD');
    checkTdAttributes(report, true, new CheckRecorder());
  });
});

describe('merging', () => {
  it('takes the worst status and each advisory once, in order', () => {
    expect(worstStatus('UpToDate', 'OutOfDate', 'SWHardeningNeeded')).toBe('OutOfDate');
    expect(worstStatus('ConfigurationAndSWHardeningNeeded', 'ConfigurationNeeded')).toBe(
      'ConfigurationAndSWHardeningNeeded',
    );
    expect(mergeAdvisories(['b', 'a'], ['a'], ['c', 'b'])).toEqual(['b', 'a', 'c']);
  });
});

describe('local TCB policy', () => {
  const tdx = {
    mode: 'dstack-tdx',
    tcbStatus: 'UpToDate',
    advisoryIds: [],
    tcbEvaluationDataNumber: 17,
    tcbDate: 1000,
  };
  it.each<[string, object, object, boolean]>([
    ['UpToDate by default', {}, {}, true],
    ['nothing else by default', { tcbStatus: 'SWHardeningNeeded' }, {}, false],
    [
      'an accepted status',
      { tcbStatus: 'SWHardeningNeeded' },
      { acceptedStatuses: ['UpToDate', 'SWHardeningNeeded'] },
      true,
    ],
    ['an empty status of TDX', { tcbStatus: '' }, {}, false],
    ['an empty status of Nitro', { mode: 'dstack-nitro-enclave', tcbStatus: '' }, {}, true],
    [
      'an advisory that is not on the list',
      { advisoryIds: ['INTEL-SA-1'] },
      { acceptedAdvisories: ['INTEL-SA-2'] },
      false,
    ],
    ['an advisory that is', { advisoryIds: ['INTEL-SA-1'] }, { acceptedAdvisories: ['INTEL-SA-1'] }, true],
    ['too old an evaluation', {}, { minimumTcbEvaluationDataNumber: 18 }, false],
    [
      'an unknown evaluation',
      { tcbEvaluationDataNumber: undefined },
      { minimumTcbEvaluationDataNumber: 1 },
      false,
    ],
    ['out of date within the grace period', { tcbStatus: 'OutOfDate' }, { gracePeriodSeconds: 2000 }, true],
    ['out of date after it', { tcbStatus: 'OutOfDate' }, { gracePeriodSeconds: 999 }, false],
    ['no grace for other statuses', { tcbStatus: 'ConfigurationNeeded' }, { gracePeriodSeconds: 1e9 }, false],
  ])('%s', (_name, input, policy, ok) => {
    const verdict = appraiseTcb({ ...tdx, ...input }, policy, 2000);
    expect(verdict.ok).toBe(ok);
    expect(verdict.reasons.length === 0).toBe(ok);
  });
});
