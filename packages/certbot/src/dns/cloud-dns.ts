import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { CertbotError } from '../errors.ts';
import { askJson, type JsonRequest } from './ask-json.ts';
import type { DnsProvider } from './dns-provider.ts';
import { providerOfSets } from './record-sets.ts';
import { zoneOf } from './zone-of.ts';

export type CloudDnsOptions = {
  readonly project: string;
  /** JSON of a service account's key; empty for the account of the machine. */
  readonly credentials: string;
  /** Of the interface, for tests. */
  readonly apiUrl?: string;
  /** In the place of Google's client, for tests. */
  readonly accessToken?: () => Promise<string>;
};

const WHAT = 'Cloud DNS';
const API = 'https://dns.googleapis.com';
const SCOPE = 'https://www.googleapis.com/auth/ndev.clouddns.readwrite';
const SYNC_MS = 120_000;
const POLL_MS = 1_000;
const MAX_PAGES = 50;

const recordSet = z.object({
  name: z.string(),
  type: z.string(),
  ttl: z.int().default(0),
  rrdatas: z.array(z.string()).default([]),
});
const zoneList = z.object({
  managedZones: z
    .array(z.object({ name: z.string(), dnsName: z.string(), visibility: z.string().default('public') }))
    .default([]),
  nextPageToken: z.string().optional(),
});
const setList = z.object({ rrsets: z.array(recordSet).default([]) });
const changed = z.object({ id: z.string(), status: z.string() });

/** Zones at Google Cloud DNS, interface v1; Google's client, which gets tokens, is loaded when this is called. */
export async function cloudDns(options: CloudDnsOptions): Promise<DnsProvider> {
  const { project, apiUrl = API } = options;
  const token = options.accessToken ?? (await tokens(options.credentials));
  const root = `${apiUrl}/dns/v1/projects/${encodeURIComponent(project)}/managedZones`;
  const ask = async <T>(
    method: JsonRequest['method'],
    path: string,
    schema: z.ZodType<T>,
    body?: object,
  ): Promise<T> => {
    const headers = { Authorization: `Bearer ${await token()}` };
    return await askJson(WHAT, { method, url: root + path, headers, ...(body && { body }) }, schema);
  };
  const names = new Map<string, string>();
  const pathOf = async (name: string): Promise<string> => {
    const known = names.get(name);
    if (known !== undefined) return known;
    const zones: { id: string; name: string }[] = [];
    let next: string | undefined;
    for (let page = 0; page < MAX_PAGES; page++) {
      const answer = await ask(
        'GET',
        next === undefined ? '' : `?pageToken=${encodeURIComponent(next)}`,
        zoneList,
      );
      for (const { name: id, dnsName, visibility } of answer.managedZones)
        if (visibility === 'public') zones.push({ id, name: dnsName.replace(/\.$/, '') });
      next = answer.nextPageToken;
      if (next === undefined) break;
    }
    const zone = zoneOf(name, zones);
    if (zone === undefined)
      throw new CertbotError(
        'dns-failed',
        `${WHAT}: no public zone of project ${project} has the name ${name}`,
      );
    const path = `/${encodeURIComponent(zone.id)}`;
    names.set(name, path);
    return path;
  };

  return providerOfSets({
    what: WHAT,
    get: async (name, type) => {
      const query = `name=${encodeURIComponent(`${name}.`)}&type=${type}`;
      const [found] = (await ask('GET', `${await pathOf(name)}/rrsets?${query}`, setList)).rrsets;
      return found && { ttl: found.ttl, texts: found.rrdatas };
    },
    replace: async (name, type, before, after) => {
      const path = await pathOf(name);
      const list = (set: typeof before) =>
        set === undefined ? [] : [{ name: `${name}.`, type, ttl: set.ttl, rrdatas: set.texts }];
      let change: z.infer<typeof changed>;
      try {
        // Deletions must be exactly what is there (412, 404), additions must not be there (409): nobody's change is lost.
        change = await ask('POST', `${path}/changes`, changed, {
          deletions: list(before),
          additions: list(after),
        });
      } catch (error) {
        if (error instanceof CertbotError && / HTTP (404|409|412): /.test(error.message)) return false;
        throw error;
      }
      const until = performance.now() + SYNC_MS;
      while (change.status !== 'done' && performance.now() < until) {
        await sleep(POLL_MS);
        change = await ask('GET', `${path}/changes/${encodeURIComponent(change.id)}`, changed);
      }
      return true;
    },
  });
}

async function tokens(credentials: string): Promise<() => Promise<string>> {
  const { GoogleAuth } = await import('google-auth-library');
  const auth = new GoogleAuth({
    scopes: [SCOPE],
    ...(credentials !== '' && { credentials: parsed(credentials) }),
  });
  return async () => {
    const token = await auth.getAccessToken().catch((cause: Error) => {
      throw new CertbotError('dns-failed', `${WHAT}: Google gives no token: ${cause.message}`, { cause });
    });
    if (typeof token === 'string') return token;
    throw new CertbotError('dns-failed', `${WHAT}: Google gives no token`);
  };
}

function parsed(text: string): { client_email: string; private_key: string } {
  const schema = z.object({ client_email: z.string(), private_key: z.string() });
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    // What is wrong with it would repeat it.
    throw new CertbotError('bad-credentials', `${WHAT}: this is no key file of a service account`);
  }
}
