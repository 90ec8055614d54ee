import { type ComposeMap, memberOf } from './compose-node.ts';
import { quoted } from './compose-source.ts';
import type { ComposeValues } from './compose-values.ts';

/** When a service that ended is started again. */
export interface RestartPolicy {
  readonly when: 'never' | 'on-failure' | 'always';
  /** Attempts of `on-failure:N`; Infinity without a number. */
  readonly max: number;
}

/** Reads `restart`; without it a service is not started again. */
export function restartPolicy(service: ComposeMap, values: ComposeValues): RestartPolicy {
  const text = values.member(service, 'restart') ?? 'no';
  // YAML 1.1 reads an unquoted no as false.
  if (values.isOpen(text) || text === 'no' || text === 'false') return { when: 'never', max: 0 };
  const found = /^(always|unless-stopped|on-failure)(?::([0-9]{1,6}))?$/.exec(text);
  if (found === null || (found[2] !== undefined && found[1] !== 'on-failure')) {
    const at = memberOf(service, 'restart')?.at ?? service.at;
    return values.source.fail(
      at,
      `restart ${quoted(text)} is unknown; no, always, unless-stopped, on-failure or on-failure:N is expected`,
    );
  }
  if (found[1] !== 'on-failure') return { when: 'always', max: Number.POSITIVE_INFINITY };
  return { when: 'on-failure', max: found[2] === undefined ? Number.POSITIVE_INFINITY : Number(found[2]) };
}

const UNIT_MS: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds of a duration such as `1m30s`. */
export function duration(
  service: ComposeMap,
  name: string,
  otherwiseMs: number,
  values: ComposeValues,
): number {
  const text = values.member(service, name);
  if (text === undefined || values.isOpen(text)) return otherwiseMs;
  const parts = [...text.matchAll(/([0-9]{1,9}(?:\.[0-9]{1,9})?)(us|ms|s|m|h)/g)];
  if (parts.length === 0 || parts.map(([whole]) => whole).join('') !== text) {
    const at = memberOf(service, name)?.at ?? service.at;
    values.source.fail(at, `${name} ${quoted(text)} is no duration; 10s or 1m30s is expected`);
  }
  return parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * (UNIT_MS[unit ?? ''] ?? 0), 0);
}
