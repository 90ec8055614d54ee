/** The model that random commands are run against, and the real world beside it. */
import type { ChainControl } from '../chain-control.ts';
import type { Workload } from '../simulated-workload.ts';
import type { ModelService } from './service.ts';
import type { Policy, Timeline, View } from './timeline.ts';

/** An app's epoch, and whether the one before is still given to who moves its data. */
export type Epoch = { readonly epoch: number; readonly keepsPrevious: boolean };

export type Model = {
  /** The policy at each block since the one that all runs begin with. */
  blocks: Policy[];
  /** States that the chain may be set back to. */
  readonly snapshots: Policy[][];
  readonly epochs: Epoch[];
};

export type World = {
  readonly chain: ChainControl;
  readonly apps: readonly {
    readonly workload: Workload;
    readonly identity: { readonly cert: string; readonly key: string };
  }[];
  readonly services: readonly ModelService[];
  readonly timeline: Timeline;
  /** Each key that was ever given out, by app and epoch. */
  readonly keys: Map<string, string>;
  readonly snapshots: `0x${string}`[];
  releases: number;
};

export const isAppAllowed = ({ policies }: View, app: number): boolean =>
  policies.every(({ apps, isImageAllowed }) => isImageAllowed && apps[app] === true);

export const isServiceAllowed = ({ policies }: View, service: number): boolean =>
  policies.every(({ services, isImageAllowed }) => isImageAllowed && services[service] === true);
