import { isLoopbackAddress } from '@dstack-cloud/prpc';

/** A repository of a registry. */
export interface RegistryAddress {
  readonly origin: string;
  readonly repository: string;
}

/** OCI distribution-spec 1.1, "Pulling manifests". */
const REPOSITORY = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const MAX_REPOSITORY = 255;
/** Docker's own registry answers under another name than its images have. */
const ALIASES: Readonly<Record<string, string>> = {
  'docker.io': 'registry-1.docker.io',
  'index.docker.io': 'registry-1.docker.io',
};

/**
 * Reads `HOST[:PORT]/REPOSITORY`, which is asked over https, or the same with `https://`; `http://` on the loopback alone:
 * what a tag stands for is only as sure as the connection.
 *
 * @returns undefined for what is none of these
 */
export function parseRegistry(text: string): RegistryAddress | undefined {
  const [, scheme = 'https:', host = '', repository = ''] =
    /^(?:(https?:)\/\/)?([^/@?#\s]{1,260})\/([^?#\s]+)$/.exec(text) ?? [];
  const url = `${scheme}//${ALIASES[host] ?? host}`;
  if (repository.length > MAX_REPOSITORY || !REPOSITORY.test(repository) || !URL.canParse(url))
    return undefined;
  const { origin, hostname, pathname } = new URL(url);
  if (pathname !== '/') return undefined;
  if (scheme === 'http:' && !isLoopbackAddress(hostname.replace(/^\[|\]$/g, ''))) return undefined;
  return { origin, repository };
}
