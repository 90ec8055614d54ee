import { DatabaseSync, type DatabaseSyncInstance } from '@photostructure/sqlite';
import { GatewayError } from '../errors.ts';
import type { Change, Entry, Expectation, StateStore, Write } from './state-store.ts';

/** Of the tables below; another number is a file of another version. */
const SCHEMA_VERSION = 1;
/** Commits that share one write to the disk. */
const MAX_BATCH = 1_000;

type Waiting = {
  readonly expectations: readonly Expectation[];
  readonly writes: readonly Write[];
  readonly resolve: (revision: number | undefined) => void;
  readonly reject: (error: unknown) => void;
};

type Watcher = { readonly prefix: string; readonly onChange: (change: Change) => void };

/**
 * The state in one SQLite file, for one process: whoever opens it holds the lock of its folder. Commits that come together share one
 * transaction and one `fsync`, each with expectations of its own.
 * @param path the file, or `:memory:`
 * @throws GatewayError `state` when the file cannot be used, is damaged or of another version
 */
export function openSqliteStore(path: string): StateStore {
  const database = open(path);
  const read = database.prepare('SELECT revision FROM records WHERE key = ?');
  const put = database.prepare('INSERT OR REPLACE INTO records (key, value, revision) VALUES (?, ?, ?)');
  const remove = database.prepare('DELETE FROM records WHERE key = ?');
  const list = database.prepare(
    'SELECT key, value, revision FROM records WHERE key >= ? AND key < ? ORDER BY key',
  );
  const setRevision = database.prepare('UPDATE counter SET revision = ?');
  let { revision } = database.prepare('SELECT revision FROM counter').get() as { revision: number };
  const watchers = new Set<Watcher>();
  let waiting: Waiting[] = [];

  const apply = ({ expectations, writes }: Waiting): number | undefined => {
    const holds = ({ key, revision: wanted }: Expectation): boolean =>
      ((read.get(key) as { revision: number } | undefined)?.revision ?? 0) === wanted;
    if (!expectations.every(holds)) return undefined;
    const next = revision + 1;
    for (const { key, value } of writes) {
      if (value === undefined) remove.run(key);
      else put.run(key, value, next);
    }
    revision = next;
    return next;
  };

  const flush = (): void => {
    const batch = waiting.slice(0, MAX_BATCH);
    waiting = waiting.slice(MAX_BATCH);
    if (waiting.length > 0) setImmediate(flush);
    const before = revision;
    let results: (number | undefined)[];
    try {
      database.exec('BEGIN IMMEDIATE');
      results = batch.map(apply);
      setRevision.run(revision);
      database.exec('COMMIT');
    } catch (cause) {
      revision = before;
      try {
        database.exec('ROLLBACK');
      } catch {
        // SQLite has rolled back by itself.
      }
      const error = new GatewayError('state', `The state in ${path} cannot be written: ${reason(cause)}`, {
        cause,
      });
      for (const { reject } of batch) reject(error);
      return;
    }
    for (const [index, { writes, resolve }] of batch.entries()) {
      const at = results[index];
      if (at !== undefined) for (const write of writes) tell({ ...write, revision: at });
      resolve(at);
    }
  };

  const tell = (change: Change): void => {
    for (const { prefix, onChange } of watchers) if (change.key.startsWith(prefix)) onChange(change);
  };

  const commit: StateStore['commit'] = (expectations, writes) =>
    new Promise((resolve, reject) => {
      if (waiting.length === 0) setImmediate(flush);
      waiting.push({ expectations, writes, resolve, reject });
    });

  return {
    list: async (prefix) => ({ entries: list.all(prefix, after(prefix)) as unknown as Entry[], revision }),
    commit,
    hold: async (key, value, { replace }) => {
      const at = await commit(replace ? [] : [{ key, revision: 0 }], [{ key, value }]);
      if (at === undefined) return undefined;
      const expectation = { key, revision: at };
      return {
        expectation,
        lost: new AbortController().signal,
        release: async () => void (await commit([expectation], [{ key, value: undefined }])),
      };
    },
    watch: (prefix, since, onChange, onLost) => {
      // Changes are told as they happen and are not kept.
      if (since !== revision) setImmediate(onLost);
      const watcher = { prefix, onChange };
      watchers.add(watcher);
      return () => void watchers.delete(watcher);
    },
    close: async () => {
      if (waiting.length > 0) flush();
      database.close();
    },
  };
}

function open(path: string): DatabaseSyncInstance {
  let database: DatabaseSyncInstance | undefined;
  try {
    database = new DatabaseSync(path);
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
    const { user_version: version } = database.prepare('PRAGMA user_version').get() as {
      user_version: number;
    };
    if (version !== 0 && version !== SCHEMA_VERSION) throw new Error(`it is of version ${version}`);
    database.exec(`BEGIN IMMEDIATE;
      CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS counter (revision INTEGER NOT NULL);
      INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counter);
      DELETE FROM records WHERE key LIKE 'lock/%' OR key LIKE 'node/%';
      PRAGMA user_version = ${SCHEMA_VERSION};
      COMMIT;`);
    return database;
  } catch (cause) {
    database?.close();
    throw new GatewayError('state', `The state in ${path} cannot be opened: ${reason(cause)}`, { cause });
  }
}

/** The first text that does not begin with the prefix: keys are ASCII. */
function after(prefix: string): string {
  return `${prefix}\u{ffff}`;
}

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
