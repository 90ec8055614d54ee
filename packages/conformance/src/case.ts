/** One thing that an implementation does, and how it is tested from outside. */
export interface ConformanceCase<Target> {
  /** Stable: lists of known deviations name it. */
  readonly id: string;
  /** What it checks, as a sentence about the implementation. */
  readonly checks: string;
  /** Where it is described, such as `keys.md 5.3`: a page of docs/protocol and a section of it. */
  readonly section: string;
  /** Not part of the wire of dstack 0.6: run with `--extensions` only. */
  readonly isExtension?: true;
  /** @throws Deviation when the implementation does otherwise; NotApplicable when it cannot be asked */
  run(target: Target): Promise<void>;
}

/** The implementation does otherwise. */
export class Deviation extends Error {
  override readonly name = 'Deviation';
}

/** The case does not apply to this implementation, or not as it is set up. */
export class NotApplicable extends Error {
  override readonly name = 'NotApplicable';
}

const SHOWN = 200;

function shown(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
  return text.length <= SHOWN ? text : `${text.slice(0, SHOWN)}…`;
}

/** @throws Deviation unless it holds */
export function expectThat(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new Deviation(otherwise);
}

/** @throws Deviation unless both are the same text, number or JSON */
export function expectSame(what: string, found: unknown, expected: unknown): void {
  if (JSON.stringify(found) !== JSON.stringify(expected))
    throw new Deviation(`${what}: expected ${shown(expected)}, found ${shown(found)}`);
}

/** @throws Deviation unless the text matches */
export function expectText(what: string, found: unknown, pattern: RegExp): asserts found is string {
  if (typeof found !== 'string' || !pattern.test(found))
    throw new Deviation(`${what}: expected ${pattern}, found ${shown(found)}`);
}

/** What a reader throws means that the implementation wrote something else. */
export function reading<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (cause instanceof Deviation || cause instanceof NotApplicable) throw cause;
    throw new Deviation(`${what}: ${(cause as Error).message}`, { cause });
  }
}
