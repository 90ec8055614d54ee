import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Hex, recoverAddress } from 'viem';

type Stored = Record<string, unknown> & {
  safeTxHash: Hex;
  nonce: string;
  confirmations: { owner: string; signature: string | null }[];
};

/** A Safe transaction service of this process, for tests: it keeps what it gets, and shows it through `lie`. */
export class LocalSafeService {
  readonly stored: Stored[] = [];
  /** What it answers instead of a stored transaction. */
  lie: (one: Stored) => unknown = (one) => one;
  /** Answers to listings instead of what is stored. */
  list: ((offset: number) => unknown) | undefined;
  asked = 0;
  url = '';
  readonly #server: Server = createServer((request, response) => {
    this.asked += 1;
    request
      .toArray()
      .then((chunks) =>
        this.#answer(request.method ?? '', request.url ?? '', Buffer.concat(chunks).toString()),
      )
      .then(
        ([status, body]) =>
          response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body)),
        () => response.destroy(),
      );
  });

  async start(): Promise<this> {
    await new Promise<void>((done) => this.#server.listen(0, '127.0.0.1', done));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/api`;
    return this;
  }

  stop(): Promise<unknown> {
    this.#server.closeAllConnections();
    return new Promise((done) => this.#server.close(done));
  }

  async #answer(method: string, url: string, body: string): Promise<[number, unknown]> {
    const { pathname, searchParams } = new URL(url, 'http://x');
    const confirmation = /\/multisig-transactions\/(0x\w{64})\/confirmations\/$/.exec(pathname);
    if (method === 'POST' && confirmation) {
      const { signature } = JSON.parse(body) as { signature: Hex };
      const hash = confirmation[1] as Hex;
      const found = this.stored.find(({ safeTxHash }) => safeTxHash === hash);
      found?.confirmations.push({ owner: await recoverAddress({ hash, signature }), signature });
      return [found === undefined ? 404 : 201, {}];
    }
    if (method === 'POST') {
      const safe = /\/safes\/(0x\w{40})\//.exec(pathname)?.[1];
      const { contractTransactionHash, sender, signature, origin: _, ...tx } = JSON.parse(body);
      const confirmations = [{ owner: sender, signature }];
      this.stored.push({
        ...tx,
        safe,
        safeTxHash: contractTransactionHash,
        isExecuted: false,
        confirmations,
      });
      return [201, {}];
    }
    const one = /\/multisig-transactions\/(0x\w{64})\/$/.exec(pathname);
    if (one) {
      const found = this.stored.find(({ safeTxHash }) => safeTxHash === one[1]);
      return found === undefined ? [404, {}] : [200, this.lie(found)];
    }
    if (this.list !== undefined) return [200, this.list(Number(searchParams.get('offset')))];
    const from = BigInt(searchParams.get('nonce__gte') ?? 0);
    const results = this.stored
      .filter(({ nonce }) => BigInt(nonce) >= from)
      .map((stored) => this.lie(stored));
    return [200, { count: results.length, next: null, results }];
  }
}
