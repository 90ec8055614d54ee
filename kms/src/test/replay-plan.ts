import { fixtureJson } from '@dstack-cloud/test/fixtures';
import type { Transcript } from './recorded.ts';
import { type FullItem, fullItems } from './recorded-full.ts';

/** Recorded files and the tests that replay them. */
export const REPLAYED_BY = {
  'main-rpc': 'full.test.ts',
  'mtls-rpc': 'full.test.ts',
  signcert: 'full.test.ts',
  admin: 'full.test.ts',
  nitro: 'full.test.ts',
  tls: 'outages.test.ts',
  crash: 'outages.test.ts',
  'dev-mode': 'dev-mode.test.ts',
  'onboard-bootstrap': 'onboarding.test.ts',
  'onboard-replication': 'replication.test.ts',
  lifecycle: 'lifecycle.test.ts',
  'collateral-requests': 'collateral.test.ts',
} as const;

export type RecordedFile = keyof typeof REPLAYED_BY;

/** What is not sent to ours, and why it cannot or need not be. */
export const NOT_REPLAYED: Readonly<Record<string, string>> = {
  'mtls-rpc/appkey-legacy-image-unreachable':
    'the evidence of the guest applegacy was not recorded; mtls-rpc/appkey-app1-vmconfig-legacy asks the same of app1',
  'onboard-bootstrap/switch':
    'a duration of the original; onboarding.test.ts waits for HTTPS on the port after Finish',
};

/**
 * What was observed beside the exchanges (files, processes, connections): checked by a test of this very name in the
 * file's test, `file/id`.
 */
export function observations(file: RecordedFile): FullItem[] {
  return fullItems(file).filter(
    ({ id, request }) => request === undefined && NOT_REPLAYED[`${file}/${id}`] === undefined,
  );
}

/** The exchanges of a file that are replayed: all but the named exceptions. */
export function exchanges(file: RecordedFile): FullItem[] {
  return fullItems(file).filter(
    ({ id, request }) => request !== undefined && NOT_REPLAYED[`${file}/${id}`] === undefined,
  );
}

/** Number of items in every file of the larger recording and of the smaller one, with those that are left out. */
export function inventory(): { file: string; recorded: number; replayed: number; excepted: number }[] {
  const full = (Object.keys(REPLAYED_BY) as RecordedFile[]).map((file) => {
    const recorded = fullItems(file);
    return {
      file,
      recorded: recorded.length,
      replayed: exchanges(file).length + observations(file).length,
      excepted: recorded.filter(({ id }) => NOT_REPLAYED[`${file}/${id}`] !== undefined).length,
    };
  });
  const { cases, onboard } = fixtureJson<Transcript>('kms-original/transcript.json');
  const both = cases.length + onboard.length;
  return [...full, { file: 'transcript', recorded: both, replayed: both, excepted: 0 }];
}
