import { existsSync } from 'node:fs';
import { createPrpcClient, DstackGuest, httpTransport } from '@dstack-cloud/prpc';
import { KmsError } from '../errors.ts';

/** Where agents listen when nothing is configured (docs/protocol/guest-agent.md section 1). */
const DEFAULT_SOCKETS = ['/var/run/dstack/dstack.sock', '/var/run/dstack.sock'];
const CALL_TIMEOUT_MS = 30_000;

/** The guest agent of the KMS's own CVM. */
export type GuestAgent = {
  /** A versioned attestation over 64 bytes of report data. @throws KmsError `agent-unavailable` */
  attest(reportData: Uint8Array): Promise<Uint8Array>;
  /** The VM configuration as the host gave it. @throws KmsError `agent-unavailable` */
  vmConfig(): Promise<string>;
  close(): void;
};

/**
 * A client of the guest agent.
 * @param address `unix:/path` or an http URL; the standard sockets when absent
 * @throws KmsError `config-invalid` when it is neither
 */
export function guestAgent(address: string | undefined): GuestAgent {
  const target = address ?? `unix:${DEFAULT_SOCKETS.find((path) => existsSync(path)) ?? DEFAULT_SOCKETS[0]}`;
  if (!/^(unix:.|https?:\/\/.)/.test(target) || (!target.startsWith('unix:') && !URL.canParse(target))) {
    const wanted = 'must be unix:/path or an http address';
    throw new KmsError('config-invalid', `DSTACK_AGENT_ADDRESS: "${target}" ${wanted}`);
  }
  const transport = httpTransport({
    ...(target.startsWith('unix:') ? { socketPath: target.slice('unix:'.length) } : { baseUrl: target }),
    timeoutMs: CALL_TIMEOUT_MS,
  });
  const client = createPrpcClient(DstackGuest, transport);
  const call = async <T>(name: string, run: () => Promise<T>): Promise<T> => {
    try {
      return await run();
    } catch (cause) {
      const hint = 'set DSTACK_AGENT_ADDRESS to where the guest agent listens';
      throw new KmsError(
        'agent-unavailable',
        `The guest agent at ${target} did not answer ${name}; ${hint}`,
        {
          cause,
        },
      );
    }
  };
  return {
    attest: (reportData) => call('Attest', async () => (await client.attest({ reportData })).attestation),
    vmConfig: () => call('Info', async () => (await client.info()).vmConfig),
    close: () => transport.close(),
  };
}
