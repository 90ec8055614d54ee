import type { ConformanceCase } from '../case.ts';
import { CERTIFICATE_CASES } from './certificates.ts';
import { EVIDENCE_CASES } from './evidence.ts';
import { INFO_CASES } from './info.ts';
import { KEY_CASES } from './keys.ts';
import { OUTSIDE_CASES } from './outside.ts';
import { TAPPD_CASES } from './tappd.ts';
import type { AgentTarget } from './target.ts';
import { WIRE_CASES } from './wire.ts';

/** What an agent does, in the order of the cases. */
export const AGENT_CASES: readonly ConformanceCase<AgentTarget>[] = [
  ...WIRE_CASES,
  ...KEY_CASES,
  ...CERTIFICATE_CASES,
  ...INFO_CASES,
  ...EVIDENCE_CASES,
  ...TAPPD_CASES,
  ...OUTSIDE_CASES,
];
