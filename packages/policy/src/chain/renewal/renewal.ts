import type { Block } from '../rpc/block.ts';
import type { Verdict, VerdictRequest } from '../verdict-reader.ts';
import type { ChainView } from '../view/read-view.ts';

/** Permissions that hold at a block, by call. */
type Permissions = ReadonlyMap<string, Verdict>;

/**
 * Finds out which of the requests, all permitted at `from`, are permitted at `to`: a block of the view, and not
 * always a descendant of `from`. What is not in the answer is not known.
 * @throws PolicyError when nothing can be found out
 */
export type Renewal = (
  view: ChainView,
  from: Block,
  to: Block,
  requests: readonly VerdictRequest[],
) => Promise<Permissions>;
