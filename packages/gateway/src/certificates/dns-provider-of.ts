import { fstatSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { isIPv4 } from 'node:net';
import { cloudDns, cloudflare, type DnsProvider, rfc2136, route53, webhook } from '@dstack-cloud/certbot';
import type { GatewayConfig } from '../config/gateway-config.ts';
import { GatewayError } from '../errors.ts';

const MAX_SECRET = 64 * 1024;
const OTHERS = 0o077;

export type ConfiguredDns = {
  readonly dns: DnsProvider;
  /** `address:port` of servers where a record must be seen before the authority looks. */
  readonly nameServers: readonly string[];
};

/**
 * The provider that changes the zone; undefined when certificates are files. Only the client of the configured one is loaded.
 * @throws GatewayError `config-unreadable`, `config-invalid`; CertbotError `bad-credentials`
 */
export async function dnsProviderOf({
  core: { certbot },
}: GatewayConfig): Promise<ConfiguredDns | undefined> {
  if (!certbot.enabled) return undefined;
  const nameServers: readonly string[] = [];
  if (certbot.cloudflare !== undefined) {
    const { token_file, api_url: apiUrl } = certbot.cloudflare;
    return { dns: cloudflare({ token: await secretLine(token_file), apiUrl }), nameServers };
  }
  if (certbot.route53 !== undefined) {
    const { access_key_id: accessKeyId, secret_key_file, endpoint } = certbot.route53;
    const secretAccessKey = await secretLine(secret_key_file);
    return {
      dns: await route53({ accessKeyId, secretAccessKey, ...(endpoint && { endpoint }) }),
      nameServers,
    };
  }
  if (certbot.cloud_dns !== undefined) {
    const { project, credentials_file: file } = certbot.cloud_dns;
    return {
      dns: await cloudDns({ project, credentials: file === '' ? '' : await secret(file) }),
      nameServers,
    };
  }
  if (certbot.webhook !== undefined) {
    const { url, token_file } = certbot.webhook;
    return { dns: webhook({ url, token: await secretLine(token_file) }), nameServers };
  }
  const { server, zone, key_name: name, key_algorithm: algorithm, key_file } = certbot.rfc2136;
  const text = await secretLine(key_file);
  const key = Buffer.from(text, 'base64');
  if (key.length < 16 || key.toString('base64') !== text)
    throw new GatewayError('config-invalid', `${key_file} does not hold base64 of at least 16 bytes`);
  const colon = server.lastIndexOf(':');
  const [host, port] = [server.slice(0, colon), Number(server.slice(colon + 1))];
  return {
    dns: rfc2136({ host, port, zone, key: { name, algorithm, secret: new Uint8Array(key) } }),
    // Resolvers are asked by address alone; of another server the authority finds out by itself.
    nameServers: isIPv4(host) ? [server] : [],
  };
}

async function secretLine(path: string): Promise<string> {
  const text = (await secret(path)).trim();
  if (/^[\x21-\x7e]{1,4096}$/.test(text)) return text;
  throw new GatewayError('config-invalid', `${path} does not hold one line of a secret`);
}

/** A file that nobody else may read. */
async function secret(path: string): Promise<string> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(path, 'r');
  } catch (cause) {
    throw new GatewayError('config-unreadable', `${path} cannot be read: ${(cause as Error).message}`, {
      cause,
    });
  }
  try {
    const status = fstatSync(file.fd);
    if (!status.isFile() || status.size > MAX_SECRET)
      throw new GatewayError('config-invalid', `${path} is no file of a secret`);
    if ((status.mode & OTHERS) !== 0)
      throw new GatewayError(
        'config-invalid',
        `${path} holds a secret and may be read by others; chmod 600 it`,
      );
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}
