import {
  AttestationError,
  type RootName,
  replaceRoot,
  rootCertificate,
  type TrustRoots,
  vendorRoots,
} from '@dstack-cloud/attestation';
import { VerifierError } from '../errors.ts';
import type { Config } from './schema.ts';

/** The roots that a configuration names, instead of the vendors'. @param read gives the bytes of a file */
export async function configuredRoots(
  config: Config,
  read: (path: string) => Promise<Uint8Array>,
): Promise<TrustRoots> {
  let roots = vendorRoots();
  for (const [name, path] of Object.entries(config.attestation.root_ca)) {
    if (path === undefined) continue;
    roots = replaceRoot(roots, name as RootName, certificate(await read(path), path));
  }
  return roots;
}

function certificate(bytes: Uint8Array, path: string): Uint8Array {
  try {
    return rootCertificate(bytes);
  } catch (cause) {
    if (!(cause instanceof AttestationError)) throw cause;
    throw new VerifierError('config', `${path} holds no certificate`, { cause });
  }
}
