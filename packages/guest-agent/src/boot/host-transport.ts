import { httpTransport, type PrpcTransport } from '@dstack-cloud/prpc';

/** Calls of `host_api_url`; undefined without a URL, or with one that this guest has no transport for. */
export function hostTransport(url: string | undefined): PrpcTransport | undefined {
  if (url?.startsWith('unix:'))
    return httpTransport({ baseUrl: 'http://localhost/api', socketPath: url.slice(5) });
  if (url?.startsWith('http://') && URL.canParse(url)) return httpTransport({ baseUrl: url });
  return undefined;
}
