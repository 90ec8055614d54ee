import { createHash } from 'node:crypto';
import {
  gateway,
  implement,
  type MessageInitShape,
  RpcError,
  type ServiceImplementation,
} from '@dstack-cloud/prpc';
import type { Fleet, Host } from './fleet.ts';

export type AdminOptions = {
  readonly fleet: Fleet;
  readonly baseDomain: string;
  /** Port of the listener for users. */
  readonly port: number;
  /** WireGuard key of this node, base64. */
  readonly publicKey: string;
  /** Absent when the certificate is a file. */
  readonly renew?: () => Promise<boolean>;
  /** Absent when the certificate is a file. */
  readonly setCaa?: () => Promise<boolean>;
  readonly exit: () => void;
};

/** The methods for operators. */
export function adminMethods(options: AdminOptions): ServiceImplementation<undefined> {
  const { fleet, publicKey, renew, setCaa, exit } = options;
  const infoOf = hostInfo(options);
  return implement(gateway.Admin)<undefined>({
    Status: () => ({
      // Of a node of the 0.6 line: over the text of its key.
      id: new Uint8Array(createHash('sha256').update(publicKey).digest().subarray(0, 20)),
      numConnections: BigInt(fleet.openConnections),
      hosts: fleet.hosts().map(infoOf),
    }),
    GetInfo: ({ id }) => {
      const host = fleet.host(id.toLowerCase());
      return { found: host !== undefined, ...(host && { info: infoOf(host) }) };
    },
    GetMeta: () => ({ registered: fleet.registered, online: fleet.online }),
    RenewCert: async () => {
      if (renew === undefined)
        throw new RpcError('The certificate is a file; certificates are renewed with core.certbot alone', {
          code: 'INVALID_ARGUMENT',
        });
      return { renewed: await renew() };
    },
    SetCaa: async () => {
      if (setCaa === undefined)
        throw new RpcError('The certificate is a file; CAA records are set with core.certbot alone', {
          code: 'INVALID_ARGUMENT',
        });
      await setCaa();
    },
    // After the answer.
    Exit: () => void setImmediate(exit),
  });
}

function hostInfo({ baseDomain, port }: AdminOptions) {
  return ({ instance, latestHandshake, open }: Host): MessageInitShape<typeof gateway.HostInfoSchema> => ({
    instanceId: instance.instanceId,
    ip: instance.ip,
    appId: instance.appId,
    baseDomain,
    port,
    latestHandshake: BigInt(latestHandshake),
    numConnections: BigInt(open),
  });
}
