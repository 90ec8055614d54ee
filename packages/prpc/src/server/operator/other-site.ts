import type { IncomingMessage } from 'node:http';

/** Whether a browser sent this for a page of another site; programs send none of these headers. */
export function comesFromOtherSite({ headers }: Pick<IncomingMessage, 'headers'>): boolean {
  const { host, origin, referer } = headers;
  const site = headers['sec-fetch-site'];
  if (site === 'cross-site' || site === 'same-site') return true;
  return [origin, referer].some(
    (url) => url !== undefined && !(URL.canParse(url) && new URL(url).host === host),
  );
}
