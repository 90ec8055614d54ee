import { createHash } from 'node:crypto';
import { closeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import { isThere, makeOwnDirectory, openOwnFile } from '@dstack-cloud/files';
import { WatcherError } from '../errors.ts';
import { type JournalEntry, journalEntry, type WatchState, watchState } from './watch-state.ts';

/** Of the format of state.json. */
const VERSION = 1;
const MAX_STATE_BYTES = 32 * 2 ** 20;
export const MAX_JOURNAL_BYTES: number = 128 * 2 ** 20;
const NO_JOURNAL = { bytes: 0, entries: 0, hash: createHash('sha256').digest('hex') };

/** Whose state it is. */
type Identity = { readonly kms: string; readonly fromBlock: number };

/**
 * What the watcher knows, on disk: `state.json`, replaced as a whole, and `journal.jsonl`, which only grows. The state
 * says how much of the journal counts, and its hash; what a kill left behind that is cut off, what is missing is an error.
 */
export class StateStore {
  readonly #folder: string;
  #state: WatchState;
  #entries: JournalEntry[];
  #turn: Promise<void> = Promise.resolve();

  protected constructor(folder: string, state: WatchState, entries: JournalEntry[]) {
    this.#folder = folder;
    this.#state = state;
    this.#entries = entries;
  }

  get state(): WatchState {
    return this.#state;
  }

  get entries(): readonly JournalEntry[] {
    return this.#entries;
  }

  /** @throws WatcherError `state-damaged`, `state-of-another`; FilesError `not-ours` */
  static async open(folder: string, identity: Identity): Promise<StateStore> {
    makeOwnDirectory(folder);
    const path = join(folder, 'state.json');
    const text = await readText(path);
    const journal = join(folder, 'journal.jsonl');
    if (text === undefined) {
      if (isThere(journal)) throw damaged(path, 'it is missing, and its journal is there');
      const store = new StateStore(folder, emptyState(identity), []);
      await store.update((state) => state);
      return store;
    }
    const state = parseState(path, text);
    if (state.kms !== identity.kms)
      throw new WatcherError('state-of-another', `${folder} has the state of another KMS`, {
        expected: identity.kms,
        found: state.kms,
        hint: 'Name another folder in state_path',
      });
    if (state.fromBlock !== identity.fromBlock)
      throw new WatcherError('state-of-another', `${folder} was begun at another block`, {
        expected: String(identity.fromBlock),
        found: String(state.fromBlock),
        hint: `Set from_block to ${state.fromBlock}, or name another folder in state_path`,
      });
    return new StateStore(folder, state, await readJournal(journal, state));
  }

  /** Only in memory, for who shows what is there now. */
  static inMemory(identity: Identity): StateStore {
    return new MemoryStore('', emptyState(identity), []);
  }

  /**
   * Keeps a changed state, and what happened on the way to it: both, or after a failure neither. Changes are made one
   * after the other.
   */
  async update(
    change: (state: WatchState) => WatchState,
    entries: readonly JournalEntry[] = [],
  ): Promise<void> {
    const turn = this.#turn.then(() => this.#commit(change(this.#state), entries));
    this.#turn = turn.catch(() => undefined);
    await turn;
  }

  async #commit(next: WatchState, entries: readonly JournalEntry[]): Promise<void> {
    const lines = entries.map((entry) => `${JSON.stringify(entry)}\n`).join('');
    const before = this.#state.journal;
    const journal =
      lines === ''
        ? before
        : {
            bytes: before.bytes + Buffer.byteLength(lines),
            entries: before.entries + entries.length,
            hash: chained(before.hash, lines),
          };
    const state = { ...next, journal };
    await this.write(state, lines);
    this.#state = state;
    for (const entry of entries) this.#entries.push(entry);
  }

  protected async write(state: WatchState, lines: string): Promise<void> {
    const path = join(this.#folder, 'journal.jsonl');
    if (lines !== '') {
      const { bytes } = this.#state.journal;
      if (state.journal.bytes > MAX_JOURNAL_BYTES)
        throw new WatcherError('state-damaged', `${path} would be larger than ${MAX_JOURNAL_BYTES} bytes`, {
          hint: 'Name a new folder in state_path, with a later from_block',
        });
      closeSync(openOwnFile(path, 'append'));
      const file = await open(path, 'a');
      try {
        const { size } = await file.stat();
        if (size < bytes) throw damaged(path, `it has ${size} bytes of ${bytes}`);
        // What a writing before left that did not count.
        await file.truncate(bytes);
        // Until all is written: one write may take a part only.
        await file.appendFile(lines, 'utf8');
        await file.sync();
      } finally {
        await file.close();
      }
    }
    await writeFileAtomic(join(this.#folder, 'state.json'), `${JSON.stringify(state)}\n`);
  }
}

class MemoryStore extends StateStore {
  protected override async write(): Promise<void> {}
}

function emptyState({ kms, fromBlock }: Identity): WatchState {
  return {
    version: VERSION,
    kms,
    chainId: null,
    fromBlock,
    sources: {},
    checkpoints: [],
    verified: 0,
    orphans: {},
    sequence: 0,
    outbox: [],
    dropped: 0,
    told: {},
    counts: {},
    journal: NO_JOURNAL,
  };
}

function parseState(path: string, text: string): WatchState {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw damaged(path, 'it is no JSON', cause);
  }
  const { version } = Object(value) as { readonly version?: unknown };
  if (typeof version === 'number' && version > VERSION)
    throw new WatcherError('state-of-another', `${path} was written by a newer version of this program`, {
      expected: `version ${VERSION}`,
      found: `version ${version}`,
      hint: 'Install that version again, or name another folder in state_path',
    });
  const parsed = watchState.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw damaged(path, `${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`);
}

async function readJournal(path: string, { journal }: WatchState): Promise<JournalEntry[]> {
  if (journal.bytes === 0) return [];
  // What comes after is of a writing that a kill ended.
  const bytes = (await readBytes(path, MAX_JOURNAL_BYTES))?.subarray(0, journal.bytes) ?? new Uint8Array();
  if (bytes.length < journal.bytes) throw damaged(path, `it has ${bytes.length} bytes of ${journal.bytes}`);
  const lines = decodeText(path, bytes).split('\n').slice(0, -1);
  const entries = lines.map((line, index) => {
    try {
      return journalEntry.parse(JSON.parse(line));
    } catch (cause) {
      throw damaged(path, `line ${index + 1} cannot be read`, cause);
    }
  });
  // Hashes are over what was written at once; the end of each is not known, so lines are chained one by one.
  const hash = lines.reduce((sum, line) => chained(sum, `${line}\n`), NO_JOURNAL.hash);
  if (hash !== journal.hash || entries.length !== journal.entries)
    throw damaged(path, 'it is not what was written');
  return entries;
}

/** The hash of the journal up to a line covers all lines before it. */
function chained(hash: string, lines: string): string {
  return lines
    .split('\n')
    .slice(0, -1)
    .reduce((sum, line) => createHash('sha256').update(sum).update(line).digest('hex'), hash);
}

async function readText(path: string): Promise<string | undefined> {
  const bytes = await readBytes(path, MAX_STATE_BYTES);
  return bytes && decodeText(path, bytes);
}

async function readBytes(path: string, max: number): Promise<Uint8Array | undefined> {
  try {
    return await readFileBounded(path, max, { noFollow: true });
  } catch (cause) {
    if (cause instanceof AppError && cause.code === 'file-missing') return undefined;
    throw cause;
  }
}

function decodeText(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw damaged(path, 'it is no UTF-8', cause);
  }
}

function damaged(path: string, found: string, cause?: unknown): WatcherError {
  return new WatcherError('state-damaged', `${path} is damaged: ${found}`, {
    cause,
    found,
    hint: 'Restore the folder from a backup, or move it away to read the chain from from_block once more',
  });
}
