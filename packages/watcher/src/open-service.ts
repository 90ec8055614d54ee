import type { ChainReader } from './chain/chain-reader.ts';
import { readSecret } from './config/read-secret.ts';
import type { WatchConfig } from './config/schema.ts';
import { readNonces } from './safe-service/read-nonces.ts';
import { SafeService, type SafeServiceOptions } from './safe-service/safe-service.ts';

/**
 * The transaction service of a configuration; undefined without one.
 * @throws WatcherError `bad-configuration` for a key that cannot be used
 */
export function openService(
  { url, api_key_file: keyFile, poll_seconds: pollSeconds }: WatchConfig['safe_service'],
  reader: ChainReader,
  options: Pick<SafeServiceOptions, 'now' | 'noted'>,
): SafeService | undefined {
  if (url === '') return undefined;
  return new SafeService({
    ...{ url, pollSeconds, ...options },
    apiKey: keyFile === '' ? undefined : readSecret('safe_service.api_key_file', keyFile),
    nonces: (addresses) => readNonces(reader, addresses),
  });
}
