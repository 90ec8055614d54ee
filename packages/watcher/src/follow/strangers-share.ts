import type { Alert } from '../alerts/alert.ts';
import { REGISTERED } from '../alerts/contract-rules.ts';
import type { GovernanceEvent } from '../events/governance-event.ts';
import { argument } from '../model/apply-contract.ts';
import type { JournalEntry } from '../state/watch-state.ts';

/** What the journal keeps of apps that nobody listed, all of them together: a quarter of what it may have. */
const STRANGERS_BYTES = 32 * 2 ** 20;
/** Of what one of these apps writes. */
const MAX_OF_ONE = { events: 500, bytes: 2 ** 20 } as const;

type Used = { readonly events: number; readonly bytes: number };
const NOTHING: Used = { events: 0, bytes: 0 };

/** The app that nobody listed of which an event tells; undefined for an event that not everybody can cause. */
export function strangerOf(
  event: GovernanceEvent,
  isListed: (address: string) => boolean,
): string | undefined {
  const app = appOf(event);
  return app === undefined || isListed(app) ? undefined : app;
}

function appOf(event: GovernanceEvent): string | undefined {
  if (event.source === 'app') return event.address;
  if (event.source !== 'kms') return undefined;
  if (event.name === 'AppRegistered' || event.name === 'AppDeployedViaFactory')
    return argument(event, 'appId');
  // The value is the address, padded to 32 bytes.
  return event.name === 'PolicyChanged' && argument(event, 'policy') === REGISTERED
    ? `0x${argument(event, 'value').slice(-40)}`
    : undefined;
}

/** What became of events that may be strangers'. */
export type Admitted = {
  readonly kept: readonly GovernanceEvent[];
  /** There was no room for them. */
  readonly leftOut: ReadonlySet<GovernanceEvent>;
  /** Apps that are not followed any more, with the reason. */
  readonly muted: ReadonlyMap<string, string>;
  readonly alerts: readonly Alert[];
};

/**
 * Bounds what the journal keeps of apps that nobody listed: registering an app, and whatever its contract writes, is open to
 * everybody. What this counts is the journal itself, so a restart or a reorganisation frees nothing.
 */
export class StrangersShare {
  readonly #entries: () => readonly JournalEntry[];
  readonly #isListed: (address: string) => boolean;
  readonly #max: number;
  #counted = 0;
  #all = 0;
  readonly #apps = new Map<string, Used>();

  /** @param entries of the journal, which only grows. @param max bytes of it */
  constructor(
    entries: () => readonly JournalEntry[],
    isListed: (address: string) => boolean,
    max: number = STRANGERS_BYTES,
  ) {
    this.#entries = entries;
    this.#isListed = isListed;
    this.#max = max;
  }

  admit(events: readonly GovernanceEvent[]): Admitted {
    this.#count();
    let all = this.#all;
    const apps = new Map<string, Used>();
    const leftOut = new Set<GovernanceEvent>();
    const muted = new Map<string, string>();
    const alerts: Alert[] = [];
    const kept = events.filter((event) => {
      const app = strangerOf(event, this.#isListed);
      if (app === undefined) return true;
      const isOwn = event.source === 'app';
      const bytes = sizeOf(event);
      const used = added(apps.get(app) ?? this.#apps.get(app) ?? NOTHING, bytes);
      if (isOwn && (used.events > MAX_OF_ONE.events || used.bytes > MAX_OF_ONE.bytes)) {
        leftOut.add(event);
        if (muted.has(app)) return false;
        const why = `it has more events than are kept (${MAX_OF_ONE.events}, of 1 MiB)`;
        muted.set(app, why);
        alerts.push(appMuted(app, why));
        return false;
      }
      if (all + bytes > this.#max) {
        if (!alerts.some(({ id }) => id === FULL)) alerts.push(full(event, this.#max));
        leftOut.add(event);
        if (isOwn && !muted.has(app)) muted.set(app, 'the share of apps that are not listed is full');
        return false;
      }
      all += bytes;
      if (isOwn) apps.set(app, used);
      return true;
    });
    return { kept, leftOut, muted, alerts };
  }

  /** Goes on counting where it was. */
  #count(): void {
    const entries = this.#entries();
    for (; this.#counted < entries.length; this.#counted += 1) {
      const entry = entries[this.#counted]!;
      if (entry.type !== 'event') continue;
      const { event } = entry;
      const app = strangerOf(event, this.#isListed);
      if (app === undefined) continue;
      const bytes = sizeOf(event);
      this.#all += bytes;
      if (event.source === 'app') this.#apps.set(app, added(this.#apps.get(app) ?? NOTHING, bytes));
    }
  }
}

const FULL = 'strangers-left-out';

function full({ time, block }: GovernanceEvent, max: number): Alert {
  return {
    id: FULL,
    rule: FULL,
    severity: 'warning',
    text: `The apps that are not listed have used up their share of the journal (${max / 2 ** 20} MiB): further registrations and events of them are left out. Those that are listed in apps are followed as before; a new folder in state_path with a later from_block begins with an empty share`,
    time,
    block,
  };
}

/** @param why for people */
export function appMuted(contract: string, why: string): Alert {
  return {
    id: `${contract}/app-muted`,
    rule: 'app-muted',
    severity: 'warning',
    text: `App ${contract} is not followed any further: ${why}. List it in apps to follow it`,
    time: Math.floor(Date.now() / 1_000),
    contract,
  };
}

function added({ events, bytes }: Used, more: number): Used {
  return { events: events + 1, bytes: bytes + more };
}

function sizeOf(event: GovernanceEvent): number {
  const entry: JournalEntry = { type: 'event', event };
  return Buffer.byteLength(JSON.stringify(entry)) + 1;
}
