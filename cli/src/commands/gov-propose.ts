import { routeOf } from '@dstack-cloud/governance';
import type { Context } from '../context.ts';
import { callsOfWords } from '../gov/actions.ts';
import { refuseAlreadyAllowed } from '../gov/already-allowed.ts';
import { connectGov, type GovOptions } from '../gov/connect-gov.ts';
import { type StartOptions, startCalls } from '../gov/start-calls.ts';

type Options = GovOptions & StartOptions & { allowDebug?: boolean };

/** `gov propose`: says what would change, tries it on the chain as it is, and starts it in the way that the owner demands. */
export async function run(context: Context, words: readonly string[], options: Options): Promise<undefined> {
  const session = await connectGov(context, options);
  const view = await session.read();
  const calls = await callsOfWords(words, session, view, options.allowDebug === true);
  const route = routeOf(view.governance, calls);
  if (options.again !== true) await refuseAlreadyAllowed(context, session, view, route, calls);
  context.result(await startCalls(context, session, view, { route, calls }, options));
  return undefined;
}
