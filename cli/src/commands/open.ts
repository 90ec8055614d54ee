import { spawn } from 'node:child_process';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';
import { requireDeployment } from '../platforms/deployment.ts';
import { loadPlaceToTend } from '../platforms/load-place.ts';
import { loadPlatform } from '../platforms/load-platform.ts';

const OPENERS: Partial<Record<NodeJS.Platform, readonly [string, ...string[]]>> = {
  darwin: ['open'],
  linux: ['xdg-open'],
  win32: ['rundll32', 'url.dll,FileProtocolHandler'],
};

/** `open`: the app in the browser; a script gets the URL. */
export async function run(
  context: Context,
  _args: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  const place = await loadPlaceToTend(context);
  const platform = await loadPlatform(place.project.config.platform);
  const state = await requireDeployment(place, platform);
  const { urls, status } = await platform.report(place, state);
  const wanted = flags['agent'] === true ? 'agent' : 'app';
  const url = urls[wanted];
  if (url === undefined || !/^https?:\/\/[^\s]+$/.test(url))
    throw new CliError('not_deployed', `${state.instance_name} has no URL of its ${wanted}`, {
      found: status,
      hint: 'dstack-cloud status says what runs; an app has a URL when its compose file publishes a port',
    });
  context.print(url);
  context.result({ url });
  const opener = OPENERS[process.platform];
  // Without a terminal there is nobody who looks at a browser.
  if (!context.interactive || opener === undefined) return undefined;
  const [program, ...args] = opener;
  const child = spawn(program, [...args, url], { stdio: 'ignore', detached: true });
  child.on('error', () => context.info(`${program} does not run; open the URL yourself`));
  child.unref();
  return undefined;
}
