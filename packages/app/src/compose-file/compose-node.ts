/** A part of a compose file. What an alias names is shared, never copied. */
export type ComposeNode = ComposeScalar | ComposeList | ComposeMap;

interface Located {
  /** Offset in the text, for messages. */
  readonly at: number;
  /** Characters and nodes that it has when every alias is written out. */
  readonly size: number;
  /** Levels below it, aliases written out. */
  readonly depth: number;
}

/** The text as it is written: `0022`, `1e3` and `0x5F…` are changed by nobody. */
export interface ComposeScalar extends Located {
  readonly kind: 'scalar';
  /** `null` for a member without a value. */
  readonly text: string | null;
  /** Written without quotes: an engine may read a number, a date or a boolean. */
  readonly plain: boolean;
}

export interface ComposeList extends Located {
  readonly kind: 'list';
  readonly items: readonly ComposeNode[];
}

export interface ComposeMap extends Located {
  readonly kind: 'map';
  readonly entries: ReadonlyMap<string, ComposeEntry>;
}

export interface ComposeEntry {
  /** Offset of the key. */
  readonly at: number;
  readonly value: ComposeNode;
}

/** A list of the given nodes. */
export function listNode(items: readonly ComposeNode[], at: number): ComposeList {
  const size = items.reduce((sum, item) => sum + item.size, 1);
  return { kind: 'list', items, at, size, depth: 1 + Math.max(0, ...items.map(({ depth }) => depth)) };
}

/** A mapping of the given entries. */
export function mapNode(entries: ReadonlyMap<string, ComposeEntry>, at: number): ComposeMap {
  let size = 1;
  let depth = 0;
  for (const [key, { value }] of entries) {
    size += key.length + value.size;
    depth = Math.max(depth, value.depth);
  }
  return { kind: 'map', entries, at, size, depth: depth + 1 };
}

/** A text in quotes. */
export function textNode(text: string, at: number): ComposeScalar {
  return { kind: 'scalar', text, plain: false, at, size: 1 + text.length, depth: 1 };
}

/** The value of a member; undefined when it is missing or has no value. */
export function memberOf(node: ComposeMap, name: string): ComposeNode | undefined {
  const value = node.entries.get(name)?.value;
  return value?.kind === 'scalar' && value.text === null ? undefined : value;
}
