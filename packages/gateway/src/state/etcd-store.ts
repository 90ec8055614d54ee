import { GatewayError } from '../errors.ts';
import { EtcdClient, type EtcdOptions } from './etcd-client.ts';
import type { Change, Entry, Held, StateStore } from './state-store.ts';

/** All records of a gateway are below it, so that an etcd may have other tenants. */
const ROOT = 'dstack-gateway/';
const PAGE = 1_000;
const LEASE_SECONDS = 15;
const KEEP_ALIVE_MS = 5_000;
const RECONNECT_MS = 500;

type KeyValue = { readonly key: string; readonly value?: string; readonly mod_revision: string };
type Header = { readonly header: { readonly revision: string } };
type Range = Header & { readonly kvs?: readonly KeyValue[]; readonly more?: boolean };
type Watched = {
  readonly result?: {
    readonly created?: boolean;
    readonly canceled?: boolean;
    readonly compact_revision?: string;
    readonly events?: readonly { readonly type?: 'DELETE'; readonly kv: KeyValue }[];
  };
};

/**
 * The state in etcd, for several nodes. What was committed is on a majority of its members; without one nothing is written.
 * Its members see every record: they belong inside the same trust boundary as the gateway.
 */
export function openEtcdStore(options: EtcdOptions): StateStore {
  const client = new EtcdClient(options);
  const watches = new Set<() => void>();
  const leases = new Set<() => Promise<void>>();

  const commit: StateStore['commit'] = async (expectations, writes) => {
    const { header, succeeded } = await client.call<Header & { succeeded?: boolean }>('/kv/txn', {
      compare: expectations.map(({ key, revision }) => ({
        key: named(key),
        target: 'MOD',
        result: 'EQUAL',
        mod_revision: String(revision),
      })),
      success: writes.map(({ key, value }) =>
        value === undefined
          ? { request_delete_range: { key: named(key) } }
          : { request_put: { key: named(key), value: toBase64(value) } },
      ),
    });
    return succeeded === true ? Number(header.revision) : undefined;
  };

  const list: StateStore['list'] = async (prefix) => {
    const entries: Entry[] = [];
    let [from, revision] = [named(prefix), 0];
    for (;;) {
      const page: Range = await client.call<Range>('/kv/range', {
        key: from,
        range_end: after(prefix),
        limit: String(PAGE),
        ...(revision > 0 && { revision: String(revision) }),
      });
      revision ||= Number(page.header.revision);
      const kvs = page.kvs ?? [];
      for (const kv of kvs) entries.push(entryOf(kv));
      if (page.more !== true || kvs.length === 0) return { entries, revision };
      from = Buffer.concat([Buffer.from(kvs.at(-1)!.key, 'base64'), Buffer.alloc(1)]).toString('base64');
    }
  };

  const watch: StateStore['watch'] = (prefix, since, onChange, onLost) => {
    let [last, isOver] = [since, false];
    let cut: () => void = () => undefined;
    let timer: NodeJS.Timeout | undefined;
    const again = (): void => {
      if (!isOver) timer = setTimeout(open, RECONNECT_MS);
    };
    const open = (): void => {
      cut = client.stream(
        '/watch',
        {
          create_request: { key: named(prefix), range_end: after(prefix), start_revision: String(last + 1) },
        },
        { path: '/kv/range', body: { key: named(prefix), limit: '1', keys_only: true } },
        (message) => {
          const { result } = message as Watched;
          if (result === undefined) throw new Error('no watch');
          if (result.compact_revision !== undefined || result.canceled === true) {
            close();
            onLost();
            return;
          }
          for (const { type, kv } of result.events ?? []) {
            const { key, value, revision } = entryOf(kv);
            last = Math.max(last, revision);
            onChange({ key, value: type === 'DELETE' ? undefined : value, revision } satisfies Change);
          }
        },
        // The next member goes on where this one ended.
        again,
      );
    };
    const close = (): void => {
      isOver = true;
      clearTimeout(timer);
      cut();
      watches.delete(close);
    };
    watches.add(close);
    open();
    return close;
  };

  const hold: StateStore['hold'] = async (key, value, { replace }) => {
    const { ID: lease } = await client.call<{ ID: string }>('/lease/grant', { TTL: String(LEASE_SECONDS) });
    const { header, succeeded } = await client.call<Header & { succeeded?: boolean }>('/kv/txn', {
      compare: replace ? [] : [{ key: named(key), target: 'MOD', result: 'EQUAL', mod_revision: '0' }],
      success: [{ request_put: { key: named(key), value: toBase64(value), lease } }],
    });
    const lost = new AbortController();
    let aliveAt = performance.now();
    const keep = setInterval(() => {
      const asked = performance.now();
      client.call<{ result?: { TTL?: string } }>('/lease/keepalive', { ID: lease }).then(
        ({ result }) => {
          if (Number(result?.TTL ?? 0) > 0) aliveAt = asked;
          else lost.abort();
        },
        // By our own clock it is over no later than by etcd's.
        () => performance.now() - aliveAt > LEASE_SECONDS * 1000 && lost.abort(),
      );
    }, KEEP_ALIVE_MS);
    const release = async (): Promise<void> => {
      clearInterval(keep);
      leases.delete(release);
      await client.call('/lease/revoke', { ID: lease }).catch(() => undefined);
    };
    leases.add(release);
    if (succeeded !== true) {
      await release();
      return undefined;
    }
    return {
      expectation: { key, revision: Number(header.revision) },
      lost: lost.signal,
      release,
    } satisfies Held;
  };

  return {
    list,
    commit,
    watch,
    hold,
    close: async () => {
      for (const end of watches) end();
      await Promise.all([...leases].map((release) => release()));
      client.close();
    },
  };
}

function named(key: string): string {
  return toBase64(ROOT + key);
}

/** The end of all keys with this prefix. */
function after(prefix: string): string {
  const bytes = Buffer.from(ROOT + prefix, 'utf8');
  bytes[bytes.length - 1]! += 1;
  return bytes.toString('base64');
}

function entryOf({ key, value = '', mod_revision: revision }: KeyValue): Entry {
  const name = Buffer.from(key, 'base64').toString('utf8');
  if (!name.startsWith(ROOT)) throw new GatewayError('state', 'etcd answers with a record of somebody else');
  return {
    key: name.slice(ROOT.length),
    value: Buffer.from(value, 'base64').toString('utf8'),
    revision: Number(revision),
  };
}

function toBase64(text: string): string {
  return Buffer.from(text, 'utf8').toString('base64');
}
