import { setTimeout as sleep } from 'node:timers/promises';
import type { Change, Route53Client } from '@aws-sdk/client-route-53';
import { CertbotError } from '../errors.ts';
import type { DnsProvider } from './dns-provider.ts';
import { providerOfSets, type RecordSet } from './record-sets.ts';
import { zoneOf } from './zone-of.ts';

export type Route53Options = {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Of the interface, for tests. */
  readonly endpoint?: string;
};

const WHAT = 'Route 53';
const SYNC_MS = 120_000;
const POLL_MS = 2_000;
const MAX_PAGES = 50;

/** Zones at AWS Route 53, by Amazon's own client, which is loaded when this is called. */
export async function route53({
  accessKeyId,
  secretAccessKey,
  endpoint,
}: Route53Options): Promise<DnsProvider> {
  const aws = await import('@aws-sdk/client-route-53');
  const client: Route53Client = new aws.Route53Client({
    region: 'us-east-1',
    credentials: { accessKeyId, secretAccessKey },
    maxAttempts: 4,
    ...(endpoint !== undefined && { endpoint }),
  });
  const asked = async <T>(call: Promise<T>): Promise<T> => {
    try {
      return await call;
    } catch (cause) {
      const { name, message } = cause as Error;
      throw new CertbotError('dns-failed', `${WHAT}: ${name}: ${message.slice(0, 300)}`, { cause });
    }
  };
  const zoneIds = new Map<string, string>();
  const zoneIdOf = async (name: string): Promise<string> => {
    const known = zoneIds.get(name);
    if (known !== undefined) return known;
    const zones: { id: string; name: string }[] = [];
    let marker: string | undefined;
    for (let page = 0; page < MAX_PAGES; page++) {
      const answer = await asked(
        client.send(new aws.ListHostedZonesCommand(marker === undefined ? {} : { Marker: marker })),
      );
      for (const { Id: id, Name: zone, Config: config } of answer.HostedZones ?? [])
        if (id !== undefined && zone !== undefined && config?.PrivateZone !== true)
          zones.push({ id, name: withoutDot(zone) });
      marker = answer.NextMarker;
      if (answer.IsTruncated !== true || marker === undefined) break;
    }
    const zone = zoneOf(name, zones);
    if (zone === undefined)
      throw new CertbotError('dns-failed', `${WHAT}: no public zone has the name ${name}`);
    zoneIds.set(name, zone.id);
    return zone.id;
  };
  const change = (
    action: 'CREATE' | 'DELETE',
    name: string,
    type: 'TXT' | 'CAA',
    { ttl, texts }: RecordSet,
  ): Change => ({
    Action: action,
    ResourceRecordSet: {
      ...{ Name: `${name}.`, Type: type, TTL: ttl },
      ResourceRecords: texts.map((Value) => ({ Value })),
    },
  });

  return providerOfSets({
    what: WHAT,
    get: async (name, type) => {
      const where = {
        HostedZoneId: await zoneIdOf(name),
        StartRecordName: `${name}.`,
        StartRecordType: type,
      };
      const answer = await asked(
        client.send(new aws.ListResourceRecordSetsCommand({ ...where, MaxItems: 1 })),
      );
      const [found] = answer.ResourceRecordSets ?? [];
      if (found?.Type !== type || withoutDot(found.Name ?? '').toLowerCase() !== name.toLowerCase())
        return undefined;
      const texts = (found.ResourceRecords ?? []).flatMap(({ Value }) =>
        Value === undefined ? [] : [Value],
      );
      return { ttl: found.TTL ?? 0, texts };
    },
    replace: async (name, type, before, after) => {
      // Deleting wants the very set that is there, so that nobody else's change is lost; both are one transaction.
      const changes = [
        ...(before === undefined ? [] : [change('DELETE', name, type, before)]),
        ...(after === undefined ? [] : [change('CREATE', name, type, after)]),
      ];
      const request = { HostedZoneId: await zoneIdOf(name), ChangeBatch: { Changes: changes } };
      let info: { Id?: string | undefined; Status?: string | undefined } | undefined;
      try {
        info = (await client.send(new aws.ChangeResourceRecordSetsCommand(request))).ChangeInfo;
      } catch (error) {
        const { name: code } = error as Error;
        if (code === 'InvalidChangeBatch' || code === 'PriorRequestNotComplete') return false;
        return await asked(Promise.reject(error as Error));
      }
      const until = performance.now() + SYNC_MS;
      while (info?.Status !== 'INSYNC' && info?.Id !== undefined && performance.now() < until) {
        await sleep(POLL_MS);
        info = (await asked(client.send(new aws.GetChangeCommand({ Id: info.Id })))).ChangeInfo;
      }
      return true;
    },
  });
}

function withoutDot(name: string): string {
  return name.replace(/\.$/, '');
}
