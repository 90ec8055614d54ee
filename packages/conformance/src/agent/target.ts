import { NotApplicable } from '../case.ts';
import type { Endpoint } from '../endpoint.ts';

/** An agent: the socket of DstackGuest, and what else of it can be reached. */
export interface AgentTarget {
  readonly dstack: Endpoint;
  readonly tappd?: Endpoint | undefined;
  readonly external?: Endpoint | undefined;
  readonly host?: Endpoint | undefined;
  /** May extend RTMR3 with events. */
  readonly emitEvents: boolean;
}

export function tappdOf({ tappd }: AgentTarget): Endpoint {
  if (tappd === undefined) throw new NotApplicable('needs --tappd');
  return tappd;
}

export function externalOf({ external }: AgentTarget): Endpoint {
  if (external === undefined) throw new NotApplicable('needs --external');
  return external;
}

export function hostOf({ host }: AgentTarget): Endpoint {
  if (host === undefined) throw new NotApplicable('needs --host');
  return host;
}
