import { fromHex } from '@dstack-cloud/encoding';
import { type CodeName, KnownCode } from '@dstack-cloud/policy';
import { type Address, type Hex, keccak256, type PublicClient } from 'viem';

/** Says of which release the code at an address is, at one block. */
export class CodeNames {
  readonly #known = new KnownCode({});
  readonly #client: PublicClient;
  readonly #block: bigint;

  constructor(client: PublicClient, block: bigint) {
    this.#client = client;
    this.#block = block;
  }

  /** The hash of the code, and its name when it is known. */
  async of(address: Address): Promise<{ hash: Hex; name: CodeName | undefined }> {
    const code = (await this.#client.getCode({ address, blockNumber: this.#block })) ?? '0x';
    const hash = keccak256(code);
    const name =
      this.#known.byHash(hash) ?? this.#known.byCode(hash, fromHex(code, { prefix: 'allow' }), address);
    return { hash, name };
  }
}
