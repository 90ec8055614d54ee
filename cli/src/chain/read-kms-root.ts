import { CliError } from '../errors.ts';
import { type ChainConfig, connectReader, kmsAbi, type Reader, shortMessage } from './connect.ts';

/** What the DstackKms contract says about the key service; hex without 0x. */
export interface KmsIdentity {
  /** Compressed secp256k1 root key, 33 bytes. */
  readonly k256: string;
  /** SubjectPublicKeyInfo of the root CA. */
  readonly ca: string;
}

/** Reads the published identity of the KMS. Throws `chain_unreachable`, `kms_untrusted`. */
export async function readKmsIdentity(reader: Reader): Promise<KmsIdentity> {
  let info: readonly [string, string, string, string];
  try {
    info = (await reader.client.readContract({
      address: reader.kms,
      abi: kmsAbi,
      functionName: 'kmsInfo',
    })) as readonly [string, string, string, string];
  } catch (error) {
    throw new CliError('chain_unreachable', `${reader.kms} does not answer as a DstackKms contract`, {
      cause: new Error(shortMessage(error)),
      hint: 'Check chain.kms_contract with dstack-cloud config-edit',
    });
  }
  const k256 = info[0].slice(2).toLowerCase();
  if (!/^0[23][0-9a-f]{64}$/.test(k256))
    throw new CliError('kms_untrusted', `The contract ${reader.kms} names no KMS root key yet`, {
      expected: 'a compressed secp256k1 key of 33 bytes',
      found: k256 === '' ? 'nothing' : `${k256.length / 2} bytes`,
      hint: 'The owner of the contract must call setKmsInfo with the bootstrap answer of the KMS',
    });
  return { k256, ca: info[1].slice(2).toLowerCase() };
}

/** The root key alone. */
export async function readKmsRoot(config: ChainConfig): Promise<string> {
  return (await readKmsIdentity(await connectReader(config))).k256;
}
